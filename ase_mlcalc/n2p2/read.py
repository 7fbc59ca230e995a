"""From a folder of RuNNer or n2p2 to a potential."""

from collections.abc import Sequence
from pathlib import Path

import torch
from ase import units
from ase.data import chemical_symbols
from pydantic import ValidationError

from ase_mlcalc.errors import CheckpointError
from ase_mlcalc.models.behler_parrinello import ACTIVATIONS, BehlerParrinello, BehlerParrinelloConfig, ElementNetwork
from ase_mlcalc.n2p2.functions import in_units, read_functions, read_scaling
from ase_mlcalc.n2p2.settings import Line, Settings, read_text
from ase_mlcalc.nn.symmetry_functions import CUTOFF_FUNCTIONS
from ase_mlcalc.potential import Baseline, Derived, isolated_energies


def read_n2p2(
    folder: Path | str, *, length_unit_A: float = units.Bohr, energy_unit_eV: float = units.Hartree
) -> Derived:
    """A Behler-Parrinello potential from the folder that RuNNer or n2p2 wrote; total energies are theirs.

    Parameters
    ----------
    folder : path
        With ``input.nn``, ``weights.ZZZ.data`` for each element (ZZZ the atomic number with three digits) and, where
        symmetry functions are scaled, ``scaling.data``.
    length_unit_A, energy_unit_eV : float
        Units of the files; 1 and 1 for a potential that was trained on Å and eV.

    Returns
    -------
    Derived
        In float64; takes ``MLCalculator``, `ase_mlcalc.save` and everything that other potentials do.

    Raises
    ------
    CheckpointError
        A file is missing, cut off or inconsistent, a symmetry function or keyword is of a kind that cannot be
        evaluated here; the message names file and line.
    """
    folder = Path(folder)
    settings = Settings(folder / "input.nn")
    species = _species(settings)
    functions = {z: [f for f in read_functions(settings, species) if f.center == z] for z in species}
    for z in species:
        if not functions[z]:
            raise CheckpointError(f"{settings.path}: no symmetry function for {chemical_symbols[z]}; add them")
    hidden, activations = _networks(settings, species)
    shift, scale = read_scaling(settings, folder / "scaling.data", species, {z: len(functions[z]) for z in species})
    cutoff_line = settings.one("cutoff_type")
    config = _config(
        settings.path,
        cutoff=max(f.cutoff for z in species for f in functions[z]) * length_unit_A,
        species=species,
        cutoff_function=_cutoff_function(cutoff_line),
        cutoff_alpha=_cutoff_alpha(settings, cutoff_line),
        functions=[in_units(f, length_unit_A) for z in species for f in functions[z]],
        element_hidden=hidden,
        element_activations=activations,
        input_shift=shift,
        input_scale=scale,
    )
    with torch.random.fork_rng(devices=[]):  # the constructor's random weights are replaced below
        model = BehlerParrinello(config).double()
    for z, network in zip(species, model.element_networks, strict=True):
        _set_weights(network, folder / f"weights.{z:03d}.data", normalized=settings.has("normalize_nodes"))
    return Derived(model, _baseline(settings, model, energy_unit_eV))


def _config(path: Path, **keys: object) -> BehlerParrinelloConfig:
    try:
        return BehlerParrinelloConfig.model_validate(keys)
    except ValidationError as error:
        reasons = "; ".join(problem["msg"] for problem in error.errors())
        raise CheckpointError(f"{path} describes no potential: {reasons}; correct the file") from error


def _species(settings: Settings) -> list[int]:
    line = settings.one("elements")
    species = sorted(line.element(k) for k in range(len(line.words)))
    if settings.has("number_of_elements") and settings.one("number_of_elements").integer(0) != len(species):
        raise settings.one("number_of_elements").wrong(f"line {line.number} names {len(species)} elements; correct one")
    if not species or len(set(species)) != len(species):
        raise line.wrong("expected each element once; correct the line")
    return species


def _cutoff_function(line: Line) -> str:
    number = line.integer(0)
    if not 0 <= number < len(CUTOFF_FUNCTIONS):
        raise line.wrong(f"unknown type {number}; known are 0 to {len(CUTOFF_FUNCTIONS) - 1}")
    return CUTOFF_FUNCTIONS[number]


def _cutoff_alpha(settings: Settings, line: Line) -> float:
    if settings.has("cutoff_alpha"):
        line = settings.one("cutoff_alpha")
        alpha = line.real(0)
    else:
        alpha = line.real(1) if len(line.words) > 1 else 0.0
    if not 0 <= alpha < 1:
        raise line.wrong(f"the inner cutoff is {alpha} of the cutoff; expected at least 0 and less than 1")
    return alpha


def _networks(
    settings: Settings, species: Sequence[int]
) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[str, ...]]]:
    """Units and letters of the hidden layers of each element."""
    n_global = settings.one("global_hidden_layers_short").integer(0)
    nodes_line, letters_line = settings.one("global_nodes_short"), settings.one("global_activation_short")
    n_layers = dict.fromkeys(species, n_global)
    for line in settings.all("element_hidden_layers_short"):
        n_layers[line.element(0)] = line.integer(1)
    hidden, activations = {}, {}
    for z in species:
        own_nodes = [line for line in settings.all("element_nodes_short") if line.element(0) == z]
        own_letters = [line for line in settings.all("element_activation_short") if line.element(0) == z]
        n = n_layers[z]
        nodes = [nodes_line.integer(k) for k in range(len(nodes_line.words))]
        letters, where = list(letters_line.words), letters_line
        for line in own_nodes:
            values = [line.integer(k) for k in range(1, len(line.words))]
            # one layer in each line (RuNNer: layer and its units), or all layers in one line (n2p2 2.2)
            if len(values) == 2 and 1 <= values[0] <= min(n, len(nodes)):
                nodes[values[0] - 1] = values[1]
            else:
                nodes = values
        for line in own_letters:
            letters, where = list(line.words[1:]), line
        if len(nodes) < n:
            raise nodes_line.wrong(f"{len(nodes)} layers, but {n} hidden layers for {chemical_symbols[z]}; correct one")
        hidden[z], activations[z] = tuple(nodes[:n]), _letters(where, letters, n)
    return hidden, activations


def _letters(line: Line, letters: list[str], n: int) -> tuple[str, ...]:
    output = letters[-1] if len(letters) > n else "l"
    unknown = [letter for letter in letters if letter not in ACTIVATIONS]
    if unknown:
        raise line.wrong(f"unknown activation {unknown[0]!r}; known are {' '.join(ACTIVATIONS)}, one for each layer")
    if len(letters) < n:
        raise line.wrong(f"{len(letters)} activations for {n} hidden layers; give one for each")
    if output != "l":
        raise line.wrong(f"the output has activation {output!r}, which n2p2 ignores and RuNNer does not; expected l")
    return tuple(letters[:n])


def _set_weights(network: ElementNetwork, path: Path, *, normalized: bool) -> None:
    """Fill in the weights of a file: layer by layer, all that leave a unit together, then the biases of the layer."""
    lines = [text.split("#")[0].split() for text in read_text(path).splitlines()]
    try:
        numbers = [float(words[0].lower().replace("d", "e")) for words in lines if words]
        values = torch.tensor(numbers, dtype=torch.float64)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a number: {error}; copy it again") from error
    layers = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    expected = sum(layer.weight.numel() + layer.bias.numel() for layer in layers)
    if len(values) != expected:
        sizes = "-".join(str(layer.in_features) for layer in layers) + "-1"
        raise CheckpointError(
            f"{path}: {len(values)} weights, expected {expected} for a network of {sizes} units as input.nn describes "
            "it: copy the file that belongs to it"
        )
    if not values.isfinite().all():
        raise CheckpointError(f"{path}: weights that are not finite; copy it again")
    start = 0
    with torch.no_grad():
        for layer in layers:
            n_weights, n_out = layer.weight.numel(), layer.out_features
            share = layer.in_features if normalized else 1
            layer.weight.copy_(values[start : start + n_weights].view(layer.in_features, n_out).T / share)
            layer.bias.copy_(values[start + n_weights : start + n_weights + n_out] / share)
            start += n_weights + n_out


def _baseline(settings: Settings, model: BehlerParrinello, energy_eV: float) -> Baseline:
    """Scale and reference energies with which totals are those of n2p2, and isolated atoms are what it makes them."""
    normalization = [name for name in ("mean_energy", "conv_energy", "conv_length") if settings.has(name)]
    if len(normalization) not in (0, 3):
        raise settings.one(normalization[0]).wrong(
            "mean_energy, conv_energy and conv_length belong together; give all three or none"
        )
    mean = settings.one("mean_energy").real(0) if normalization else 0.0
    conv = settings.one("conv_energy").real(0) if normalization else 1.0
    if not conv > 0:
        raise settings.one("conv_energy").wrong("expected a positive number")
    offsets = {line.element(0): line.real(1) for line in settings.all("atom_energy")}
    with torch.no_grad():
        alone = isolated_energies(model).tolist()
    return Baseline(
        {
            z: (raw / conv + mean + offsets.get(z, 0.0)) * energy_eV
            for z, raw in zip(model.config.species, alone, strict=True)
        },
        energy_scale=energy_eV / conv,
    )
