"""Physics that right labels obey and wrong units, signs or mix-ups break.

Each check takes the whole data set and yields `Problem`s; none needs a model.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.geometry import complete_cell
from numpy.typing import NDArray

from ase_mlcalc.data.baseline import SpeciesEnergyFit
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.geometry import closest_contact, fingerprint, is_isolated_atom
from ase_mlcalc.data.levels import in_words, levels
from ase_mlcalc.errors import StructureError
from ase_mlcalc.graph import OVERLAP_ANGSTROM
from ase_mlcalc.neighbors import find_pairs

CLOSE_ANGSTROM = 0.3
"""No two nuclei of a bound or thermal structure come this near (H2 is 0.74 Å long)."""
LARGE_FORCE_RMS = 8.0
"""eV/Å; thermal structures have 0.3 to 4, and 7 to 60 if the unit is kcal/mol/Å."""
LARGE_STRESS_RMS = 0.7
"""eV/Å³ (112 GPa); what stresses in GPa or kbar look like."""
OUTLIER_SIGMAS = 12.0
MIN_WORK_PAIRS = 12
WORK_FRAMES = 600
NEAR_ANGSTROM = 1.0
"""Of the same structure: no atom is farther from where it is in the other."""
MIN_BONDS = 30
BOND_STRETCH = 1.25
"""Over the sum of the covalent radii; of no weight where this takes in more than bonds, as in metals."""

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


TELLING = 0.35
"""Correlation from which a sign is believed; right labels of crystals, liquids and molecules have 0.4 to 1."""
STRESS_SIGN = "ASE's stress is positive under tension (VASP's and virials have the other sign)"


class Problem(NamedTuple):
    """Something about a data set that its user should act on (error), look at (warning), or that nobody can tell."""

    severity: Literal["error", "warning", "not checked"]
    message: str


class Labelled(NamedTuple):
    """A data set with what all checks need, so that it is computed once."""

    frames: Sequence[Frame]
    fit: SpeciesEnergyFit
    residual: NDArray[np.float64]
    """(n,) eV per atom after the reference energies; NaN where there is no energy."""
    max_force: NDArray[np.float64]
    """(n,) eV/Å, largest force on an atom; NaN where there are no forces."""
    pressure: NDArray[np.float64]
    """(n,) eV/Å³, minus a third of the trace of the stress; NaN where there is none."""
    volume: NDArray[np.float64]
    """(n,) Å³; NaN where there is none."""
    composition: list[str]
    """Reduced formula of each structure."""


def named(frames: Sequence[Frame], indices: Sequence[int] | NDArray[np.intp], limit: int = 4) -> str:
    """The first few structures of a list, by source."""
    sources = [frames[int(k)].source for k in indices[:limit]]
    return ", ".join(sources) + (", ..." if len(indices) > limit else "")


def check_elements(data: Labelled) -> Iterator[Problem]:
    """Dummy atoms, which no potential is of."""
    dummies = [k for k, frame in enumerate(data.frames) if (frame.atoms.numbers == 0).any()]
    if dummies:
        yield Problem(
            "error",
            f"atoms without an element (X, atomic number 0) in {len(dummies)} structures "
            f"({named(data.frames, dummies)}); name their elements, or remove them",
        )


def check_contacts(data: Labelled) -> Iterator[Problem]:
    """Two atoms on one spot, or nearer than any bond."""
    same: list[int] = []
    close: list[int] = []
    for k, frame in enumerate(data.frames):
        try:
            contact = closest_contact(frame.atoms, CLOSE_ANGSTROM)
        except StructureError as error:
            yield Problem("error", f"{frame.source}: {error}")
            continue
        if contact is not None:
            (same if contact.distance < OVERLAP_ANGSTROM else close).append(k)
    if same:
        yield Problem(
            "error", f"two atoms on one spot in {len(same)} structures ({named(data.frames, same)}); remove one of them"
        )
    if close:
        yield Problem(
            "warning",
            f"atoms nearer than {CLOSE_ANGSTROM} Å in {len(close)} structures ({named(data.frames, close)}); "
            "are positions in Å, and is the cell right?",
        )


def check_species_energies(data: Labelled) -> Iterator[Problem]:
    """Reference energies that the compositions do not determine, or that do not belong to these labels."""
    fit = data.fit
    if fit.species_energy and fit.rank < fit.n_species:
        yield Problem(
            "warning",
            f"compositions determine {fit.rank} of {fit.n_species} reference energies ({fit.source}); energies of "
            "other compositions and of dissociation will mean nothing: add isolated atoms if they matter",
        )
    absolute = "isolated atoms" in fit.source and "least squares" not in fit.source
    mean = float(np.nanmean(data.residual)) if np.isfinite(data.residual).any() else 0.0
    if absolute and not -20.0 < mean < 2.0:
        yield Problem(
            "error",
            f"energies are on average {mean:+.2f} eV/atom from the isolated atoms in the data; expected binding of "
            "0 to -12 eV/atom: these isolated atoms are of another level of theory or unit",
        )


def check_energy_unit(data: Labelled) -> Iterator[Problem]:
    """Total energies below those of all electrons, energies per atom, constant or wildly spread energies."""
    labelled = [k for k, frame in enumerate(data.frames) if frame.labels.energy is not None]
    if not labelled:
        return
    energy = np.array([float(data.frames[k].labels.energy) for k in labelled])  # type: ignore[arg-type]
    bound = np.array([all_electron_energy(data.frames[k].atoms) for k in labelled])
    n_atoms = np.array([len(data.frames[k].atoms) for k in labelled])
    below = np.flatnonzero(energy < 1.15 * bound - 20.0 * n_atoms)
    if len(below):
        worst = below[(energy / bound)[below].argmax()]
        yield Problem(
            "error",
            f"energies of {len(below)} structures lie below the total energy of all their electrons "
            f"({data.frames[labelled[worst]].source}: {energy[worst]:.1f} against {bound[worst]:.1f} eV): they are not "
            "in eV (kcal/mol are 23.06 times larger); convert them",
        )
    residual = data.residual[labelled]
    spread = robust_spread(residual)
    if spread > 5.0:
        yield Problem(
            "warning",
            f"energies spread by {spread:.1f} eV/atom after the reference energies; expected below 1: "
            "another unit than eV, or several levels of theory?",
        )
    if len(energy) >= 3 and np.ptp(energy) == 0.0 and len({fingerprint(data.frames[k].atoms) for k in labelled}) > 1:
        yield Problem("error", f"all {len(energy)} energies are {energy[0]:g} eV although structures differ")
    yield from _per_atom_energies(data, labelled, energy, n_atoms)


def all_electron_energy(atoms: Atoms) -> float:
    r"""eV: total energy of the neutral atoms, below which no energy in eV can lie by more than the binding.

    .. math:: E = -0.768745 Z^{7/3} + Z^2 / 2 - 0.269900 Z^{5/3} \text{ hartree}

    the statistical model with its corrections for strongly bound electrons and for exchange, good to some per cent
    from hydrogen on.  J. Schwinger, Phys. Rev. A 24, 2353 (1981).
    """
    z = atoms.numbers.astype(float)
    return float(np.sum(-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.269900 * z ** (5 / 3))) * units.Hartree


def _per_atom_energies(
    data: Labelled, labelled: list[int], energy: NDArray[np.float64], n_atoms: NDArray[np.int64]
) -> Iterator[Problem]:
    """Energies of one material must grow with the number of atoms."""
    members = defaultdict(list)
    for row, k in enumerate(labelled):
        members[data.composition[k]].append(row)
    for formula, rows in members.items():
        sizes = n_atoms[rows]
        if len(rows) < 4 or sizes.max() < 2 * sizes.min() or sizes.min() < 2:
            continue
        total, per_atom = np.std(energy[rows]), np.std(energy[rows] / sizes)
        if total < 0.3 * per_atom * sizes.mean() and total < 0.2 * np.abs(energy[rows]).mean():
            yield Problem(
                "error",
                f"energies of {formula} are the same for {sizes.min()} and {sizes.max()} atoms: they look like "
                "energies per atom; expected energies of the whole structure",
            )


def check_forces(data: Labelled) -> Iterator[Problem]:
    """Size of the forces, zeros in place of missing forces, and a net force."""
    forces = {
        k: frame.labels.forces.numpy()
        for k, frame in enumerate(data.frames)
        if frame.labels.forces is not None and len(frame.atoms) > 1
    }
    if not forces:
        return
    rms = root_mean_square(forces.values())
    if rms == 0.0:
        yield Problem("error", f"all forces of {len(forces)} structures are zero; leave missing forces out instead")
        return
    if rms > LARGE_FORCE_RMS:
        yield Problem(
            "warning",
            f"force components have an rms of {rms:.1f} eV/Å; thermal structures have 0.3 to 4: "
            "are they in kcal/mol/Å (x 0.0434) or kJ/mol/nm?",
        )
    zero = [k for k, f in forces.items() if not f.any() and not _at_rest_by_symmetry(data.frames[k].atoms)]
    if zero:
        yield Problem(
            "warning",
            f"all forces are exactly zero in {len(zero)} structures ({named(data.frames, zero)}) that no symmetry "
            "keeps at rest; leave missing forces out instead",
        )
    net = {k: float(np.linalg.norm(f.sum(axis=0))) / np.sqrt(len(f)) for k, f in forces.items()}
    drifting = [k for k, size in net.items() if size > max(0.01 * rms, 2e-3)]
    if drifting:
        worst = max(drifting, key=lambda k: net[k])
        size = net[worst] * np.sqrt(len(forces[worst]))
        yield Problem(
            "warning",
            f"forces do not sum to zero in {len(drifting)} of {len(forces)} structures: up to {size:.3g} eV/Å in "
            f"{data.frames[worst].source}; no translation-invariant model can fit that part (external field, fixed "
            "atoms, or a coarse grid?)",
        )


class _Bonds(NamedTuple):
    """Pairs of atoms of a structure that are about as near as their covalent radii."""

    species: NDArray[np.int64]
    """(B, 2) sorted atomic numbers."""
    length: NDArray[np.float64]
    """(B,) Å."""
    direction: NDArray[np.float64]
    """(B, 3) unit vectors from the first atom to the second."""
    push: NDArray[np.float64]
    """(B,) eV/Å by which the forces drive the two apart, half of their difference along the bond."""


def _bonds(frame: Frame) -> _Bonds:
    atoms, forces = frame.atoms, frame.labels.forces
    assert forces is not None
    radius = covalent_radii[atoms.numbers]
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 2 * BOND_STRETCH * radius.max())
    vectors = pairs.vectors(atoms.positions, atoms.cell.array)
    length = np.linalg.norm(vectors, axis=1)
    bonded = (pairs.centers < pairs.neighbors) & (length > OVERLAP_ANGSTROM)
    bonded &= length < BOND_STRETCH * (radius[pairs.centers] + radius[pairs.neighbors])
    first, second = pairs.centers[bonded], pairs.neighbors[bonded]
    direction = vectors[bonded] / length[bonded, None]
    apart = forces.numpy()[second] - forces.numpy()[first]
    return _Bonds(
        np.sort(atoms.numbers[np.stack([first, second], axis=1)], axis=1),
        length[bonded],
        direction,
        0.5 * np.einsum("bx,bx->b", apart, direction),
    )


def check_bonds(data: Labelled) -> Iterator[Problem]:
    """The sign of the forces: bonds that are longer than their like pull, shorter ones push."""
    frames = [frame for frame in data.frames if frame.labels.forces is not None and len(frame.atoms) > 1]
    if not frames:
        return
    found = [_bonds(frame) for frame in frames[:: 1 + len(frames) // WORK_FRAMES]]
    species, length, push = (np.concatenate([bonds[field] for bonds in found]) for field in (0, 1, 3))
    correlations, counts = [], []
    for kind in np.unique(species, axis=0):
        same = (species == kind).all(axis=1)
        if same.sum() >= MIN_BONDS:
            correlations.append(_correlation(length[same], push[same]))
            counts.append(int(same.sum()))
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


def _at_rest_by_symmetry(atoms: Atoms) -> bool:
    """Whether a vector that turns with the surroundings of an atom, as its force does, vanishes for each atom."""
    cell = atoms.cell.array
    pairs = find_pairs(atoms.positions, cell, atoms.pbc, 6.0)
    vectors = pairs.vectors(atoms.positions, cell)
    weight = np.exp(-np.einsum("pc,pc->p", vectors, vectors) / 1.5**2)
    pull = np.zeros((len(atoms), 3))
    np.add.at(pull, pairs.centers, weight[:, None] * vectors)
    return bool(np.abs(pull).max() < 1e-3)


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
        return
    # the error grows with the distance cubed
    pairs = sorted(pairs)[: max(2 * MIN_WORK_PAIRS, len(pairs) // 4)]
    difference_eV = np.array([pair.difference for pair in pairs])
    work_eV = np.array([pair.work for pair in pairs])
    correlation = _correlation(difference_eV, work_eV)
    if abs(correlation) < 0.8:
        yield Problem(
            "not checked",
            "whether energies are in the unit of the forces: the work of the forces between near structures and the "
            f"differences of their energies have a correlation of {correlation:.2f} only, as of structures too far "
            f"apart (median {np.median([pair.distance for pair in pairs]):.2g} Å)",
        )
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
        assert first.labels.forces is not None
        assert second.labels.forces is not None
        assert first.labels.energy is not None
        assert second.labels.energy is not None
        mean_force = 0.5 * (first.labels.forces + second.labels.forces).numpy()
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
        correlation = _correlation(density, data.pressure[rows])
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
        bonds, stress = _bonds(data.frames[k]), data.frames[k].labels.stress
        assert stress is not None
        of_bonds[row] = -(bonds.push * bonds.length) @ bonds.direction**2 / data.volume[k]
        of_labels[row] = np.diag(stress[0].numpy())
    first, second = (values - values.mean(axis=1, keepdims=True) for values in (of_bonds, of_labels))
    correlation = _correlation(first.ravel(), second.ravel()) if len(rows) >= 8 else 0.0
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


def check_duplicates(data: Labelled) -> Iterator[Problem]:
    """The same geometry twice, and whether its labels agree."""
    members = defaultdict(list)
    for k, frame in enumerate(data.frames):
        if not is_isolated_atom(frame.atoms):
            members[fingerprint(frame.atoms)].append(k)
    groups = [indices for indices in members.values() if len(indices) > 1]
    conflicts = [indices for indices in groups if _disagree([data.frames[k] for k in indices])]
    if conflicts:
        pairs = "; ".join(" = ".join(data.frames[k].source for k in indices[:2]) for indices in conflicts[:3])
        yield Problem(
            "error",
            f"{len(conflicts)} geometries appear several times with different labels ({pairs}); "
            "keep one level of theory per data set",
        )
    n_same = sum(len(indices) - 1 for indices in groups)
    if n_same > sum(len(indices) - 1 for indices in conflicts):
        pairs = "; ".join(" = ".join(data.frames[k].source for k in indices[:2]) for indices in groups[:3])
        yield Problem(
            "warning",
            f"{n_same} structures repeat an earlier one ({pairs}); in a random split they leak from training into "
            "validation: remove them",
        )


def _disagree(frames: Sequence[Frame]) -> bool:
    tolerances = {"energy": 1e-3 * len(frames[0].atoms), "forces": 1e-2, "stress": 1e-4}
    for name, tolerance in tolerances.items():
        values = [getattr(frame.labels, name) for frame in frames if getattr(frame.labels, name) is not None]
        if any(float((value - values[0]).abs().max()) > tolerance for value in values[1:]):
            return True
    return False


def check_outliers(data: Labelled) -> Iterator[Problem]:
    """Structures far from all others in energy or force, by their distance from the median."""
    bound = np.array([not is_isolated_atom(frame.atoms) for frame in data.frames])
    for values, floor, what, unit in (
        (data.residual, 0.1, "energy after the reference energies", "eV/atom"),
        (data.max_force, 5.0, "largest force", "eV/Å"),
    ):
        used = np.flatnonzero(bound & np.isfinite(values))
        if len(used) < 10:
            continue
        deviation = np.abs(values[used] - np.median(values[used]))
        limit = max(OUTLIER_SIGMAS * robust_spread(values[used]), floor)
        outside = used[deviation > limit]
        if len(outside):
            worst = outside[np.abs(values[outside] - np.median(values[used])).argsort()[::-1]]
            yield Problem(
                "warning",
                f"{what} of {len(outside)} structures is more than {limit:.3g} {unit} from the median "
                f"{np.median(values[used]):.3g}: {named(data.frames, worst)} (first: {values[worst[0]]:.4g} {unit}); "
                "converged, and of the same level of theory?",
            )


def check_levels(data: Labelled) -> Iterator[Problem]:
    """Labels of several levels of theory in one set."""
    found = levels(data.frames)
    if len(found) > 1:
        yield Problem(
            "warning",
            f"several levels of theory in one data set: {in_words(found)}; train on one of them: training refuses the "
            "mixture unless data.level_of_theory names what is meant",
        )


def check_notes(data: Labelled) -> Iterator[Problem]:
    """What happened while labels were read, gathered over structures."""
    found: dict[str, list[tuple[int, float | None, str]]] = defaultdict(list)
    for k, frame in enumerate(data.frames):
        for note in frame.provenance.notes:
            found[note.text].append((k, note.size, note.unit))
    for text, cases in found.items():
        sizes = [size for _, size, _ in cases if size is not None]
        if sizes and max(sizes) <= 1e-6:
            continue
        by = f" (difference up to {max(sizes):.3g} {cases[0][2]})".replace(" )", ")") if sizes else ""
        where = named(data.frames, [k for k, *_ in cases])
        yield Problem("warning", f"{text}{by} in {len(cases)} structures ({where})")


CHECKS = (
    check_elements,
    check_contacts,
    check_notes,
    check_levels,
    check_species_energies,
    check_energy_unit,
    check_forces,
    check_bonds,
    check_work,
    check_stress,
    check_duplicates,
    check_outliers,
)


def root_mean_square(arrays: Iterable[NDArray[np.float64]]) -> float:
    """Of all components of several arrays together."""
    return float(np.sqrt(np.mean(np.concatenate([array.ravel() for array in arrays]) ** 2)))


def robust_spread(values: NDArray[np.float64]) -> float:
    """Standard deviation estimated from the median absolute deviation; NaN are left out."""
    finite = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(finite - np.median(finite)))) if len(finite) else 0.0


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
