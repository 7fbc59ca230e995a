"""Potentials in the files of RuNNer and n2p2: ``input.nn``, ``scaling.data`` and ``weights.ZZZ.data``.

The formats are described in the documentation of n2p2 (A. Singraber, J. Behler and C. Dellago, J. Chem. Theory Comput.
15, 1827 (2019)) and of RuNNer (J. Behler, Angew. Chem. Int. Ed. 56, 12828 (2017)).  With networks N of scaled symmetry
functions G, the energy is

    E = sum_i [ N(G_i) / conv_energy + mean_energy + atom_energy ]

in the units of the files, bohr and hartree by custom.  Weights and scaling refer to the functions of an element in
sorted order, by kind, cutoff, η, r_s, ζ, λ and then the elements of the neighbours.  ``conv_length`` need not be known:
symmetry functions have no dimension.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import NamedTuple

import torch
from ase import units
from ase.data import atomic_numbers, chemical_symbols
from pydantic import ValidationError
from torch import Tensor

from ase_mlcalc.errors import CheckpointError, ModelError
from ase_mlcalc.files import write_text
from ase_mlcalc.models.behler_parrinello import ACTIVATIONS, BehlerParrinello, BehlerParrinelloConfig, ElementNetwork
from ase_mlcalc.nn.symmetry_functions import (
    CUTOFF_FUNCTIONS,
    N_NEIGHBORS,
    NARROW,
    RADIAL,
    WEIGHTED_NARROW,
    WEIGHTED_RADIAL,
    WIDE,
    SymmetryFunction,
)
from ase_mlcalc.potential import Baseline, Derived, isolated_energies

REPEATED = {
    "atom_energy",
    "symfunction_short",
    "element_symfunction_short",
    "global_symfunction_short",
    "element_hidden_layers_short",
    "element_nodes_short",
    "element_activation_short",
}
"""Keywords that may stand in several lines."""
ONCE = {
    "number_of_elements",
    "elements",
    "cutoff_type",
    "cutoff_alpha",
    "scale_symmetry_functions",
    "scale_symmetry_functions_sigma",
    "center_symmetry_functions",
    "scale_min_short",
    "scale_max_short",
    "global_hidden_layers_short",
    "global_nodes_short",
    "global_activation_short",
    "normalize_nodes",
    "mean_energy",
    "conv_energy",
    "conv_length",
    "nnp_type",
    "nn_type",
    "nnp_gen",
    "nn_type_short",
    "committee_mode",
}
OF_ATOMS = {
    "nnp_type": {"0", "2", "2g", "2g-hdnnp"},
    "nn_type": {"0", "2", "2g", "2g-hdnnp"},
    "nnp_gen": {"2"},
    "nn_type_short": {"1"},
    "committee_mode": {"disabled"},
}
"""Values of these keywords that mean one short-range network for each element, and nothing else."""
OTHER_PHYSICS = re.compile(r"^(use_)?electrostatics?(_nn)?$|^use_(vdw|ewald|fixed_charges|hirshfeld|magnetic|spin|ham)")
"""Keywords that add energies which are not those of short-range networks of atoms."""
WITHOUT_EFFECT = re.compile(
    r"electrostatic|_elec$|charge|ewald|vdw|screen|pair|_ham|hardness|^use_|^write|^read|^print|^analy|^calculate|"
    r"^check|^debug|^detailed|^find|^fit|^fix|^growth|^force|^energy|^short_|^stress|^optmode|^kalman|^gradient|^rmse|"
    r"^weight|^precondition|^nguyen|^selection|^epochs|^random|^test|^update|^memorize|^repeat|^parallel|^jacobian|"
    r"^main_error|^task_batch|^batch|^mix|^shuffle|^save|^restart|^separate|^points|^nblock|^runner|^bond_threshold|"
    r"^cutoff_inner|^noise|^normalize_data|^max|^md_|^enforce|^dynforce|^joint|^levenberg|^conjugate|^steepest|"
    r"^remove|^enable|^environment|^data|^reset|^number_of_|^nn_type|^nnp_|^committee|^total|^ion_|^omp|^prune|"
    r"^silent|^start|^scale_m|^symfunction_(el|corr)|^global_(output|symfunction_el)|^element_symfunction_el|^lambda"
)
"""Keywords that change how a potential is trained, what is printed, or parts that are switched off."""
UNBOUNDED = 1e8
"""Written as the largest value of a symmetry function, so that n2p2 warns of no extrapolation: ranges are not known."""


class _Line(NamedTuple):
    """A keyword of ``input.nn`` with where it stands."""

    path: Path
    number: int
    keyword: str
    words: tuple[str, ...]

    def wrong(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.path}, line {self.number}: {self.keyword}: {problem}")

    def word(self, k: int) -> str:
        if k >= len(self.words):
            raise self.wrong(
                f"{len(self.words)} values, expected more; see the format of input.nn and correct the line"
            )
        return self.words[k]

    def real(self, k: int) -> float:
        try:
            return float(self.word(k).lower().replace("d", "e"))  # Fortran writes 1.0d0
        except ValueError:
            raise self.wrong(f"{self.word(k)!r} is not a number; correct the line") from None

    def integer(self, k: int) -> int:
        value = self.real(k)
        if value != int(value):
            raise self.wrong(f"{self.word(k)!r} is not a whole number; correct the line")
        return int(value)

    def element(self, k: int) -> int:
        if self.word(k) not in atomic_numbers or self.word(k) == "X":
            raise self.wrong(f"{self.word(k)!r} is not an element; write its symbol, such as O")
        return atomic_numbers[self.word(k)]


class _Settings:
    """The lines of ``input.nn`` by keyword."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, list[_Line]] = defaultdict(list)
        for number, text in enumerate(_text(path).splitlines(), start=1):
            keyword, *words = re.split(r"[#!]", text)[0].split() or [""]
            if keyword:
                self._add(_Line(path, number, keyword, tuple(words)))

    def _add(self, line: _Line) -> None:
        word = line.keyword
        if word in OF_ATOMS and line.word(0).lower() not in OF_ATOMS[word]:
            raise line.wrong(
                f"{line.word(0)!r} is a potential of another kind; expected one short-range network for each element "
                f"({' or '.join(sorted(OF_ATOMS[word]))}): evaluate it with the program that made it"
            )
        if word in ONCE and word in self.lines:
            first = self.lines[word][0].number
            raise line.wrong(f"stands in line {first} already; remove one of the two")
        if word in ONCE or word in REPEATED:
            self.lines[word].append(line)
        elif OTHER_PHYSICS.search(word):
            raise line.wrong(
                "adds energies that are not predicted here, where only short-range networks of atoms are known: "
                "evaluate the potential with the program that made it"
            )
        elif not WITHOUT_EFFECT.search(word):
            warnings.warn(
                f"{line.path}, line {line.number}: unknown keyword {word!r} is ignored, as n2p2 does", stacklevel=4
            )

    def has(self, keyword: str) -> bool:
        return keyword in self.lines

    def one(self, keyword: str) -> _Line:
        if keyword not in self.lines:
            raise CheckpointError(f"{self.path}: no line {keyword!r}; it is needed to evaluate the potential: add it")
        return self.lines[keyword][0]

    def all(self, keyword: str) -> list[_Line]:
        return self.lines.get(keyword, [])


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
    settings = _Settings(folder / "input.nn")
    species = _species(settings)
    functions = {z: [f for f in _functions(settings, species) if f.center == z] for z in species}
    for z in species:
        if not functions[z]:
            raise CheckpointError(f"{settings.path}: no symmetry function for {chemical_symbols[z]}; add them")
    hidden, activations = _networks(settings, species)
    shift, scale = _scaling(settings, folder / "scaling.data", species, {z: len(functions[z]) for z in species})
    cutoff_line = settings.one("cutoff_type")
    config = _config(
        settings.path,
        cutoff=max(f.cutoff for z in species for f in functions[z]) * length_unit_A,
        species=species,
        cutoff_function=_cutoff_function(cutoff_line),
        cutoff_alpha=_cutoff_alpha(settings, cutoff_line),
        functions=[_in_units(f, length_unit_A) for z in species for f in functions[z]],
        element_hidden=hidden,
        element_activations=activations,
        input_shift=shift,
        input_scale=scale,
    )
    with torch.random.fork_rng(devices=[]):  # the constructor's random weights are replaced below
        model = BehlerParrinello(config).double()
    for z, network in zip(species, _element_networks(model), strict=True):
        _set_weights(network, folder / f"weights.{z:03d}.data", normalized=settings.has("normalize_nodes"))
    return Derived(model, _baseline(settings, model, energy_unit_eV))


def _config(path: Path, **keys: object) -> BehlerParrinelloConfig:
    try:
        return BehlerParrinelloConfig.model_validate(keys)
    except ValidationError as error:
        reasons = "; ".join(problem["msg"] for problem in error.errors())
        raise CheckpointError(f"{path} describes no potential: {reasons}; correct the file") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror or error}; expected a folder with input.nn, scaling.data and a "
            "weights.ZZZ.data for each element, as RuNNer and n2p2 write them: copy the file there"
        ) from error


def _species(settings: _Settings) -> list[int]:
    line = settings.one("elements")
    species = sorted(line.element(k) for k in range(len(line.words)))
    if settings.has("number_of_elements") and settings.one("number_of_elements").integer(0) != len(species):
        raise settings.one("number_of_elements").wrong(f"line {line.number} names {len(species)} elements; correct one")
    if not species or len(set(species)) != len(species):
        raise line.wrong("expected each element once; correct the line")
    return species


def _cutoff_function(line: _Line) -> str:
    number = line.integer(0)
    if not 0 <= number < len(CUTOFF_FUNCTIONS):
        raise line.wrong(f"unknown type {number}; known are 0 to {len(CUTOFF_FUNCTIONS) - 1}")
    return CUTOFF_FUNCTIONS[number]


def _cutoff_alpha(settings: _Settings, line: _Line) -> float:
    if settings.has("cutoff_alpha"):
        line = settings.one("cutoff_alpha")
        alpha = line.real(0)
    else:
        alpha = line.real(1) if len(line.words) > 1 else 0.0
    if not 0 <= alpha < 1:
        raise line.wrong(f"the inner cutoff is {alpha} of the cutoff; expected at least 0 and less than 1")
    return alpha


def _functions(settings: _Settings, species: Sequence[int]) -> list[SymmetryFunction]:
    """All functions in the units of the file, in the order in which scaling and weights count them."""
    functions = []
    for line in settings.all("symfunction_short"):
        center, kind = line.element(0), _kind(line, 1)
        n = N_NEIGHBORS[kind]
        neighbors = tuple(sorted(line.element(2 + k) for k in range(n)))
        foreign = {center, *neighbors} - set(species)
        if foreign:
            names = ", ".join(chemical_symbols[z] for z in sorted(foreign))
            raise line.wrong(f"{names} is not among the elements of this potential; correct the line")
        functions.append(_function(line, 2 + n, center, kind, neighbors))
    for line in settings.all("element_symfunction_short"):
        functions += _for_all_neighbors(line, 1, [line.element(0)], species)
    for line in settings.all("global_symfunction_short"):
        functions += _for_all_neighbors(line, 0, species, species)
    return sorted(functions, key=_order)


def _order(f: SymmetryFunction) -> tuple[object, ...]:
    return (f.center, f.kind, f.cutoff, f.eta, f.shift, f.zeta, f.lambda_, f.neighbors)


def _for_all_neighbors(
    line: _Line, start: int, centers: Sequence[int], species: Sequence[int]
) -> list[SymmetryFunction]:
    kind = _kind(line, start)
    combinations = list(combinations_with_replacement(species, N_NEIGHBORS[kind]))
    return [_function(line, start + 1, z, kind, neighbors) for z in centers for neighbors in combinations]


def _kind(line: _Line, k: int) -> int:
    kind = line.integer(k)
    if kind not in N_NEIGHBORS:
        family = "a function of compact support" if 20 <= kind <= 29 else "a symmetry function"
        raise line.wrong(
            f"type {kind} is {family} that is not known here; known are {', '.join(map(str, N_NEIGHBORS))}: evaluate "
            "the potential with the program that made it"
        )
    return kind


def _function(line: _Line, start: int, center: int, kind: int, neighbors: tuple[int, ...]) -> SymmetryFunction:
    values = [line.real(k) for k in range(start, len(line.words))]
    eta = shift = lambda_ = zeta = cutoff = 0.0
    # the order of the numbers: η r_s r_c; η λ ζ r_c and maybe r_s; weighted ones η r_s r_c and η r_s λ ζ r_c
    if kind in (RADIAL, WEIGHTED_RADIAL) and len(values) == 3:
        eta, shift, cutoff = values
    elif kind in (NARROW, WIDE) and len(values) in (4, 5):
        eta, lambda_, zeta, cutoff, shift = (*values, 0.0)[:5]
    elif kind == WEIGHTED_NARROW and len(values) == 5:
        eta, shift, lambda_, zeta, cutoff = values
    else:
        raise line.wrong(f"{len(values)} numbers do not fit a function of type {kind}; correct the line")
    if not cutoff > 0:
        raise line.wrong(f"a cutoff of {cutoff}; it has to be positive")
    return SymmetryFunction(center, kind, neighbors, eta, shift, lambda_, zeta, cutoff)


def _in_units(f: SymmetryFunction, length_A: float) -> SymmetryFunction:
    return f._replace(eta=f.eta / length_A**2, shift=f.shift * length_A, cutoff=f.cutoff * length_A)


def _networks(
    settings: _Settings, species: Sequence[int]
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


def _letters(line: _Line, letters: list[str], n: int) -> tuple[str, ...]:
    output = letters[-1] if len(letters) > n else "l"
    unknown = [letter for letter in letters if letter not in ACTIVATIONS]
    if unknown:
        raise line.wrong(f"unknown activation {unknown[0]!r}; known are {' '.join(ACTIVATIONS)}, one for each layer")
    if len(letters) < n:
        raise line.wrong(f"{len(letters)} activations for {n} hidden layers; give one for each")
    if output != "l":
        raise line.wrong(f"the output has activation {output!r}, which n2p2 ignores and RuNNer does not; expected l")
    return tuple(letters[:n])


def _scaling(
    settings: _Settings, path: Path, species: Sequence[int], n_functions: dict[int, int]
) -> tuple[dict[int, tuple[float, ...]], dict[int, tuple[float, ...]]]:
    """What is subtracted from each symmetry function, and what it is then multiplied by."""
    by_range, by_sigma = settings.has("scale_symmetry_functions"), settings.has("scale_symmetry_functions_sigma")
    centered = settings.has("center_symmetry_functions")
    if not (by_range or by_sigma or centered):
        return {}, {}
    low = settings.one("scale_min_short").real(0) if settings.has("scale_min_short") else 0.0
    high = settings.one("scale_max_short").real(0) if settings.has("scale_max_short") else 1.0
    by_sigma = by_sigma and not by_range and not centered  # which of several keywords counts, as in n2p2
    statistics = _statistics(path)
    shift: dict[int, tuple[float, ...]] = dict.fromkeys(species, ())
    scale: dict[int, tuple[float, ...]] = dict.fromkeys(species, ())
    for row, z in enumerate(species, start=1):
        columns = [statistics.get((row, k)) for k in range(1, n_functions[z] + 1)]
        found = sum(column is not None for column in columns)
        if found < n_functions[z] or (row, n_functions[z] + 1) in statistics:
            raise CheckpointError(
                f"{path}: {sum(e == row for e, _ in statistics)} lines for element {row} ({chemical_symbols[z]}), "
                f"expected {n_functions[z]}, one for each of its symmetry functions in {settings.path.name}: copy the "
                "scaling.data that belongs to it"
            )
        for k, column in enumerate(columns, start=1):
            assert column is not None
            g_min, g_max, mean, sigma = column
            width = sigma if by_sigma else g_max - g_min
            if (by_range or by_sigma) and not (width > 0 and high > low):
                raise CheckpointError(
                    f"{path}: symmetry function {k} of {chemical_symbols[z]} does not vary (or has no sigma), so that "
                    "it cannot be scaled: copy the scaling.data that belongs to input.nn"
                )
            factor = (high - low) / width if by_range or by_sigma else 1.0
            offset = low / factor if by_range or by_sigma else 0.0
            shift[z] += ((mean if centered or by_sigma else g_min) - offset,)
            scale[z] += (factor,)
    return shift, scale


def _statistics(path: Path) -> dict[tuple[int, int], tuple[float, float, float, float]]:
    """Minimum, maximum, mean and, if given, standard deviation by number of the element and of the function."""
    rows: dict[tuple[int, int], tuple[float, float, float, float]] = {}
    for number, text in enumerate(_text(path).splitlines(), start=1):
        words = text.split("#")[0].lower().replace("d", "e").split()
        if len(words) < 5:
            continue
        try:
            g_min, g_max, mean, sigma = (*map(float, words[2:6]), 0.0)[:4]
            rows[int(words[0]), int(words[1])] = (g_min, g_max, mean, sigma)
        except ValueError:
            raise CheckpointError(
                f"{path}, line {number}: expected two whole numbers, then minimum, maximum and mean: copy it again"
            ) from None
    return rows


def _element_networks(model: BehlerParrinello) -> list[ElementNetwork]:
    return [network for network in model.networks if isinstance(network, ElementNetwork)]


def _set_weights(network: ElementNetwork, path: Path, *, normalized: bool) -> None:
    """Fill in the weights of a file: layer by layer, all that leave a unit together, then the biases of the layer."""
    lines = [text.split("#")[0].split() for text in _text(path).splitlines()]
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


def _baseline(settings: _Settings, model: BehlerParrinello, energy_eV: float) -> Baseline:
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
    functions = [_in_units(f, 1 / units.Bohr) for f in config.functions_in_use]
    scaling = ["# element, function, minimum, maximum, mean, sigma"]
    for row, (z, network) in enumerate(zip(config.species, _element_networks(model), strict=True), start=1):
        own = [f for f in functions if f.center == z]
        order = sorted(range(len(own)), key=lambda k: _order(own[k]))
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
