"""Do energies, forces and stress tell of the same surface, with the right signs and in the same units?"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols
from ase.geometry import complete_cell
from numpy.typing import NDArray

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.problems import Labelled, Problem, correlation_of, robust_spread, root_mean_square

LARGE_STRESS_RMS = 0.7
"""eV/Å³ (112 GPa); what stresses in GPa or kbar look like."""
MIN_WORK_PAIRS = 12
WORK_FRAMES = 600
NEAR_ANGSTROM = 1.0
"""Of the same structure: no atom is farther from where it is in the other."""
STILL_ANGSTROM = 0.007
"""Spread of the energy, over the root of the number of atoms and the rms force.  Right labels have 0.04 (molecules at
500 K; it grows with the root of the temperature) to 1.4; water at 300 K with energies in hartree has 0.005."""
STIFF_EV_PER_A2 = (5.0, 200.0)
"""Bonds of H, C, N and O have 20 to 80 where forces follow their lengths; 0.4 to 1.6 with forces in hartree/bohr."""
MIN_BONDS = 30
FOLLOWS = 0.7
"""Correlation from which the stiffness of bonds is believed."""
TELLING = 0.35
"""Correlation from which a sign is believed; right labels of crystals, liquids and molecules have 0.4 to 1."""
STRESS_SIGN = "ASE's stress is positive under tension (VASP's and virials have the other sign)"

MISMATCHES: dict[float, str] = {
    23.06: "energies in kcal/mol with forces in eV/Å",
    1 / 23.06: "energies in eV with forces in kcal/mol/Å",
    1 / 27.21: "energies in hartree with forces in eV/Å",
    27.21: "energies in eV with forces in hartree/Å",
    51.42: "energies in eV with forces in hartree/bohr",
    1.89: "forces per bohr instead of per Å (all in atomic units)",
    1 / 1.89: "positions in bohr with forces per Å",
    96.49: "energies in kJ/mol with forces in eV/Å",
    1 / 96.49: "energies in eV with forces in kJ/mol/Å",
    1000.0: "energies in meV with forces in eV/Å",
}
"""Energy difference over work of the forces, and what makes it so."""


def check_work(data: Labelled) -> Iterator[Problem]:
    r"""Energies and forces must tell of the same surface.

    For two structures that are near each other, :math:`E_2 - E_1 \approx -\tfrac12 (F_1 + F_2) \cdot (r_2 - r_1)`,
    which is exact to second order.  A factor between the sides is a mismatch of units, a minus a wrong sign.
    """
    members = defaultdict(list)
    for k, frame in enumerate(data.frames):
        if frame.labels.energy is not None and frame.labels.forces is not None and len(frame.atoms) > 1:
            atoms = frame.atoms
            key = (atoms.numbers.tobytes(), np.round(atoms.cell.array, 6).tobytes(), atoms.pbc.tobytes())
            members[key].append(k)
    # a run of neighbours in the file where there are too many: they are often near in time
    pairs = [pair for rows in members.values() for pair in _near_pairs([data.frames[k] for k in rows[:WORK_FRAMES]])]
    if len(pairs) < MIN_WORK_PAIRS:
        if members:
            yield Problem(
                "not checked",
                f"whether energies are in the unit of the forces: that takes {MIN_WORK_PAIRS} pairs of structures of "
                f"one cell whose atoms are within {NEAR_ANGSTROM:g} Å of each other, and here are {len(pairs)}",
            )
            yield from _still_energies(data, list(chain(*members.values())))
        return
    # the error grows with the distance cubed
    pairs = sorted(pairs)[: max(2 * MIN_WORK_PAIRS, len(pairs) // 4)]
    difference_eV = np.array([pair.difference for pair in pairs])
    work_eV = np.array([pair.work for pair in pairs])
    correlation = correlation_of(difference_eV, work_eV)
    if abs(correlation) < 0.8:
        yield Problem(
            "not checked",
            "whether energies are in the unit of the forces: the work of the forces between near structures and the "
            f"differences of their energies have a correlation of {correlation:.2f} only, as of structures too far "
            f"apart (median {np.median([pair.distance for pair in pairs]):.2g} Å)",
        )
        yield from _still_energies(data, list(chain(*members.values())))
        return
    slope = float(np.linalg.norm(difference_eV) / np.linalg.norm(work_eV))
    if correlation < 0:
        yield Problem(
            "error",
            f"energies rise along the forces (correlation {correlation:.2f} over {len(pairs)} pairs of near "
            "structures): the forces look like gradients; change their sign",
        )
    elif not 0.62 < slope < 1.6:
        factor = min(MISMATCHES, key=lambda known: abs(np.log(known / slope)))
        likely = f"; {MISMATCHES[factor]}?" if abs(np.log(factor / slope)) < 0.4 else ";"
        yield Problem(
            "error",
            f"energy differences are {slope:.3g} times the work of the forces (correlation {correlation:.2f} over "
            f"{len(pairs)} pairs of near structures), expected 1{likely} bring both to eV and Å",
        )


def _still_energies(data: Labelled, rows: Sequence[int]) -> Iterator[Problem]:
    """Energies that hardly vary where forces say that atoms are far from rest; of less weight than work."""
    known = [k for k in rows if np.isfinite(data.residual[k])]
    if len(known) < 10:
        return
    forces = root_mean_square([_forces(data.frames[k]) for k in known])
    root_n = np.sqrt([len(data.frames[k].atoms) for k in known])
    spread = robust_spread(data.residual[known] * root_n)
    if forces > 0.1 and spread < STILL_ANGSTROM * forces:
        yield Problem(
            "warning",
            f"energies vary by {spread:.2g} eV times the root of the number of atoms, which is little beside forces "
            f"with an rms of {forces:.2g} eV/Å: are they in hartree (x 27.21), or all structures at one energy?",
        )


def _forces(frame: Frame) -> NDArray[np.float64]:
    assert frame.labels.forces is not None
    return frame.labels.forces.numpy()


class _NearPair(NamedTuple):
    """Two structures that are near each other; sorts by distance."""

    distance: float
    """Å, largest displacement of an atom."""
    difference: float
    """eV, E_2 - E_1."""
    work: float
    """eV, minus the mean force times the displacement."""


def _near_pairs(frames: Sequence[Frame]) -> list[_NearPair]:
    """Each structure with the one nearest to it."""
    if len(frames) < 2:
        return []
    flat = np.array([frame.atoms.positions.ravel() for frame in frames])
    flat -= flat.mean(axis=0)
    square = np.einsum("nk,nk->n", flat, flat)
    distance = square[:, None] + square[None, :] - 2 * flat @ flat.T
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    pairs = {(min(k, int(m)), max(k, int(m))) for k, m in enumerate(nearest)}
    result = []
    for k, m in sorted(pairs):
        first, second = frames[k], frames[m]
        step = _displacement(first.atoms, second.atoms)
        length = float(np.linalg.norm(step, axis=1).max())
        if not 1e-6 < length < NEAR_ANGSTROM:
            continue
        assert first.labels.energy is not None
        assert second.labels.energy is not None
        mean_force = 0.5 * (_forces(first) + _forces(second))
        difference = float(second.labels.energy - first.labels.energy)
        result.append(_NearPair(length, difference, -float(np.sum(mean_force * step))))
    return result


def _displacement(first: Atoms, second: Atoms) -> NDArray[np.float64]:
    """(N, 3) Å from the first to the second, each atom by its nearest image."""
    step = second.positions - first.positions
    if not first.pbc.any():
        return step
    box = complete_cell(first.cell.array)
    fractional = step @ np.linalg.inv(box)
    return step - np.where(first.pbc, np.rint(fractional), 0.0) @ box


def check_bonds(data: Labelled) -> Iterator[Problem]:
    """Sign and unit of the forces: bonds longer than their like pull, and of stiff bonds it is known how much."""
    rows = [k for k, frame in enumerate(data.frames) if frame.labels.forces is not None and len(frame.atoms) > 1]
    if not rows:
        return
    found = [data.bonds(k) for k in rows[:: 1 + len(rows) // WORK_FRAMES]]
    species, length, push = (np.concatenate([bonds[field] for bonds in found]) for field in (0, 1, 3))
    correlations, counts, stiffness = [], [], {}
    for kind in np.unique(species, axis=0):
        same = (species == kind).all(axis=1)
        if same.sum() >= MIN_BONDS:
            correlations.append(correlation_of(length[same], push[same]))
            counts.append(int(same.sum()))
            if correlations[-1] < -FOLLOWS and set(kind.tolist()) <= {1, 6, 7, 8}:
                name = "-".join(chemical_symbols[z] for z in kind)
                stiffness[name] = float(np.std(push[same]) / np.std(length[same]))
    if not counts:
        yield Problem("not checked", f"the sign of the forces: that takes {MIN_BONDS} bonds between like elements")
        return
    correlation = float(np.average(correlations, weights=counts))
    if correlation > TELLING:
        yield Problem(
            "error",
            f"forces drive the atoms of long bonds apart and those of short ones together (correlation "
            f"{correlation:.2f} over {sum(counts)} bonds): they look like gradients; change their sign",
        )

    softest, stiffest = STIFF_EV_PER_A2
    wrong = {name: value for name, value in stiffness.items() if not softest < value < stiffest}
    if wrong and len(wrong) == len(stiffness):
        name, value = next(iter(wrong.items()))
        unit = (
            "hartree/bohr (x 51.4) or hartree/Å (x 27.21)" if value < softest else "kcal/mol/Å (x 0.0434) or kJ/mol/nm"
        )
        yield Problem(
            "error",
            f"forces on {name} bonds grow by {value:.2g} eV/Å for each Å that they are stretched, and bonds of H, C, N "
            f"and O have 20 to 80: are forces in {unit}, or lengths not in Å?",
        )


def check_stress(data: Labelled) -> Iterator[Problem]:
    """Size of the stress, and its sign: a compressed solid or liquid pushes back."""
    stress = [frame.labels.stress.numpy() for frame in data.frames if frame.labels.stress is not None]
    if not stress:
        return
    rms = root_mean_square(stress)
    if rms == 0.0:
        yield Problem("error", f"all stresses of {len(stress)} structures are zero; leave missing stress out instead")
        return
    if rms > LARGE_STRESS_RMS:
        yield Problem(
            "warning",
            f"stress components have an rms of {rms:.2f} eV/Å³ ({rms / units.GPa:.0f} GPa); are they in GPa "
            "(x 0.00624) or kbar (x 0.000624), or virials in eV?",
        )
    members = defaultdict(list)
    for k, frame in enumerate(data.frames):
        if np.isfinite(data.pressure[k]) and frame.atoms.pbc.all():
            members[frame.atoms.get_chemical_formula(), frame.group].append(k)
    compared = False
    for (formula, _), rows in members.items():
        density = np.array([len(data.frames[k].atoms) for k in rows]) / data.volume[rows]
        if len(rows) < 8 or np.std(density) < 2e-3 * density.mean():
            continue
        correlation = correlation_of(density, data.pressure[rows])
        compared |= abs(correlation) > TELLING
        if correlation < -TELLING:
            yield Problem(
                "error",
                f"pressure falls with density in {len(rows)} structures of {formula} (correlation {correlation:.2f}): "
                f"the stress sign looks flipped; {STRESS_SIGN}",
            )
    if not compared:
        yield from _stress_of_bonds(data)


def _stress_of_bonds(data: Labelled) -> Iterator[Problem]:
    """In a cell that does not change: the stress is largest along the axis where bonds pull most."""
    rows = [
        k
        for k, frame in enumerate(data.frames)
        if frame.labels.stress is not None and frame.labels.forces is not None and len(frame.atoms) > 1
    ]
    rows = rows[:: 1 + len(rows) // WORK_FRAMES]
    of_bonds, of_labels = np.zeros((len(rows), 3)), np.zeros((len(rows), 3))
    for row, k in enumerate(rows):
        bonds, stress = data.bonds(k), data.frames[k].labels.stress
        assert stress is not None
        of_bonds[row] = -(bonds.push * bonds.length) @ bonds.direction**2 / data.volume[k]
        of_labels[row] = np.diag(stress[0].numpy())
    first, second = (values - values.mean(axis=1, keepdims=True) for values in (of_bonds, of_labels))
    correlation = correlation_of(first.ravel(), second.ravel()) if len(rows) >= 8 else 0.0
    if correlation < -TELLING:
        yield Problem(
            "error",
            f"the stress is lowest along the axis where the forces pull bonds together most (correlation "
            f"{correlation:.2f} over {len(rows)} structures): the stress sign looks flipped, or that of the forces; "
            f"{STRESS_SIGN}",
        )
    elif correlation < TELLING:
        yield Problem(
            "not checked",
            "the sign of the stress: that takes structures of one composition at several densities, or bonds whose "
            f"forces tell it (correlation {correlation:.2f} over {len(rows)} structures)",
        )
