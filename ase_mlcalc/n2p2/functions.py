"""Symmetry functions as lines of ``input.nn``, their order, and the statistics by which they are scaled."""

from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path

from ase.data import chemical_symbols

from ase_mlcalc.errors import CheckpointError
from ase_mlcalc.n2p2.settings import Line, Settings, read_text
from ase_mlcalc.nn.symmetry_functions import (
    N_NEIGHBORS,
    NARROW,
    RADIAL,
    WEIGHTED_NARROW,
    WEIGHTED_RADIAL,
    WIDE,
    SymmetryFunction,
)


def read_functions(settings: Settings, species: Sequence[int]) -> list[SymmetryFunction]:
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
    return sorted(functions, key=sorting_key)


def sorting_key(f: SymmetryFunction) -> tuple[object, ...]:
    """By what functions are sorted: scaling and weights count them in this order."""
    return (f.center, f.kind, f.cutoff, f.eta, f.shift, f.zeta, f.lambda_, f.neighbors)


def _for_all_neighbors(
    line: Line, start: int, centers: Sequence[int], species: Sequence[int]
) -> list[SymmetryFunction]:
    kind = _kind(line, start)
    combinations = list(combinations_with_replacement(species, N_NEIGHBORS[kind]))
    return [_function(line, start + 1, z, kind, neighbors) for z in centers for neighbors in combinations]


def _kind(line: Line, k: int) -> int:
    kind = line.integer(k)
    if kind not in N_NEIGHBORS:
        family = "a function of compact support" if 20 <= kind <= 29 else "a symmetry function"
        raise line.wrong(
            f"type {kind} is {family} that is not known here; known are {', '.join(map(str, N_NEIGHBORS))}: evaluate "
            "the potential with the program that made it"
        )
    return kind


def _function(line: Line, start: int, center: int, kind: int, neighbors: tuple[int, ...]) -> SymmetryFunction:
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


def in_units(f: SymmetryFunction, length_A: float) -> SymmetryFunction:
    """A function in Å whose numbers are in another unit of length."""
    return f._replace(eta=f.eta / length_A**2, shift=f.shift * length_A, cutoff=f.cutoff * length_A)


def read_scaling(
    settings: Settings, path: Path, species: Sequence[int], n_functions: dict[int, int]
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
    for number, text in enumerate(read_text(path).splitlines(), start=1):
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
