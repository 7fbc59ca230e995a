"""Scans of bonds and dimers: what is built wrong is found, named and located; what is right passes."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.io import write
from typer.testing import CliRunner

from ase_mlcalc import MLCalculator
from ase_mlcalc.cli.verbs import app
from ase_mlcalc.model import lookup
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.testing import ModelSubject, NotApplicable, scan_bonds, scan_dimers, scan_scores
from ase_mlcalc.testing.everything import check_everything
from ase_mlcalc.testing.scans import shape
from ase_mlcalc.testing.scans.bonds import find_bonds
from ase_mlcalc.testing.scans.checks import ScanSubject, check_scans
from ase_mlcalc.testing.scans.defects import REACH_EV
from ase_mlcalc.testing.scans.pictures import scan_plots

DEPTH, STEEPNESS, LENGTH = 5.0, 2.0, 1.13
"""eV, 1/Å, Å of the Morse curve of the tests, which is nearly that of N2."""


def morse(r):
    """Energy and its derivative."""
    x = np.exp(-STEEPNESS * (r - LENGTH))
    return DEPTH * ((1 - x) ** 2 - 1), 2 * DEPTH * STEEPNESS * x * (1 - x)


class Pairs(Calculator):
    """Pair potential between all atoms, nearest images: Morse, and whatever a test adds to energy and derivative."""

    def __init__(self, added=None, given=("energy", "forces")):
        super().__init__()
        self.implemented_properties = list(given)
        self.added = added

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {}
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        for i, j in combinations(range(len(atoms)), 2):
            vector = atoms.get_distance(i, j, mic=bool(atoms.pbc.any()), vector=True)
            r = float(np.linalg.norm(vector))
            u, slope = morse(r)
            if self.added is not None:
                more, steeper = self.added(r)
                u, slope = u + more, slope + steeper
            energy += u
            forces[i] += slope * vector / r
            forces[j] -= slope * vector / r
        results = {"energy": energy, "forces": forces}
        self.results = {name: results[name] for name in self.implemented_properties}


def nitrogen(**box):
    return Atoms("N2", [[0.2, 0.1, 0.3], [0.2, 0.1, 0.3 + LENGTH]], **box)


def gaussian(height, at, width):
    def added(r):
        value = height * np.exp(-0.5 * ((r - at) / width) ** 2)
        return value, -value * (r - at) / width**2

    return added


def serious(scan):
    return {defect.kind for defect in scan.defects if defect.serious}


# ----- a curve that is known ------------------------------------------------------------------------------------------


def test_morse_curve_is_that_of_the_formula():
    scan = scan_bonds(Pairs(), nitrogen())
    (curve,) = scan.curves
    energy, slope = morse(curve.distance)
    np.testing.assert_allclose(curve.energy, energy - energy.min(), atol=1e-12)
    np.testing.assert_allclose(curve.force, -slope, atol=1e-11)
    assert np.ptp(curve.energy) > 10
    assert curve.distance[[0, -1]] == pytest.approx([0.6 * LENGTH, 1.6 * LENGTH])
    assert curve.minimum_A == pytest.approx(LENGTH, abs=1e-12)
    assert curve.bond.fragments == (1, 1)
    assert not scan.defects
    assert scan.measures.score_eV < 1e-4
    assert scan.measures.force_wiggle_eV_per_A < 1e-9


def test_a_structure_beside_its_minimum_finds_it():
    atoms = nitrogen()
    atoms.positions[1, 2] += 0.1
    (curve,) = scan_bonds(Pairs(), atoms).curves
    assert curve.bond.length == pytest.approx(LENGTH + 0.1)
    assert curve.minimum_A == pytest.approx(LENGTH, abs=0.01)
    assert not curve.verdict.defects


def test_a_bond_through_a_boundary_is_the_same_bond():
    atoms = nitrogen(cell=[6, 7, 8], pbc=True)
    atoms.positions[:, 2] += 8 - 0.3 - LENGTH / 2
    atoms.wrap()
    scan = scan_bonds(Pairs(), atoms)
    (curve,), (free,) = scan.curves, scan_bonds(Pairs(), nitrogen()).curves
    assert abs(curve.bond.shift[2]) == 1
    np.testing.assert_allclose(curve.energy, free.energy, atol=1e-9)
    np.testing.assert_allclose(curve.force, free.force, atol=1e-9)


def test_dimer_is_that_of_the_formula():
    (curve,) = scan_dimers(Pairs(), nitrogen()).curves
    energy, slope = morse(curve.distance)
    np.testing.assert_allclose(curve.energy, energy - energy[-1], atol=1e-9)
    np.testing.assert_allclose(curve.force, -slope, atol=1e-8)
    assert curve.minima_A == pytest.approx((LENGTH,), abs=0.02)
    assert curve.distance[0] == pytest.approx(0.3 * 1.42)
    assert curve.distance[-1] > 6.0
    assert not curve.verdict.defects


# ----- what is built wrong --------------------------------------------------------------------------------------------


def step(r):
    return (0.01 if r > 1.2345 else 0.0), 0.0


def corner(r):
    return 0.4 * max(r - 1.2345, 0.0), 0.4 * (r > 1.2345)


def no_wall(r):
    """Below 1.05 Å the curve turns over and falls."""
    return (-150.0 * (1.05 - r) ** 2, 300.0 * (1.05 - r)) if r < 1.05 else (0.0, 0.0)


def pulled_apart(r):
    return (-8.0 * (r - 1.2) ** 2, -16.0 * (r - 1.2)) if r > 1.2 else (0.0, 0.0)


def too_strong(r):
    return 0.0, 0.1 * morse(r)[1]


def undefined(r):
    return (np.nan, np.nan) if 1.2 < r < 1.25 else (0.0, 0.0)


def refused(r):
    if r < 1.05:
        raise ValueError("atoms overlap")
    return 0.0, 0.0


@pytest.mark.parametrize(
    ("added", "kind", "low", "high"),
    [
        (step, "energy_jump", 1.2345, 1.2345),
        (corner, "force_jump", 1.2345, 1.2345),
        (gaussian(-0.35, 1.30, 0.02), "false_minimum", 1.25, 1.30),
        (gaussian(-2.5, 1.03, 0.02), "hole", 1.03, 1.1),
        (no_wall, "no_wall", 0.678, 1.03),
        (pulled_apart, "dissociates", 1.5, 1.808),
        (too_strong, "force_not_derivative", 0.95, 1.4),
        (undefined, "undefined", 1.2, 1.2),
        (refused, "undefined", 1.05, 1.05),
    ],
)
def test_defects_of_a_bond_are_named_and_located(added, kind, low, high):
    scan = scan_bonds(Pairs(added), nitrogen())
    assert serious(scan) == {kind}
    (defect,) = [each for each in scan.defects if each.serious]
    near = 1e-3 if kind.endswith("jump") else 0.06
    assert defect.from_A == pytest.approx(low, abs=near)
    assert defect.to_A == pytest.approx(high, abs=near)
    assert defect.where == "N0-N1"
    assert defect.where in defect.text
    assert f"{defect.from_A:.{3 if defect.from_A == defect.to_A else 2}f}" in defect.text
    assert scan.measures.score_eV > 1e-3 or kind == "undefined"


def test_sizes_are_those_that_were_built_in():
    (jump,) = scan_bonds(Pairs(step), nitrogen()).defects
    assert jump.size == pytest.approx(0.01, abs=1e-6)
    (jump,) = scan_bonds(Pairs(corner), nitrogen()).defects
    assert jump.size == pytest.approx(-0.4, abs=1e-3)
    scan = scan_bonds(Pairs(too_strong), nitrogen())
    # a tenth of the force over the part of the curve within reach, and its integral is a tenth of the energy there
    assert scan.measures.force_error_eV_per_A == pytest.approx(0.1 / 1.1, rel=0.02)
    assert scan.measures.score_eV == pytest.approx(0.1 * 2 * REACH_EV, rel=0.2)
    (fall,) = scan_bonds(Pairs(gaussian(-0.35, 1.30, 0.02)), nitrogen()).defects
    r = np.linspace(1.15, 1.30, 3001)
    u = morse(r)[0] + gaussian(-0.35, 1.30, 0.02)(r)[0]
    assert fall.size == pytest.approx(u.max() - u[u.argmax() :].min(), abs=0.02)
    assert fall.barrier_eV == pytest.approx(u.max() + DEPTH, abs=0.01)


def test_a_kink_of_the_force_is_a_note():
    def kink(r):
        return 10.0 * max(r - 1.2345, 0.0) ** 2, 20.0 * max(r - 1.2345, 0.0)

    (defect,) = scan_bonds(Pairs(kink), nitrogen()).defects
    assert (defect.kind, defect.serious) == ("force_kink", False)
    assert defect.from_A == pytest.approx(1.2345, abs=1e-3)
    assert defect.size == pytest.approx(-20.0, rel=0.05)


@pytest.mark.parametrize("width", [1e-3, 1e-5, 1e-6])
def test_what_is_steep_is_no_jump(width):
    """A smooth step of the force, far narrower than the distances of a scan: zoomed into for long, it shrinks."""

    def step_of_force(r):
        x = (r - 1.2345) / width
        return 0.4 * width * float(np.logaddexp(0.0, x)), 0.4 / (1 + math.exp(-np.clip(x, -300, 300)))

    assert {"force_jump", "force_not_derivative"} & {
        d.kind for d in scan_bonds(Pairs(step_of_force), nitrogen()).defects
    } == set()


def test_nothing_is_judged_in_an_abyss():
    """Behind a fall of 50 eV a curve may jump as it likes: the fall is the defect."""

    def abyss(r):
        if r > 1.05:
            return 0.0, 0.0
        depth = -1e5 * (1.05 - r) ** 3, 3e5 * (1.05 - r) ** 2
        return (depth[0] - 1e9, depth[1] + 1e9) if r < 0.85 else depth

    scan = scan_bonds(Pairs(abyss), nitrogen())
    assert serious(scan) == {"no_wall"}


def test_what_is_out_of_reach_is_a_note_that_still_counts():
    far = gaussian(-6.0, 0.75, 0.02)
    scan = scan_bonds(Pairs(far), nitrogen())
    assert {defect.kind for defect in scan.defects} == {"false_minimum"}
    assert not serious(scan)
    assert scan.measures.fall_eV == 0.0
    barrier = scan.defects[0].barrier_eV
    assert barrier > REACH_EV
    assert scan.measures.missing_barrier_eV == pytest.approx(5.0 - barrier)


def test_worse_curves_have_larger_scores():
    scans = [scan_bonds(Pairs(gaussian(-height, 1.30, 0.02)), nitrogen()) for height in (0, 0.3, 0.6)]
    scores = [scan.measures.score_eV for scan in scans]
    assert scores[0] < 1e-3 < scores[1] < scores[2]


@pytest.mark.parametrize(
    ("added", "kind", "at"),
    [
        (lambda r: (0.01 if r < 3.21 else 0.0, 0.0), "energy_jump", 3.21),
        (lambda r: (-0.3 * max(3.21 - r, 0.0), 0.3 * (r < 3.21)), "force_jump", 3.21),
        (lambda r: (-9 * DEPTH * np.exp(-4.0 * r), 36 * DEPTH * np.exp(-4.0 * r)), None, None),
        (lambda r: (-morse(r)[0] + np.minimum(0, -1 / r + 0.2), -morse(r)[1] + (r < 5) / r**2), "no_wall", 0.426),
        (gaussian(-60.0, 0.66, 0.05), "hole", 0.66),
        (lambda r: (np.nan if 2.0 < r < 2.1 else 0.0, 0.0), "undefined", 2.1),
        (lambda r: (0.0, 0.1 * morse(r)[1]), "force_not_derivative", 1.0),
    ],
)
def test_defects_of_a_dimer_are_named_and_located(added, kind, at):
    scan = scan_dimers(Pairs(added), Atoms("N2"))
    (curve,) = scan.curves
    found = [defect for defect in curve.verdict.defects if defect.serious]
    assert {defect.kind for defect in found} == ({kind} if kind else set())
    if kind:
        near = 1e-3 if kind.endswith("jump") else 0.06
        assert found[0].from_A == pytest.approx(at, abs=near if kind != "force_not_derivative" else 0.5)
        assert found[0].where == "N-N dimer"


def test_a_second_minimum_of_a_dimer_is_a_note():
    scan = scan_dimers(Pairs(gaussian(0.8, 1.8, 0.1)), Atoms("N2"))
    assert not serious(scan)
    (curve,) = scan.curves
    assert [defect.kind for defect in curve.verdict.defects] == ["second_minimum"]
    assert len(curve.minima_A) == 2


def test_energy_and_force_at_the_cutoff():
    model = LennardJones(LennardJonesConfig(species=(18,), epsilon=0.4, sigma=3.3, cutoff=5.0, smooth=False))
    (curve,) = scan_dimers(MLCalculator(model), Atoms("Ar")).curves
    assert curve.cutoff_A == 5.0
    x = (3.3 / 5.0) ** 6
    jumps = [defect for defect in curve.verdict.defects if defect.kind == "force_jump"]
    assert jumps[0].from_A == pytest.approx(5.0, abs=1e-3)
    assert jumps[0].size == pytest.approx(-4 * 0.4 * (12 * x**2 - 6 * x) / 5.0, rel=0.02)
    assert curve.force_at_cutoff_eV_per_A == pytest.approx(4 * 0.4 * (12 * x**2 - 6 * x) / 5.0, rel=0.05)


# ----- calculators of other kinds -------------------------------------------------------------------------------------


def test_forces_alone_are_judged_by_work():
    only = Pairs(no_wall, given=("forces",))
    scan = scan_bonds(only, nitrogen())
    assert serious(scan) == {"no_wall"}
    assert serious(scan_bonds(Pairs(corner, given=("forces",)), nitrogen())) == {"force_jump"}
    assert not scan_bonds(Pairs(given=("forces",)), nitrogen()).defects
    assert np.isnan(scan.curves[0].energy).all()
    rows = {row.name: row for row in check_scans(ScanSubject(only, nitrogen()))}
    assert rows["bond_derivatives"].outcome == rows["bond_energies"].outcome == "skipped"
    assert "not implemented" in rows["bond_derivatives"].reason
    assert rows["bond_walls"].outcome == "failed"
    assert np.isnan(scan_scores(only, nitrogen())["bond_energy_jump_eV"])


def test_energies_alone_are_enough_for_the_rest():
    assert serious(scan_bonds(Pairs(step, given=("energy",)), nitrogen())) == {"energy_jump"}
    assert not scan_bonds(Pairs(given=("energy",)), nitrogen()).defects


def test_rounded_energies_are_noise_and_no_jumps():
    class Rounded(Pairs):
        def calculate(self, atoms=None, properties=None, system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            # as a sum of total energies in float32
            self.results["energy"] = float(np.float32(self.results["energy"] - 9876.5))

    scan = scan_bonds(Rounded(), nitrogen())
    assert 1e-4 < scan.noise.energy < 1e-3
    assert not scan.defects
    assert serious(scan_bonds(Rounded(lambda r: (5 * step(r)[0], 0.0)), nitrogen())) == {"energy_jump"}


def test_models_of_one_molecule_have_bonds_and_no_dimers():
    subject = ModelSubject(lookup("sgdml"))
    calculator, atoms = MLCalculator(subject.potential), subject.water
    with pytest.raises(NotApplicable, match="one molecule"):
        scan_dimers(calculator, atoms)
    scores = scan_scores(calculator, atoms)
    assert np.isnan(scores["dimer_score_eV"])
    assert np.isfinite(scores["bond_score_eV"])


def test_stress_alone_is_not_enough():
    model_class = lookup("stress_equivariant")
    small = {"features": 4, "edge_features": 4, "cutoff": 4.0, "mean_neighbors": 12.0}
    calculator = MLCalculator(ModelSubject(model_class, model_class.Config(species=(18,), **small)).model())
    rows = check_scans(ScanSubject(calculator, bulk("Ar", a=5.2)))
    assert {row.outcome for row in rows} == {"skipped"}
    assert all("neither energy nor forces" in row.reason for row in rows)


def test_a_structure_that_the_calculator_refuses_is_an_error():
    def always(_):
        raise ValueError("no such atoms")

    with pytest.raises(ValueError, match="no such atoms"):
        scan_bonds(Pairs(always), nitrogen())
    rows = {row.name: row for row in check_scans(ScanSubject(Pairs(always), nitrogen()))}
    assert rows["bond_walls"].outcome == "failed"
    assert "no such atoms" in rows["bond_walls"].reason
    assert rows["dimer_walls"].outcome == "skipped"


# ----- which bonds, and what moves ------------------------------------------------------------------------------------


def test_fragments_move_rigidly_where_a_bond_holds_them_together():
    ethanol = molecule("CH3CH2OH")
    scan = scan_bonds(EMT(), ethanol)
    (carbon_oxygen,) = [curve for curve in scan.curves if curve.bond.kind == "C-O"]
    assert sorted(carbon_oxygen.bond.fragments) == [2, 7]
    for kind, count in (("C-C", 1), ("C-O", 1), ("H-O", 1)):
        assert sum(curve.bond.kind == kind for curve in scan.curves) == count
    assert scan.n_bonds == 8
    ring = [edge for edge in scan_bonds(EMT(), molecule("C6H6")).curves if edge.bond.kind == "C-C"]
    assert {curve.bond.fragments for curve in ring} == {None}


def test_fragments_keep_their_shape_and_the_centre_of_mass(monkeypatch):
    seen = []

    class Watched(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            seen.append(atoms.copy())
            super().calculate(atoms, properties, system_changes)

    ethanol = molecule("CH3CH2OH")
    scan = scan_bonds(Watched(), ethanol, most=1)
    bond = next(curve.bond for curve in scan.curves if curve.bond.kind == "C-C")
    one = [0, *(k for k in range(9) if ethanol.get_distance(0, k) < 1.2 and k != 0)]
    fragment = one if len(one) == bond.fragments[0] or bond.first == 0 else None
    assert fragment is not None
    moved = [
        atoms for atoms in seen if abs(atoms.get_distance(bond.first, bond.second) - bond.length) > 0.1
        and np.allclose(atoms.get_all_distances()[np.ix_(one, one)], ethanol.get_all_distances()[np.ix_(one, one)])
    ]  # fmt: skip
    assert len(moved) > 30
    for atoms in moved:
        np.testing.assert_allclose(atoms.get_center_of_mass(), ethanol.get_center_of_mass(), atol=1e-9)


def test_equivalent_bonds_are_scanned_once():
    assert len(scan_bonds(EMT(), bulk("Cu", cubic=True)).curves) == 1
    rattled = bulk("Cu", cubic=True)
    rattled.rattle(0.05, seed=1)
    names = [curve.bond.name for curve in scan_bonds(EMT(), rattled, most=2).curves]
    assert len(names) == 2
    assert names == [curve.bond.name for curve in scan_bonds(EMT(), rattled, most=2).curves]


def test_an_atom_does_not_meet_its_own_image():
    primitive, wide = bulk("Cu"), bulk("Cu") * 3
    one, other = (scan_bonds(EMT(), atoms).curves[0] for atoms in (primitive, wide))
    assert one.bond.first != one.bond.second
    assert one.bond.length == pytest.approx(other.bond.length)
    # not the same cell, and so not quite the same surroundings; but far from a crystal that moves as a whole
    assert one.energy[0] == pytest.approx(other.energy[0], rel=0.05)


def test_noble_gases_have_contacts_and_molecules_have_bonds():
    argon = find_bonds(bulk("Ar", a=5.26, cubic=True))
    assert len(argon) == 24
    assert not any(edge.covalent for edge in argon)
    water = find_bonds(molecule("H2O"))
    assert [(edge.first, edge.second) for edge in water] == [(0, 1), (0, 2)]
    with pytest.raises(NotApplicable, match="no two atoms"):
        scan_bonds(EMT(), Atoms("Cu"))


def test_a_proton_that_is_handed_over_is_no_dissociation():
    """O-H...O with a well at both oxygens: physics, not a defect."""
    at = 0.97
    atoms = Atoms("OHOH", [[0, 0, 0], [0, 0, at], [0, 0, 2.9], [0, 0.97, 2.9]])

    class Shared(Pairs):
        def calculate(self, atoms=None, properties=None, system_changes=all_changes):
            Calculator.calculate(self, atoms, properties, system_changes)
            z = atoms.positions[:, 2]
            energy, forces = 0.0, np.zeros((4, 3))
            for oxygen in (0, 2):
                d = z[1] - z[oxygen]
                x = np.exp(-2.2 * (abs(d) - at))
                energy += 4.6 * (1 - x) ** 2
                pull = 2 * 4.6 * 2.2 * x * (1 - x) * np.sign(d)
                forces[1, 2] -= pull
                forces[oxygen, 2] += pull
            self.results = {"energy": energy, "forces": forces}

    scan = scan_bonds(Shared(), atoms)
    (curve,) = [each for each in scan.curves if each.bond.name == "O0-H1"]
    # the whole way would show the other well
    energies = []
    for z in np.linspace(at, 1.93, 40):
        atoms.positions[1, 2] = z
        energies.append(Shared().get_property("energy", atoms))
    assert max(energies) - energies[-1] > 0.1
    assert curve.distance[-1] < 1.4
    assert not curve.verdict.defects


# ----- right ones pass ------------------------------------------------------------------------------------------------


def good():
    argon = bulk("Ar", a=5.3, cubic=True)
    yield "ase lj", AseLennardJones(epsilon=0.0104, sigma=3.4, rc=7.0, smooth=True), argon
    model = LennardJones(LennardJonesConfig(species=(18,), epsilon=0.0104, sigma=3.4, cutoff=7.0))
    yield "lennard_jones", MLCalculator(model), argon
    silicon = lookup("stillinger_weber")
    yield "stillinger_weber", MLCalculator(silicon(silicon.Config())), bulk("Si")
    yield "emt", EMT(), bulk("Cu", cubic=True)


@pytest.mark.parametrize(("calculator", "atoms"), [pytest.param(*rest, id=name) for name, *rest in good()])
def test_right_potentials_pass(calculator, atoms):
    rows = check_scans(ScanSubject(calculator, atoms))
    assert {row.outcome for row in rows} == {"passed"}, [row for row in rows if row.outcome != "passed"]
    assert all(row.deviation <= row.tolerance for row in rows if row.deviation is not None)


# ----- the shape of curves --------------------------------------------------------------------------------------------


def test_falls_are_found_on_the_way():
    assert shape.falls(np.array([0.0, 1.0, 3.0, 2.0, 2.5, 4.0, 1.0])) == [(2, 3), (5, 6)]
    assert shape.falls(np.array([0.0, 0.001, -0.001, 1.0])) == []
    assert shape.falls(np.array([0.0, -1.0, -2.0])) == [(0, 2)]


def test_wiggle_counts_what_a_bond_does_not_do():
    r = np.linspace(0.7, 2.5, 300)
    force = -morse(r)[1]
    assert shape.wiggle(force) < 1e-9
    assert shape.wiggle(-r) < 1e-9
    # five periods of an oscillation that is steeper than the curve go up and down by four amplitudes each, nearly
    flat = 0.2 * np.sin(2 * np.pi * 5 * (r - 0.7) / 1.8)
    assert shape.wiggle(flat) == pytest.approx(0.2 * (20 - 6), rel=0.25)


# ----- the verb -------------------------------------------------------------------------------------------------------


def test_groups_and_files(tmp_path):
    subject = ScanSubject(Pairs(step), nitrogen())
    groups = check_everything(subject.calculator, subject.atoms, scans=subject)
    rows = {row.name: row for row in groups["bonds and dimers"]}
    assert rows["bond_energies"].outcome == "failed"
    assert "jumps by 0.01 eV at 1.23" in rows["bond_energies"].reason
    assert rows["bond_energies"].deviation == pytest.approx(0.01, rel=1e-3)
    assert rows["bond_walls"].outcome == "passed"
    assert "bonds and dimers" not in check_everything(subject.calculator, subject.atoms)
    paths = scan_plots(tmp_path, subject.made)
    assert [path.name for path in paths] == ["bond_scan.png", "dimer_scan.png"]
    assert all(path.stat().st_size > 10_000 for path in paths)


def run(*words):
    return CliRunner().invoke(app, ["check", *map(str, words)])


def test_verb(tmp_path):
    write(tmp_path / "h2.xyz", molecule("H2"))
    words = ["ase.calculators.emt:EMT", tmp_path / "h2.xyz", "--json", tmp_path / "checks.json"]
    result = run(*words, "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "checks.json").read_text())
    assert {"bonds and dimers"} <= {check["group"] for check in report["checks"]}
    assert report["bond_scan"]["n_bonds"] == 1
    assert report["bond_scan"]["scores"]["score_eV"] < 0.01
    assert report["dimer_scan"]["scanned"][0]["dimer"] == "H-H"
    assert (tmp_path / "plots" / "dimer_scan.png").exists()
    result = run(*words, "--no-scans")
    assert "bond walls" not in result.output
    assert "bond_scan" not in json.loads((tmp_path / "checks.json").read_text())
    result = run(*words, "--no-scans", "--plots", tmp_path)
    assert result.exit_code == 1
