"""Physics that right labels obey and wrong units, signs or mix-ups break.

Each check takes the whole data set and yields `Problem`s; none needs a model.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_mlcalc.data.definitions import check_definitions
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.geometry import closest_contact, fingerprint, is_isolated_atom
from ase_mlcalc.data.levels import in_words, levels
from ase_mlcalc.data.mechanics_checks import check_bonds, check_stress, check_work
from ase_mlcalc.data.problems import Labelled, Problem, named, robust_spread, root_mean_square
from ase_mlcalc.errors import StructureError
from ase_mlcalc.graph import OVERLAP_ANGSTROM
from ase_mlcalc.neighbors import find_pairs

CLOSE_ANGSTROM = 0.3
"""No two nuclei of a bound or thermal structure come this near (H2 is 0.74 Å long)."""
LARGE_FORCE_RMS = 8.0
"""eV/Å; thermal structures have 0.3 to 4, and 7 to 60 if the unit is kcal/mol/Å."""
OUTLIER_SIGMAS = 12.0


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


def _at_rest_by_symmetry(atoms: Atoms) -> bool:
    """Whether a vector that turns with the surroundings of an atom, as its force does, vanishes for each atom."""
    cell = atoms.cell.array
    pairs = find_pairs(atoms.positions, cell, atoms.pbc, 6.0)
    vectors = pairs.vectors(atoms.positions, cell)
    weight = np.exp(-np.einsum("pc,pc->p", vectors, vectors) / 1.5**2)
    pull = np.zeros((len(atoms), 3))
    np.add.at(pull, pairs.centers, weight[:, None] * vectors)
    return bool(np.abs(pull).max() < 1e-3)


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
    check_definitions,
    check_species_energies,
    check_energy_unit,
    check_forces,
    check_bonds,
    check_work,
    check_stress,
    check_duplicates,
    check_outliers,
)
