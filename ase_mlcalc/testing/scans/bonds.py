"""Bonds of a structure, stretched and compressed one at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.neighbors import Pairs, find_pairs
from ase_mlcalc.potential import Derived
from ase_mlcalc.testing.outcome import NotApplicable
from ase_mlcalc.testing.scans.defects import (
    Defect,
    Kind,
    Measures,
    Verdict,
    Way,
    judge,
    plain,
    smoothness,
    worst,
)
from ase_mlcalc.testing.scans.path import Curve, Noise, Path, noise_of, trace
from ase_mlcalc.testing.scans.shape import Fall

Array = NDArray[np.float64]

BONDED = 1.25
"""Atoms nearer than this times the sum of their covalent radii are bonded."""
NEARLY_BONDED = 1.6
"""On stretching, atoms that are not bonded stay farther apart than this times the sum of their covalent radii."""
CONTACT_A = 6.0
"""An atom without bonds is scanned against its nearest neighbours within this distance."""
SHORTEST, LONGEST = 0.6, 1.6
"""Of the length in the structure, up to which a bond is compressed and stretched."""
STEP_A, STEP_OF_LENGTH = 0.04, 0.015
"""Steps are at most so large: Å, and a fraction of the length."""
MOST_BONDS = 8
"""Bonds of a scan, shared out over the pairs of elements."""
SEEN_A = 5.0
"""Bonds with the same distances to all atoms within this are equivalent, and one of them is enough."""


class Bond(NamedTuple):
    """Two atoms that are bonded, perhaps through periodic boundaries."""

    first: int
    second: int
    """Indices in the structure that was scanned."""
    shift: tuple[int, int, int]
    """Whole cells from the second atom to the image that is meant."""
    length: float
    """Å, in the structure."""
    name: str
    """Elements and indices, such as O0-H1."""
    kind: str
    """Elements alone, such as H-O."""
    fragments: tuple[int, int] | None
    """How many atoms move rigidly with the first and the second, where the bond alone holds them together; ``None``
    where only the two atoms move."""


class BondCurve(NamedTuple):
    """One bond and what its scan gave."""

    bond: Bond
    distance: Array
    """(K,) Å"""
    energy: Array
    """(K,) eV above the minimum of the curve that belongs to the structure; NaN without an energy."""
    force: Array
    """(K,) eV/Å, positive pushes apart; NaN without forces."""
    minimum_A: float
    """Length at that minimum, Å."""
    verdict: Verdict


class BondScan(NamedTuple):
    """Bonds of a structure, stretched and compressed."""

    curves: list[BondCurve]
    n_bonds: int
    """How many there are; `curves` may be a sample of them."""
    noise: Noise
    """Scatter of energy and force, below which nothing can be seen."""

    @property
    def defects(self) -> list[Defect]:
        """What is wrong, bond by bond."""
        return [defect for curve in self.curves for defect in curve.verdict.defects]

    @property
    def measures(self) -> Measures:
        """The worst of each number over the bonds; `Measures.score_eV` is the score of the structure."""
        return worst([curve.verdict.measures for curve in self.curves])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "n_bonds": self.n_bonds,
            "scanned": [
                {
                    "bond": each.bond.name,
                    "length_A": each.bond.length,
                    "minimum_A": each.minimum_A,
                    "fragments": each.bond.fragments,
                    **plain(each.verdict.measures),
                }
                for each in self.curves
            ],
            "scores": plain(self.measures),
            "defects": [defect.to_dict() for defect in self.defects],
        }


def scan_bonds(calculator: Calculator, atoms: Atoms, *, most: int = MOST_BONDS, seed: int = 0) -> BondScan:
    """Stretch and compress bonds of a structure, and look at energy and force on the way.

    Each bond goes from 0.6 to 1.6 times its length in steps of at most 1.5 % of it.  Where it alone holds two
    fragments together, both move rigidly, so that nothing but the bond changes within a molecule; in rings and
    crystals, which no bond divides, only the two atoms move.  The two sides share the way by their masses, as in a
    vibration.  A scan ends early where another bond is compressed by a quarter, or a new one begins to form: a proton
    that is pulled along a hydrogen bond may well find a second minimum at the other end.

    Parameters
    ----------
    calculator : Calculator
        Of ASE, with energy, forces or both; with forces alone, work takes the place of energy.
    atoms : ase.Atoms
        A reasonable structure, best a relaxed one or a frame of a trajectory.  Small periodic cells are repeated, so
        that atoms do not meet their own images.  Not modified.
    most : int
        Of all bonds, so many are taken, with as many of each pair of elements as there is room for.
    seed : int
        Chooses among bonds of the same elements.

    Raises
    ------
    NotApplicable
        Neither energy nor forces, or no two atoms near each other.
    Exception
        What the calculator raises for the structure itself.  Whatever it refuses on the way is part of the result.
    """
    start = _with_room(calculator, atoms)
    graph = find_bonds(start)
    if not graph:
        raise NotApplicable(f"no two atoms are within {CONTACT_A:g} Å of each other")
    apart = [edge for edge in graph if edge.first != edge.second]
    if not apart:
        raise NotApplicable("all bonds are between an atom and its own images")
    chosen = [_named(edge, start, len(atoms), graph) for edge in sample(apart, start, most, seed)]
    moves = [_moves(start, bond, graph) for bond in chosen]
    paths = [_path(calculator, start, bond, move) for bond, move in zip(chosen, moves, strict=True)]
    first = paths[0](chosen[0].length)
    if first.refusal:
        calculator.get_property("energy" if paths[0].has_energy else "forces", start)  # which raises it
        raise NotApplicable(f"the structure itself: {first.refusal}")
    noise = noise_of(paths[0], 0.93 * chosen[0].length, 1.07 * chosen[0].length)
    curves = [
        _scan(path, bond, _room(start, bond, move, graph), noise)
        for path, bond, move in zip(paths, chosen, moves, strict=True)
    ]
    return BondScan(curves, len(apart), noise)


# ----- which bonds ----------------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """A bond as a line of the bond graph, once and not from both ends."""

    first: int
    second: int
    shift: tuple[int, int, int]
    length: float
    covalent: bool
    """Whether by covalent radii; otherwise a contact of an atom that has no bonds."""


def find_bonds(atoms: Atoms) -> list[Edge]:
    """Bonds by covalent radii, and for atoms without any their nearest neighbours (as in a noble gas)."""
    radii = covalent_radii[atoms.numbers]
    i, j, shifts, lengths = _pairs(atoms, 2 * BONDED * float(radii.max()))
    bonded = lengths < BONDED * (radii[i] + radii[j])
    edges = list(_once(i[bonded], j[bonded], shifts[bonded], lengths[bonded], covalent=True))
    lonely = np.setdiff1d(np.arange(len(atoms)), np.concatenate([i[bonded], j[bonded]]))
    if len(lonely):
        i, j, shifts, lengths = _pairs(atoms, CONTACT_A)
        nearest = np.full(len(atoms), np.inf)
        np.minimum.at(nearest, i, lengths)
        touching = np.isin(i, lonely) & (lengths < 1.1 * nearest[i])
        # from both ends, also where only one of the two has no bonds
        both = np.concatenate([i[touching], j[touching]]), np.concatenate([j[touching], i[touching]])
        there = np.concatenate([shifts[touching], -shifts[touching]])
        edges += _once(*both, there, np.tile(lengths[touching], 2), covalent=False)
    return sorted(edges)


def _pairs(atoms: Atoms, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Array]:
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    return *pairs, np.linalg.norm(pairs.vectors(atoms.positions, atoms.cell.array), axis=1)


def _once(
    i: NDArray[np.int64], j: NDArray[np.int64], shifts: NDArray[np.int64], lengths: Array, *, covalent: bool
) -> list[Edge]:
    found = {}
    for one, other, shift, length in zip(i.tolist(), j.tolist(), map(tuple, shifts.tolist()), lengths, strict=True):
        if (one, shift) < (other, (0, 0, 0)) or one < other:
            found[one, other, shift] = Edge(one, other, shift, float(length), covalent)
    return list(found.values())


def sample(edges: Sequence[Edge], atoms: Atoms, most: int, seed: int) -> list[Edge]:
    """At most so many bonds, taken in turn from each pair of elements, at least one of each; otherwise by chance."""
    surroundings = _surroundings(atoms)
    kinds: dict[str, dict[object, Edge]] = {}
    for k in np.random.default_rng(seed).permutation(len(edges)).tolist():
        edge = edges[k]
        ends = sorted((surroundings[edge.first], surroundings[edge.second]))
        kinds.setdefault(_kind(edge, atoms), {}).setdefault((round(edge.length, 3), *ends), edge)
    chosen: list[Edge] = []
    different = {name: list(kinds[name].values()) for name in sorted(kinds)}
    for turn in range(max(map(len, different.values()))):
        for each in different.values():
            if turn < len(each) and len(chosen) < max(most, len(kinds)):
                chosen.append(each[turn])
    return sorted(chosen, key=lambda edge: (_kind(edge, atoms), edge))


def _surroundings(atoms: Atoms) -> list[bytes]:
    """Of each atom its element and all distances to others within 5 Å, to 1e-3 Å: the same for equivalent atoms."""
    i, j, _, lengths = _pairs(atoms, SEEN_A)
    rounded = np.round(lengths, 3)
    order = np.lexsort((rounded, atoms.numbers[j], i))
    ends = np.searchsorted(i[order], np.arange(len(atoms) + 1))
    table = np.stack([atoms.numbers[j][order], rounded[order]], axis=1)
    return [
        bytes([int(number)]) + table[ends[k] : ends[k + 1]].tobytes() for k, number in enumerate(atoms.numbers.tolist())
    ]


def _kind(edge: Edge, atoms: Atoms) -> str:
    return "-".join(sorted((str(atoms.symbols[edge.first]), str(atoms.symbols[edge.second]))))


def _with_room(calculator: Calculator, atoms: Atoms) -> Atoms:
    """The structure, repeated until it is twice as wide as its longest bond, if the calculator takes more atoms."""
    start = atoms.copy()
    edges = find_bonds(start)
    if not edges or not start.pbc.any() or one_composition(calculator):
        return start
    cell = start.cell.complete()
    heights = cell.volume / np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    needed = 2 * max(edge.length for edge in edges)
    repeat = np.where(start.pbc, np.ceil(needed / heights), 1).astype(int)
    return start.repeat(tuple(repeat.tolist()))


def one_composition(calculator: Calculator) -> bool:
    """Whether a calculator is known to take no other atoms than those that it was made for."""
    potential = calculator.potential if isinstance(calculator, MLCalculator) else None
    members = potential.members if isinstance(potential, Ensemble) else (potential,)
    return any(isinstance(member, Derived) and not member.model.transferable for member in members)


# ----- how they move --------------------------------------------------------------------------------------------------


def _named(edge: Edge, start: Atoms, n_atoms: int, graph: Sequence[Edge]) -> Bond:
    ends = [f"{start.symbols[k]}{k % n_atoms}" for k in (edge.first, edge.second)]
    sides = _fragments(edge, len(start), graph)
    sizes = None if sides is None else (int(sides[0].sum()), int(sides[1].sum()))
    return Bond(edge.first, edge.second, edge.shift, edge.length, "-".join(ends), _kind(edge, start), sizes)


def _fragments(edge: Edge | Bond, n: int, graph: Sequence[Edge]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """(N,) atoms on each side of a bond, if nothing else holds them together."""
    this = (edge.first, edge.second, edge.shift)
    others = [(e.first, e.second) for e in graph if e.covalent and (e.first, e.second, e.shift) != this]
    i, j = np.array(others, dtype=int).reshape(-1, 2).T
    _, label = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)
    if label[edge.first] == label[edge.second]:
        return None
    return label == label[edge.first], label == label[edge.second]


def _moves(start: Atoms, bond: Bond, graph: Sequence[Edge]) -> Array:
    """(N, 3) derivative of the positions by the length of the bond."""
    vector = start.positions[bond.second] + np.array(bond.shift) @ start.cell.array - start.positions[bond.first]
    along = vector / np.linalg.norm(vector)
    sides = _fragments(bond, len(start), graph)
    if sides is None:
        sides = np.arange(len(start)) == bond.first, np.arange(len(start)) == bond.second
    masses = start.get_masses()
    one, other = (float(masses[side].sum()) for side in sides)
    share = other / (one + other)
    return np.outer(sides[1] * (1.0 - share) - sides[0] * share, along)


def _path(calculator: Calculator, start: Atoms, bond: Bond, moves: Array) -> Path:
    def place(distance: float) -> Atoms:
        atoms = start.copy()
        atoms.positions += (distance - bond.length) * moves
        return atoms

    return Path(calculator, place, moves)


class _Room(NamedTuple):
    """How far a bond can go before its atoms meet others."""

    low: float
    high: float
    """Å"""
    met: tuple[bool, bool]
    """Whether others are met at the lower and at the upper end."""


def _room(start: Atoms, bond: Bond, moves: Array, graph: Sequence[Edge]) -> _Room:
    """Up to where no other bond is compressed by a quarter, and no new one forms."""
    low, high = SHORTEST * bond.length, LONGEST * bond.length
    radii = covalent_radii[start.numbers]
    widest = 2 * NEARLY_BONDED * float(radii.max())
    pairs = find_pairs(start.positions, start.cell.array, start.pbc, widest + (LONGEST - 1.0) * bond.length)
    vectors = pairs.vectors(start.positions, start.cell.array)
    relative = moves[pairs.neighbors] - moves[pairs.centers]
    moving = np.abs(relative).max(axis=1) > 1e-12
    pairs = Pairs(*(column[moving] for column in pairs))
    vectors, relative = vectors[moving], relative[moving]
    bonded = {(e.first, e.second, e.shift) for e in graph}
    keys = list(zip(pairs.centers.tolist(), pairs.neighbors.tolist(), map(tuple, pairs.shifts.tolist()), strict=True))
    this = (bond.first, bond.second, bond.shift)
    itself = np.array([key == this or _reversed(key) == this for key in keys], dtype=bool)
    is_bond = np.array([key in bonded or _reversed(key) in bonded for key in keys], dtype=bool)
    lengths = np.linalg.norm(vectors, axis=1)
    sums = radii[pairs.centers] + radii[pairs.neighbors]
    others = ~itself
    ends, met = [], []
    for end, near in ((low, BONDED), (high, NEARLY_BONDED)):
        floor = np.where(is_bond, 0.75 * lengths, np.minimum(near * sums, 0.9 * lengths))[others]
        grid = _grid(bond.length, end)
        moved = vectors[others] + (grid[:, None, None] - bond.length) * relative[others]
        blocked = (np.linalg.norm(moved, axis=2) < floor).any(axis=1)
        met.append(bool(blocked.any()))
        free = np.concatenate([[bond.length], grid])
        ends.append(float(free[int(blocked.argmax())] if blocked.any() else free[-1]))
    return _Room(ends[0], ends[1], (met[0], met[1]))


def _reversed(key: tuple[int, int, tuple[int, ...]]) -> tuple[int, int, tuple[int, ...]]:
    return key[1], key[0], tuple(-s for s in key[2])


def _grid(start: float, end: float) -> Array:
    """Steps from the length of a bond, which is left out, to an end, which is not."""
    step = min(STEP_A, STEP_OF_LENGTH * start)
    count = max(1, int(np.ceil(abs(end - start) / step - 1e-9)))
    return np.linspace(start, end, count + 1)[1:]


# ----- what is wrong --------------------------------------------------------------------------------------------------


def _scan(path: Path, bond: Bond, room: _Room, noise: Noise) -> BondCurve:
    inward = _grid(bond.length, room.low) if room.low < bond.length else np.zeros(0)
    outward = _grid(bond.length, room.high) if room.high > bond.length else np.zeros(0)
    curve = trace(path, inward, np.concatenate([[bond.length], outward]))
    start = int(np.argmin(np.abs(curve.distance - bond.length)))
    way = Way(curve, _minimum(curve, start))
    smooth = smoothness(path, way, noise)
    verdict = judge(bond.name, way, smooth, _bad_falls(way, room))
    energy = way.work if curve.has_energy else curve.energy
    return BondCurve(bond, curve.distance, energy, curve.force, float(curve.distance[way.origin]), verdict)


def _minimum(curve: Curve, start: int) -> int:
    """The bottom of the valley that the structure is in; the structure itself if that runs out of the scan."""
    way = Way(curve, start)
    candidates = [start]
    for outward in (False, True):
        for fall in way.falls(outward=outward)[:1]:
            inside = 0 < fall.bottom < len(curve.distance) - 1
            if way.highest[fall.top] < 0.005 and inside:
                candidates.append(fall.bottom)
    return min(candidates, key=lambda k: way.work[k])


def _bad_falls(way: Way, room: _Room) -> list[tuple[Kind, Fall]]:
    """Falls on compression and on stretching: from its minimum, a bond only goes up."""
    last = len(way.work) - 1
    found: list[tuple[Kind, Fall]] = []
    for outward in (False, True):
        for fall in way.falls(outward=outward):
            to_the_end = fall.bottom == (last if outward else 0)
            refused = way.curve.refused_above if outward else way.curve.refused_below
            if to_the_end and (refused or (room.met[outward] and fall.top == way.origin)):
                continue  # the end is one of the calculator, or the minimum lies where others are in the way
            if to_the_end:
                kind: Kind = "dissociates" if outward else "no_wall"
            else:
                kind = "hole" if way.work[fall.bottom] < 0.0 else "false_minimum"
            found.append((kind, fall))
    return found
