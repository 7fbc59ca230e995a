"""`measure_observables`: what a trajectory shows of a material, each curve with its error.

`compare_observables`: how far that is from a reference trajectory, in numbers.
"""

import math
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy import stats

from ase_mlcalc.analysis.bonds import bond_curves, find_bond_cutoffs
from ase_mlcalc.analysis.compare import NOISE_PERCENT, Distance, as_far, distance, l1, on_one_grid, w1
from ase_mlcalc.analysis.curves import Curve
from ase_mlcalc.analysis.gather import gather
from ase_mlcalc.analysis.motion import PER_CM_PER_FS, Diffusion, MotionCurves, Source, motion_curves
from ase_mlcalc.analysis.species import Species, pair_name
from ase_mlcalc.analysis.structure import count_pairs, structure_curves
from ase_mlcalc.errors import ConfigError

N_BLOCKS = 8
R_MAX_A = 10.0
BINS = 500
"""From zero to `R_MAX_A`: those of MDsim's h(r)."""


@dataclass(frozen=True)
class Observables:
    """What was measured of a trajectory; ``None`` where it cannot be, for a reason among the `notes`.

    Curves go by elements: "H-O" (by atomic number), "H-O-H" with the centre in the middle, "O around H", "O".
    """

    formula: str
    n_atoms: int
    n_frames: int
    interval_fs: float | None
    """Between frames; ``None``: not known, so there is no motion."""
    length_ps: float | None
    temperature_K: float | None
    """From momenta and `degrees_of_freedom`; ``None`` without momenta."""
    degrees_of_freedom: int
    open_directions: int
    """0: fully periodic, with a g(r); 3: a molecule or cluster."""
    n_blocks: int
    """Consecutive stretches whose scatter gives standard errors."""
    rdf: dict[str, Curve] | None
    """g(r) by pair; fully periodic structures only."""
    distances: dict[str, Curve] | None
    """Density of distances by pair; of all other structures."""
    running_coordination: dict[str, Curve]
    """Mean number of neighbours up to a distance, by ordered pair."""
    bond_cutoffs_A: dict[str, float]
    """Where bonds end, by pair: given, or the first minimum of g(r)."""
    coordination: dict[str, Curve]
    """Part of the atoms with 0, 1, 2, ... bonds, by ordered pair."""
    angles: dict[str, Curve]
    """Density of angles between bonds, by triplet."""
    h_of_r: Curve | None
    """Density of all distances up to `R_MAX_A`, periodic images included; ``None`` if there are none."""
    pairs_in_h: float
    """Directed pairs of a frame that h(r) is made of."""
    own_images: dict[str, Curve]
    """The part of g(r), by pair of like atoms, and of h(r), by an empty name, that atoms and their own images make."""
    msd: dict[str, Curve] | None
    """Å² against ps, by element."""
    diffusion: dict[str, Diffusion] | None
    vacf: dict[str, Curve] | None
    """Velocity autocorrelation over its value at zero, by element."""
    vdos: dict[str, Curve] | None
    """Degrees of freedom per 1/cm, by element and for "all"; its integral is the degrees of freedom."""
    velocities_from: Source | None
    """Momenta, or differences of positions."""
    notes: tuple[str, ...]
    """What was left out or thinned, and why, in words."""

    @property
    def pairs(self) -> dict[str, Curve]:
        """g(r), or where there is none the density of distances."""
        return self.rdf if self.rdf is not None else self.distances or {}

    def coordination_means(self) -> dict[str, tuple[float, float | None]]:
        """Mean coordination number and its standard error, by ordered pair."""
        return {name: curve.mean() for name, curve in self.coordination.items()}

    def cutoff_of(self, ordered: str) -> float | None:
        """Where the bonds of an ordered pair as "O around H" end, Å; ``None``: it has none."""
        return self.bond_cutoffs_A.get(pair_name(*ordered.split(" around ")))


class ComparisonRow(NamedTuple):
    """How far one curve, or one coefficient, is from the reference."""

    observable: str
    """Its name in `Observables`."""
    label: str
    """Elements; empty for h(r)."""
    l1: Distance
    """Integral of the absolute difference; of a coefficient its absolute difference."""
    w1: Distance | None
    """Wasserstein distance; ``None`` for what is no distribution."""

    @property
    def significant(self) -> bool | None:
        """A distance is more than chance makes of it; ``None`` where that is not known."""
        told = [each.significant for each in (self.l1, self.w1) if each is not None]
        return None if None in told else any(told)


class Kind(NamedTuple):
    """How curves of one observable are compared."""

    title: str
    distribution: bool
    l1_unit: str


KINDS: Mapping[str, Kind] = {
    "rdf": Kind("g(r)", True, "Å"),
    "distances": Kind("distances", True, ""),
    "coordination": Kind("coordination", True, ""),
    "angles": Kind("angles", True, ""),
    "h_of_r": Kind("h(r)", True, ""),
    "h_of_r_mdsim": Kind("h(r), as MDsim", False, ""),
    "msd": Kind("MSD", False, "Å² ps"),
    "diffusion": Kind("diffusion", False, "cm²/s"),
    "vacf": Kind("VACF", False, "ps"),
    "vdos": Kind("VDOS", True, "modes"),
}
"""By the name in `Observables`, in the order in which they are shown."""


def measure_observables(
    frames: Iterable[Atoms],
    *,
    interval_fs: float | None = None,
    discard_ps: float = 0.0,
    bond_cutoffs_A: Mapping[str, float] | None = None,
    like: Observables | None = None,
    fit_ps: tuple[float, float] | None = None,
    viscosity_mPa_s: float | None = None,
    n_blocks: int = N_BLOCKS,
    progress: bool = False,
) -> Observables:
    """Structure and motion of a trajectory.

    Parameters
    ----------
    frames : iterable of ase.Atoms
        One structure in time: the same atoms in the same order; read once, so a generator will do.  Wrapped or not.
        Times are ``info["time_ps"]``, which runs write.
    interval_fs : float, optional
        Time between frames that do not know theirs.  Without times only structure is measured.
    discard_ps : float
        Left out at the start: equilibration.
    bond_cutoffs_A : mapping of str to float, optional
        By pair, as {"H-O": 1.3}; others are the first minimum of g(r).
    like : Observables, optional
        Measure as these were: the same cutoffs and, as far as the frames allow, the same resolution.  For comparisons.
    fit_ps : (float, float), optional
        Lags between which a line is fitted for diffusion; default: an eighth to a half of a block.
    viscosity_mPa_s : float, optional
        With it, diffusion coefficients are corrected for the periodic images (Yeh and Hummer); cubic cells only.
    n_blocks : int
        Stretches for standard errors.
    progress : bool
        Show a bar if stderr is a terminal.

    Raises
    ------
    DataError
        No frames, or frames of different atoms or boundaries.
    StructureError
        A cell that is not one.
    ConfigError
        Options that do not fit the trajectory.
    """
    if n_blocks < 2:
        raise ConfigError(f"standard errors need at least 2 blocks, got {n_blocks}")
    with _progress(shown=progress) as bar:
        gathered = gather(
            bar.over("reading frames", frames), r_max=R_MAX_A, interval_fs=interval_fs, discard_ps=discard_ps
        )
        species = Species(gathered.numbers)
        samples, pbc = gathered.samples, gathered.pbc
        step = bar.step("counting pairs", len(samples.positions))
        counts = count_pairs(samples, pbc, species, r_max=R_MAX_A, n_bins=BINS, n_blocks=n_blocks, advance=step)
        structure = structure_curves(counts)
        pairs = structure.rdf if structure.rdf is not None else structure.distances or {}
        cutoffs = find_bond_cutoffs(pairs, open_structure=structure.rdf is None) if like is None else {}
        cutoffs |= like.bond_cutoffs_A if like is not None else {}
        cutoffs |= _checked(bond_cutoffs_A or {}, species)
        step = bar.step("angles", len(samples.positions))
        coordination, angles = bond_curves(samples, pbc, species, cutoffs, n_blocks=n_blocks, advance=step)
        motion = MotionCurves(None, None, None, None, None, ())
        if gathered.series is not None:
            step = bar.step("motion", len(species))
            stretch_ps = None if like is None or like.vdos is None else _stretch_ps(like.vdos)
            motion = motion_curves(
                gathered, gathered.series, n_blocks=n_blocks, fit_ps=fit_ps, stretch_ps=stretch_ps,
                viscosity_mPa_s=viscosity_mPa_s, advance=step,
            )  # fmt: skip
    series = gathered.series
    return Observables(
        formula=gathered.formula,
        n_atoms=len(gathered.numbers),
        n_frames=gathered.n_frames,
        interval_fs=None if series is None else series.step_fs,
        length_ps=None if series is None else series.step_fs * (len(series.positions) - 1) / 1000.0,
        temperature_K=gathered.temperature_K,
        degrees_of_freedom=gathered.degrees_of_freedom,
        open_directions=int(3 - pbc.sum()),
        n_blocks=n_blocks,
        rdf=structure.rdf,
        distances=structure.distances,
        running_coordination=structure.running_coordination,
        bond_cutoffs_A=cutoffs,
        coordination=coordination,
        angles=angles,
        h_of_r=structure.h_of_r,
        pairs_in_h=structure.n_pairs,
        own_images=structure.own_images,
        msd=motion.msd,
        diffusion=motion.diffusion,
        vacf=motion.vacf,
        vdos=motion.vdos,
        velocities_from=motion.velocities_from,
        notes=(*gathered.notes, *motion.notes),
    )


def compare_observables(mine: Observables, reference: Observables) -> list[ComparisonRow]:
    """Distances of everything that both have, in the order of `KINDS`.

    Measure `mine` with ``like=reference``: coordination and angles with other cutoffs are left out, since their
    difference would be one of definition.
    """
    rows: list[ComparisonRow] = []
    for name, kind in KINDS.items():
        if name == "diffusion":
            rows += _compare_diffusion(mine.diffusion or {}, reference.diffusion or {})
            continue
        own, other = curves_of(mine, name), curves_of(reference, name)
        for label in (label for label in other if label in own):
            if name in ("coordination", "angles") and not _same_bonds(label, mine, reference):
                continue
            one, two = own[label], other[label]
            if name == "coordination":
                one, two = as_far(one, two), as_far(two, one)
            aligned, of_l1 = on_one_grid(one, two), distance(l1, one, two, kind.l1_unit)
            if aligned is None or of_l1 is None:
                continue
            usable = kind.distribution and all(curve.area > 0.0 for curve in aligned)
            of_w1 = distance(w1, one, two, two.x_axis.unit) if usable else None
            rows.append(ComparisonRow(name, label, of_l1, of_w1))
    return rows


def curves_of(observables: Observables, name: str) -> dict[str, Curve]:
    """The curves of one observable by label; empty where it was not measured."""
    if name == "h_of_r":
        return {} if observables.h_of_r is None else {"": observables.h_of_r}
    if name == "h_of_r_mdsim":
        curve = _mdsim(observables)
        return {} if curve is None else {"": curve}
    return getattr(observables, name) or {}


def _mdsim(observables: Observables) -> Curve | None:
    """h(r) as MDsim has it: with the zero distance of every atom from itself, and for open structures only.

    Reference: X. Fu et al., Forces are not enough, TMLR (2023), arXiv:2210.07237.
    """
    h = observables.h_of_r
    if h is None or observables.open_directions < 3:
        return None
    zeros = observables.n_atoms / (observables.n_atoms + observables.pairs_in_h)
    first = np.zeros(len(h.x))
    first[0] = zeros / h.step
    return replace(h, y=(1.0 - zeros) * h.y + first, blocks=(1.0 - zeros) * h.blocks + first)


def _compare_diffusion(mine: Mapping[str, Diffusion], reference: Mapping[str, Diffusion]) -> Iterator[ComparisonRow]:
    for label in (label for label in reference if label in mine):
        one, other = mine[label], reference[label]
        stderr = math.hypot(one.stderr_cm2_per_s, other.stderr_cm2_per_s)
        degrees = one.n_blocks + other.n_blocks - 2
        noise = stderr * float(stats.t.ppf(0.5 + NOISE_PERCENT / 200.0, degrees))
        apart = abs(one.D_cm2_per_s - other.D_cm2_per_s)
        yield ComparisonRow("diffusion", label, Distance(apart, stderr, noise, None, "cm²/s"), None)


def _same_bonds(label: str, mine: Observables, reference: Observables) -> bool:
    """Whether bonds were cut at the same distances: all pairs that a label as "H-O-H" or "O around H" is about."""
    if " around " in label:
        names = [pair_name(*label.split(" around "))]
    else:
        one, centre, other = label.split("-")
        names = [pair_name(one, centre), pair_name(centre, other)]
    return all(
        math.isclose(mine.bond_cutoffs_A.get(name, 0.0), reference.bond_cutoffs_A.get(name, 0.0), abs_tol=1e-6)
        for name in names
    )


def _checked(cutoffs: Mapping[str, float], species: Species) -> dict[str, float]:
    """Given cutoffs under the names that pairs have here."""
    known = [name for name, _, _ in species.pairs()]
    found = {}
    for name, cutoff in cutoffs.items():
        symbols = name.split("-")
        usual = pair_name(*symbols) if len(symbols) == 2 and all(s in atomic_numbers for s in symbols) else name
        if usual not in known or not 0.0 < cutoff <= R_MAX_A:
            raise ConfigError(
                f"bond cutoff {name} = {cutoff!r}: pairs here are {', '.join(known)}, cutoffs are up to {R_MAX_A:g} Å"
            )
        found[usual] = float(cutoff)
    return found


def _stretch_ps(vdos: Mapping[str, Curve]) -> float:
    """How long the stretches were that a density of states was made of."""
    return PER_CM_PER_FS / next(iter(vdos.values())).step / 1000.0


class _Bar:
    """Progress of several passes, one line each; silent if not shown."""

    def __init__(self, bar: Progress | None) -> None:
        self._bar = bar

    def over(self, name: str, frames: Iterable[Atoms]) -> Iterator[Atoms]:
        """The same frames, counted."""
        step = self.step(name, operator.length_hint(frames) or None)
        for frame in frames:
            yield frame
            step()

    def step(self, name: str, total: int | None) -> Callable[[], None]:
        """A function to call when one more of the total is done."""
        if self._bar is None:
            return lambda: None
        task, bar = self._bar.add_task(name, total=total), self._bar
        return lambda: bar.advance(task)


@contextmanager
def _progress(*, shown: bool) -> Iterator[_Bar]:
    if not (shown and sys.stderr.isatty()):
        yield _Bar(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        yield _Bar(bar)
