"""From a potential to a folder that n2p2 and its LAMMPS interface read."""

from collections.abc import Sequence
from pathlib import Path

import torch
from ase import units
from ase.data import chemical_symbols
from torch import Tensor

from ase_mlcalc.errors import ModelError
from ase_mlcalc.files import write_text
from ase_mlcalc.models.behler_parrinello import BehlerParrinello, ElementNetwork
from ase_mlcalc.n2p2.functions import in_units, sorting_key
from ase_mlcalc.nn.symmetry_functions import (
    CUTOFF_FUNCTIONS,
    NARROW,
    RADIAL,
    WEIGHTED_NARROW,
    WEIGHTED_RADIAL,
    WIDE,
    SymmetryFunction,
)
from ase_mlcalc.potential import Derived, isolated_energies

UNBOUNDED = 1e8
"""Written as the largest value of a symmetry function, so that n2p2 warns of no extrapolation: ranges are not known."""


def write_n2p2(potential: Derived, folder: Path | str) -> None:
    """Write a Behler-Parrinello potential as n2p2 and its LAMMPS interface read it, in bohr and hartree.

    Ranges of symmetry functions are written so wide that n2p2 does not warn of extrapolation, because they are not
    known.

    Parameters
    ----------
    potential : Derived
        With a model ``behler_parrinello``.
    folder : path
        Made if it does not exist; ``input.nn``, ``scaling.data`` and ``weights.ZZZ.data`` are replaced.

    Raises
    ------
    ModelError
        The potential is of another model, or its elements have hidden layers that one ``input.nn`` cannot describe.
    """
    model = potential.model
    if not isinstance(model, BehlerParrinello):
        raise ModelError(f"n2p2 has no model like {model.name!r}; only 'behler_parrinello' can be written for it")
    folder = Path(folder)
    config = model.config
    functions = [in_units(f, 1 / units.Bohr) for f in config.functions_in_use]
    scaling = ["# element, function, minimum, maximum, mean, sigma"]
    for row, (z, network) in enumerate(zip(config.species, model.element_networks, strict=True), start=1):
        own = [f for f in functions if f.center == z]
        order = sorted(range(len(own)), key=lambda k: sorting_key(own[k]))
        shift = network.shift.values[order].tolist()
        sigma = (1 / network.scale.values[order]).tolist()
        scaling += [
            f"{row:4d} {k:4d} {0.0:24.16E} {UNBOUNDED:24.16E} {mean:24.16E} {width:24.16E}"
            for k, (mean, width) in enumerate(zip(shift, sigma, strict=True), start=1)
        ]
        write_text(folder / f"weights.{z:03d}.data", _weights_text(network, order, potential.baseline.energy_scale))
    write_text(folder / "scaling.data", "\n".join(scaling) + "\n")
    write_text(folder / "input.nn", _settings_text(potential, model, functions))


def _weights_text(network: ElementNetwork, order: Sequence[int], energy_scale_eV: float) -> str:
    """Weights with inputs in sorted order, and the last layer in hartree."""
    lines: list[str] = []
    for number, layer in enumerate(network.layers):
        assert isinstance(layer, torch.nn.Linear)
        weight, bias = layer.weight.detach().double().cpu(), layer.bias.detach().double().cpu()
        if number == 0:
            weight = weight[:, list(order)]
        if number == len(network.layers) - 1:
            weight, bias = (values * energy_scale_eV / units.Hartree for values in (weight, bias))
        lines += [f"{value:24.16E}" for value in _flat(weight.T)] + [f"{value:24.16E}" for value in _flat(bias)]
    return "\n".join(lines) + "\n"


def _flat(values: Tensor) -> list[float]:
    flat: list[float] = values.reshape(-1).tolist()
    return flat


def _settings_text(potential: Derived, model: BehlerParrinello, functions: Sequence[SymmetryFunction]) -> str:
    config, baseline = model.config, potential.baseline
    layers = {z: (config.hidden_of(z), config.activations_of(z)) for z in config.species}
    first_hidden, first_letters = layers[config.species[0]]
    if len({len(hidden) for hidden, _ in layers.values()}) > 1:
        raise ModelError("n2p2 needs equally many hidden layers for all elements; train with equally many")
    if len({letters for _, letters in layers.values()}) > 1:
        raise ModelError("n2p2 needs the same activations for all elements; train with the same")
    with torch.no_grad():
        alone = isolated_energies(model, model.device).double().tolist()
    symbols = [chemical_symbols[z] for z in config.species]
    lines = [
        f"number_of_elements {len(symbols)}",
        f"elements {' '.join(symbols)}",
        *(
            f"atom_energy {symbol} "
            f"{(baseline.species_energy.get(z, 0.0) - raw * baseline.energy_scale) / units.Hartree:.16E}"
            for symbol, z, raw in zip(symbols, config.species, alone, strict=True)
        ),
        f"cutoff_type {CUTOFF_FUNCTIONS.index(config.cutoff_function)} {config.cutoff_alpha!r}",
        "scale_symmetry_functions_sigma",
        "scale_min_short 0.0",
        "scale_max_short 1.0",
        f"global_hidden_layers_short {len(first_hidden)}",
        f"global_nodes_short {' '.join(map(str, first_hidden))}",
        f"global_activation_short {' '.join(first_letters)} l",
        *(
            f"element_nodes_short {chemical_symbols[z]} {layer} {units_of_layer}"
            for z, (hidden, _) in layers.items()
            if hidden != first_hidden
            for layer, units_of_layer in enumerate(hidden, start=1)
        ),
        *(_function_text(f) for f in functions),
    ]
    return "\n".join(lines) + "\n"


def _function_text(f: SymmetryFunction) -> str:
    values = {
        RADIAL: (f.eta, f.shift, f.cutoff),
        WEIGHTED_RADIAL: (f.eta, f.shift, f.cutoff),
        NARROW: (f.eta, f.lambda_, f.zeta, f.cutoff, f.shift),
        WIDE: (f.eta, f.lambda_, f.zeta, f.cutoff, f.shift),
        WEIGHTED_NARROW: (f.eta, f.shift, f.lambda_, f.zeta, f.cutoff),
    }[f.kind]
    elements = " ".join(chemical_symbols[z] for z in f.neighbors)
    return f"symfunction_short {chemical_symbols[f.center]} {f.kind} {elements} {' '.join(map(repr, values))}"
