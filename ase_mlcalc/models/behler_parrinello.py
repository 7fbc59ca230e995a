r"""Behler-Parrinello networks: symmetry functions of each atom's surroundings, one network for each element.

.. math:: U_i = N_{Z_i}\big( s\, (G_i - g) \big)

with the symmetry functions :math:`G_i` of atom i (see `nn.symmetry_functions`), a shift g and a scale s for each, and
a small feed-forward network N for each element.  What an atom sees is chosen by hand, not learned; there are few
weights, and the model is quick to evaluate.

Published: J. Behler and M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007); symmetry functions: J. Behler, J. Chem.
Phys. 134, 074106 (2011).  Potentials in the files of RuNNer and n2p2 are read by `read_n2p2`, written by `write_n2p2`.
Different here, by default: a set of functions that is the same for all combinations of elements; inputs standardised
by their mean and standard deviation over the training structures.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.functional import softplus

from ase_mlcalc.graph import Graph, from_atoms
from ase_mlcalc.model import Model, ModelConfig, SpeciesIndex
from ase_mlcalc.nn.constant import Constant
from ase_mlcalc.nn.dense import dense
from ase_mlcalc.nn.symmetry_functions import N_NEIGHBORS, NARROW, RADIAL, SymmetryFunction, SymmetryFunctions
from ase_mlcalc.properties import Properties

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "t": torch.tanh,
    "p": lambda x: softplus(x, threshold=35.0),
    "s": torch.sigmoid,
    "S": lambda x: torch.sigmoid(-x),
    "g": lambda x: torch.exp(-0.5 * x * x),
    "c": torch.cos,
    "e": lambda x: torch.exp(-x),
    "r": torch.relu,
    "h": torch.square,
    "l": lambda x: x,
}
"""Activation functions by n2p2's letters: tanh, softplus, logistic, 1 - logistic, Gaussian, cosine, exp(-x),
rectified linear, square, linear."""
ENOUGH_STRUCTURES = 100
"""For the means and standard deviations of symmetry functions."""

Activation = Literal["t", "p", "s", "S", "g", "c", "e", "r", "h", "l"]


class BehlerParrinelloConfig(ModelConfig):
    """Symmetry functions and networks.  Training finds `input_shift` and `input_scale` in its structures."""

    cutoff: float = Field(6.0, gt=0, description="Å; where symmetry functions end that say nothing else")
    n_radial: int = Field(8, ge=2, description="radial functions (G2) for each element of neighbours")
    angular_cutoff: float = Field(5.0, gt=0, description="Å; where angular functions end, at most at the cutoff")
    angular_eta: tuple[float, ...] = Field(
        (0.01, 0.1), description="1/Å²; widths of the angular functions (G4) for each pair of elements"
    )
    angular_zeta: tuple[float, ...] = Field((1.0, 4.0), description="exponents of the angular functions")
    cutoff_function: Literal["hard", "cos", "tanhu", "tanh", "exp", "poly1", "poly2", "poly3", "poly4"] = Field(
        "poly2", description="hard, cos, tanhu, tanh, exp, poly1, poly2, poly3 or poly4, as in n2p2"
    )
    cutoff_alpha: float = Field(0.0, ge=0, lt=1, description="where the cutoff function begins to fall, in cutoffs")
    functions: tuple[SymmetryFunction, ...] = Field(
        (),
        description="symmetry functions in place of all the above, each as [central atomic number, kind 2 | 3 | 9 | 12 "
        "| 13, [atomic numbers of neighbours], eta 1/Å², shift Å, lambda, zeta, cutoff Å]",
    )
    hidden: tuple[int, ...] = Field((30, 30), description="units in each hidden layer")
    activations: tuple[Activation, ...] = Field(("t", "t"), description="n2p2's letter for each hidden layer")
    element_hidden: dict[int, tuple[int, ...]] = Field({}, description="hidden layers of single elements")
    element_activations: dict[int, tuple[Activation, ...]] = Field({}, description="activations of single elements")
    input_shift: dict[int, tuple[float, ...]] = Field(
        {}, description="subtracted from the symmetry functions of each element; training takes their means"
    )
    input_scale: dict[int, tuple[float, ...]] = Field(
        {}, description="multiplies them then; training takes 1 / standard deviation"
    )

    @field_validator("functions")
    @classmethod
    def _well_formed(cls, functions: tuple[SymmetryFunction, ...]) -> tuple[SymmetryFunction, ...]:
        for k, function in enumerate(functions):
            if function.kind not in N_NEIGHBORS:
                raise ValueError(f"function {k} has kind {function.kind}; known are {', '.join(map(str, N_NEIGHBORS))}")
            if len(function.neighbors) != N_NEIGHBORS[function.kind]:
                wanted = N_NEIGHBORS[function.kind]
                raise ValueError(f"function {k} of kind {function.kind} names {wanted} elements of neighbours")
            if not function.cutoff > 0:
                raise ValueError(f"function {k} has a cutoff of {function.cutoff} Å; it has to be positive")
        return tuple(f._replace(neighbors=tuple(sorted(f.neighbors))) for f in functions)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for function in self.functions:
            foreign = {function.center, *function.neighbors} - set(self.species)
            if foreign:
                raise ValueError(f"functions name atomic numbers {sorted(foreign)}, which are not in species")
            if function.cutoff > self.cutoff:
                raise ValueError(f"a function ends at {function.cutoff} Å, beyond the cutoff of {self.cutoff} Å")
        own = {z: [f for f in self.functions_in_use if f.center == z] for z in self.species}
        for z in self.species:
            if not own[z]:
                raise ValueError(f"no symmetry function describes {chemical_symbols[z]} (Z={z})")
            if len(self.hidden_of(z)) != len(self.activations_of(z)) or not self.hidden_of(z):
                raise ValueError(
                    f"{len(self.hidden_of(z))} hidden layers but {len(self.activations_of(z))} activations for Z={z}; "
                    "give one letter for each layer, and at least one layer"
                )
            for name in ("input_shift", "input_scale"):
                values = getattr(self, name).get(z)
                if values is not None and len(values) != len(own[z]):
                    raise ValueError(f"{name} of Z={z} has {len(values)} values for {len(own[z])} functions")
        return self

    @property
    def functions_in_use(self) -> tuple[SymmetryFunction, ...]:
        """The given functions, or else those made from the other keys.

        Made are Gaussians on a radial grid, and narrow angular functions with both signs of λ for each width and
        exponent.
        """
        if self.functions:
            return self.functions
        spacing = (self.cutoff - 1.0) / self.n_radial  # from 0.5 Å, inside which no atoms are, to near the cutoff
        angular_cutoff = min(self.angular_cutoff, self.cutoff)
        made = []
        for center in self.species:
            for k, a in enumerate(self.species):
                for n in range(self.n_radial):
                    shift = 0.5 + (n + 0.5) * spacing
                    made.append(SymmetryFunction(center, RADIAL, (a,), 0.5 / spacing**2, shift, 0.0, 0.0, self.cutoff))
                for b in self.species[k:]:
                    made += [
                        SymmetryFunction(center, NARROW, (a, b), eta, 0.0, lambda_, zeta, angular_cutoff)
                        for eta in self.angular_eta
                        for zeta in self.angular_zeta
                        for lambda_ in (-1.0, 1.0)
                    ]
        return tuple(made)

    def hidden_of(self, z: int) -> tuple[int, ...]:
        """Units in each hidden layer of an element's network."""
        return self.element_hidden.get(z, self.hidden)

    def activations_of(self, z: int) -> tuple[str, ...]:
        """Letters of the hidden layers of an element's network."""
        return self.element_activations.get(z, self.activations)

    def from_structures(self, structures: Sequence[Atoms]) -> dict[str, Any]:
        """Means and inverse standard deviations of all symmetry functions over evenly chosen structures."""
        functions = SymmetryFunctions(self.functions_in_use, self.species, self.cutoff_function, self.cutoff_alpha)
        index = SpeciesIndex(self.species)
        found: list[list[Tensor]] = []
        for atoms in structures[:: -(-len(structures) // ENOUGH_STRUCTURES)]:
            graph = from_atoms(atoms, self.cutoff)
            with torch.no_grad():
                found.append(functions(graph, index(graph.numbers)))
        shift, scale = {}, {}
        for z, values in zip(self.species, zip(*found, strict=True), strict=True):
            all_values = torch.cat(values).numpy()
            mean = all_values.mean(axis=0) if len(all_values) else np.zeros(all_values.shape[1])
            spread = all_values.std(axis=0) if len(all_values) else np.zeros(all_values.shape[1])
            # what hardly varies in the data says nothing and must not become large on other structures
            shift[z] = _rounded(mean)
            scale[z] = _rounded(1 / np.maximum(spread, 1e-2 * spread.max()) if spread.max() > 0 else np.ones_like(mean))
        return {**super().from_structures(structures), "input_shift": shift, "input_scale": scale}


def _rounded(values: Any) -> tuple[float, ...]:
    """Six digits, which a person can read in a configuration file."""
    return tuple(float(f"{value:.6g}") for value in values)


class ElementNetwork(nn.Module):
    """Standardised symmetry functions to the energy of an atom, for atoms of one element."""

    def __init__(self, config: BehlerParrinelloConfig, z: int) -> None:
        super().__init__()
        n_inputs = sum(function.center == z for function in config.functions_in_use)
        self.shift = Constant(torch.tensor(config.input_shift.get(z, (0.0,) * n_inputs), dtype=torch.float64))
        self.scale = Constant(torch.tensor(config.input_scale.get(z, (1.0,) * n_inputs), dtype=torch.float64))
        self.activations = config.activations_of(z)
        sizes = (n_inputs, *config.hidden_of(z), 1)
        self.layers = nn.ModuleList(dense(n_in, n_out) for n_in, n_out in pairwise(sizes))

    def forward(self, g_nf: Tensor) -> Tensor:
        """(n, F) to (n,)."""
        x_nf = (g_nf - self.shift(g_nf)) * self.scale(g_nf)
        *hidden, last = self.layers
        for layer, letter in zip(hidden, self.activations, strict=True):
            x_nf = ACTIVATIONS[letter](layer(x_nf))
        energy_n: Tensor = last(x_nf).squeeze(1)
        return energy_n


class BehlerParrinello(Model, name="behler_parrinello", outputs={"energies"}):
    """Symmetry functions and element-wise networks; see the equations at the top of this file."""

    Config = BehlerParrinelloConfig
    config: BehlerParrinelloConfig

    def __init__(self, config: BehlerParrinelloConfig) -> None:
        super().__init__(config)
        self.smooth = config.cutoff_function != "hard"
        self.species_index = SpeciesIndex(config.species)
        self.symmetry_functions = SymmetryFunctions(
            config.functions_in_use, config.species, config.cutoff_function, config.cutoff_alpha
        )
        self.networks = nn.ModuleList(ElementNetwork(config, z) for z in config.species)

    @property
    def element_networks(self) -> list[ElementNetwork]:
        """The network of each element, in the order of the species."""
        return [network for network in self.networks if isinstance(network, ElementNetwork)]

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies of all structures."""
        species_n = self.species_index(graph.numbers)
        e_n = graph.vectors.new_zeros(graph.n_atoms)
        for row, (network, g_nf) in enumerate(
            zip(self.networks, self.symmetry_functions(graph, species_n), strict=True)
        ):
            atoms = torch.nonzero(species_n == row).squeeze(1)
            e_n = e_n.index_copy(0, atoms, network(g_nf))
        return Properties(energies=e_n)


def __getattr__(name: str) -> Any:
    # reading and writing files is not a model's business, but this is where one looks for it
    if name in ("read_n2p2", "write_n2p2"):
        return getattr(import_module("ase_mlcalc.n2p2"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
