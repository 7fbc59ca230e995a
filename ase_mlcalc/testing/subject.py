"""What the checks of models work on: a model class with a configuration, and reproducible models of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from ase import Atoms

from ase_mlcalc import model as model_module
from ase_mlcalc.graph import Graph, collate, from_atoms
from ase_mlcalc.model import Model, ModelConfig, MoleculeConfig, Solvable
from ase_mlcalc.potential import Baseline, Derived, derive
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import structures
from ase_mlcalc.testing.morse import morse_labels
from ase_mlcalc.testing.outcome import FORCE_FLOOR

SEED = 7


class ModelSubject:
    """A model class under test.

    Parameters
    ----------
    model_class : type[Model]
    config : ModelConfig, optional
        Default: the model's own defaults, with the species of the check structures; a model of one molecule is
        tested on its own atoms in the cells of the check structures, which are not periodic if it refuses that.
    """

    def __init__(self, model_class: type[Model], config: ModelConfig | None = None) -> None:
        self.model_class = model_class
        self.config = config if config is not None else model_class.Config(species=structures.SPECIES)

    @property
    def gives_energy(self) -> bool:
        """Whether forces and stress follow from an energy."""
        return bool(self.outputs & {"energy", "energies"})

    @cached_property
    def outputs(self) -> frozenset[str]:
        """What the model predicts itself in this configuration."""
        return self.fresh().outputs

    @cached_property
    def reads(self) -> frozenset[str]:
        """What the model reads in this configuration."""
        return self.fresh().reads

    def fresh(self, dtype: torch.dtype = torch.float64) -> Model:
        """A model as its class initialises it, from a fixed seed; the global generator is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return self.model_class(self.config).to(dtype)

    def model(self, dtype: torch.dtype = torch.float64) -> Model:
        """A model with random parameters, also where its class starts from zeros, and forces that can be measured.

        As it is evaluated: without dropout.  A model in closed form is solved, on geometries of the molecule.
        """
        model = self.fresh().eval()
        if isinstance(model, Solvable):
            samples = self.solvable_samples
            model.solve(samples[:-6], samples[-6:], _ignored)
            return model.to(dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED + 1)
            _perturb(model, 0.1)
            if self.outputs & {"energy", "energies", "forces", "edge_forces"}:
                for _ in range(8):
                    forces = derive(model, self.graph(self.crystal), Baseline()).forces
                    if forces is None or forces.abs().max() > 10 * FORCE_FLOOR:
                        break
                    _perturb(model, 0.3)
        return model.to(dtype)

    @cached_property
    def solvable_samples(self) -> list[tuple[Graph, Properties]]:
        """Geometries around all check structures, with energies and forces of a Morse potential."""
        rng = np.random.default_rng(11)
        samples = []
        for start in list(self.everything().values()) * 2:
            atoms = start.copy()
            atoms.positions += 0.2 * rng.standard_normal(atoms.positions.shape)
            graph = self.graph(atoms)
            samples.append((graph, morse_labels(graph, self.config.cutoff)))
        return samples

    @cached_property
    def potential(self) -> Derived:
        """The randomised model in float64, without reference energies."""
        return Derived(self.model())

    def fitted(self, atoms: Atoms) -> Atoms:
        """The geometry with elements that the model knows, and with momenta if it reads velocities."""
        if isinstance(self.config, MoleculeConfig):
            atoms = structures.composed(atoms, self.config.numbers)
            if not self.model_class.periodic:
                atoms.set_pbc(False)
        else:
            atoms = structures.fitted(atoms, self.config.species)
        return structures.moving(atoms) if "velocities" in self.reads else atoms

    @cached_property
    def water(self) -> Atoms:
        """A molecule."""
        return self.fitted(structures.water())

    @cached_property
    def ethanol(self) -> Atoms:
        """A molecule of three species."""
        return self.fitted(structures.ethanol())

    @cached_property
    def crystal(self) -> Atoms:
        """Triclinic, rattled."""
        return self.fitted(structures.crystal())

    @cached_property
    def slab(self) -> Atoms:
        """Periodic in two directions."""
        return self.fitted(structures.slab())

    @cached_property
    def lattice(self) -> Atoms:
        """One atom per cell."""
        return self.fitted(structures.one_atom_lattice())

    @cached_property
    def lonely(self) -> Atoms:
        """An isolated atom."""
        return self.fitted(structures.isolated_atom(self.config.species[0]))

    def everything(self) -> dict[str, Atoms]:
        """All check structures by name."""
        return {
            "crystal": self.crystal,
            "water": self.water,
            "isolated atom": self.lonely,
            "slab": self.slab,
            "one-atom lattice": self.lattice,
            "ethanol": self.ethanol,
        }

    def graph(self, *atoms: Atoms) -> Graph:
        """One or several structures as a graph."""
        return collate([from_atoms(each, self.config.cutoff) for each in atoms])

    def evaluate(self, *atoms: Atoms) -> Properties:
        """Properties of one or several structures."""
        return self.potential(self.graph(*atoms))

    def energies_of(self, many: Sequence[Atoms]) -> torch.Tensor:
        """(len(many),) eV, in batches that fit into little memory."""
        batches = [many[k : k + 12] for k in range(0, len(many), 12)]
        energies = [self.evaluate(*batch).energy for batch in batches]
        return torch.cat([energy for energy in energies if energy is not None])

    def with_baseline(self, energy: float) -> Derived:
        """The randomised model with reference energies that differ between species."""
        return Derived(self.model(), Baseline({z: energy - 0.37 * z for z in self.config.species}, energy_scale=0.8))


def _ignored(_: str) -> None:
    """A report that nobody reads."""


def _perturb(model: Model, amount: float) -> None:
    """Random numbers added to all parameters, relative to the size of each; for zeros, `amount` itself."""
    with torch.no_grad():
        for parameter in model.parameters():
            size = float(parameter.square().mean().sqrt()) or 1.0
            parameter.add_(amount * size * torch.randn_like(parameter))


@contextmanager
def temporary_models() -> Iterator[None]:
    """Forget on leaving every model class that was defined inside; for toy models in tests."""
    known = model_module.registered()  # and so imported before, or the package's own would be forgotten, too
    try:
        yield
    finally:
        model_module._REGISTRY.clear()  # noqa: SLF001
        model_module._REGISTRY.update(known)  # noqa: SLF001
