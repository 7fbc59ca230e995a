"""The audit stays quiet on right data and speaks up when a unit, a sign or a structure is wrong."""

import io
import json

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from rich.console import Console

from ase_mlcalc.data.audit import audit, render_audit
from ase_mlcalc.data.checks import all_electron_energy
from ase_mlcalc.data.frames import Frame, Note, Provenance
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.data.sets import water16
from ase_mlcalc.errors import DataError
from ase_mlcalc.properties import Properties

KCAL_PER_EV = units.mol / units.kcal


def labelled(atoms, k, group=""):
    calculated = atoms.copy()
    calculated.calc = EMT()
    labels = Properties(
        energy=torch.tensor([calculated.get_potential_energy()], dtype=torch.float64),
        forces=torch.from_numpy(calculated.get_forces()),
        stress=torch.from_numpy(calculated.get_stress(voigt=False))[None],
    )
    origins = dict.fromkeys(("energy", "forces", "stress"), "calculator")
    return Frame(atoms, labels, group, f"cu.xyz[{k}]", Provenance(origins))


@pytest.fixture(scope="module")
def good():
    """Copper: thermal structures at one volume, and strained ones."""
    frames = []
    for k in range(40):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        if k >= 28:
            atoms.set_cell(atoms.cell.array * (0.96 + 0.007 * (k - 28)), scale_atoms=True)
        atoms.rattle(0.06, seed=k)
        frames.append(labelled(atoms, k, "thermal" if k < 28 else "strained"))
    return frames


def scaled(frames, **factors):
    return [
        frame._replace(
            labels=frame.labels._replace(**{name: getattr(frame.labels, name) * c for name, c in factors.items()})
        )
        for frame in frames
    ]


def replaced(frames, k, **labels):
    return [*frames[:k], frames[k]._replace(labels=frames[k].labels._replace(**labels)), *frames[k + 1 :]]


def messages(frames, severity=None):
    return [p.message for p in audit(frames).problems if severity in {None, p.severity}]


def assert_found(frames, severity, text):
    found = messages(frames, severity)
    assert any(text in message for message in found), f"{text!r} not in {messages(frames)}"


def test_right_data_has_no_problems(good):
    assert messages(good) == []


def test_contents(good):
    result = audit(good)
    assert (result.n_structures, result.n_atoms) == (40, 320)
    assert result.elements == {"Cu": 320}
    assert result.compositions == {"Cu8": 40}
    assert result.groups == {"thermal": 28, "strained": 12}
    assert result.periodicity == {"bulk": 40}
    assert result.files == {"cu.xyz": 40}
    assert {label.name: label.n_labelled for label in result.labels} == {
        "energy": 40,
        "energies": 0,
        "forces": 40,
        "stress": 40,
        "stresses": 0,
    }
    assert result.density_g_per_cm3.low < 8.96 < result.density_g_per_cm3.high
    pressures = [-float(frame.labels.stress[0].trace()) / 3 / units.GPa for frame in good]
    assert result.pressure_GPa.high == pytest.approx(max(pressures))
    forces = torch.cat([frame.labels.forces for frame in good])
    assert result.force_rms_eV_per_A == pytest.approx(float(forces.square().mean().sqrt()))
    assert result.max_force_eV_per_A.high == pytest.approx(float(forces.norm(dim=1).max()))


def test_no_structures():
    with pytest.raises(DataError, match="no structures"):
        audit([])


def test_report_and_json(good):
    frames = [*good, Frame(molecule("H2O"), Properties(energy=torch.tensor([-2080.0]).double()), "[red]", "w.xyz[0]")]
    result = audit(frames)
    console = Console(record=True, width=160, file=io.StringIO())
    render_audit(result, console)
    text = console.export_text()
    for expected in ("41/41", "40/41", "0/41", "calculator (40)", "not stated (1)", "[red] (1)", "E0 of Cu", "g/cm³"):
        assert expected in text, expected
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["species_energy"]["species_energy"].keys() == {"H", "O", "Cu"}
    assert plain["labels"][0] == {
        "name": "energy",
        "unit": "eV",
        "n_labelled": 41,
        "n_structures": 41,
        "origins": {"calculator": 40, "not stated": 1},
    }
    assert plain["problems"][0].keys() == {"severity", "message"}


def test_data_without_any_stress_force_or_volume_is_fine():
    frames = [Frame(molecule("H2O"), Properties(energy=torch.tensor([-2080.0]).double()), "", "w.xyz[0]")]
    result = audit(frames)
    assert result.pressure_GPa is None
    assert result.force_rms_eV_per_A is None
    assert result.volume_A3 is None
    assert result.errors == []
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("factors", "hint"),
    [
        ({"energy": KCAL_PER_EV}, "kcal/mol with forces in eV/Å"),
        ({"energy": 1 / units.Hartree}, "hartree with forces in eV/Å"),
        ({"forces": KCAL_PER_EV}, "eV with forces in kcal/mol/Å"),
        ({"forces": units.Bohr / units.Hartree}, "forces in hartree/bohr"),
        ({"energy": 1 / units.Hartree, "forces": units.Bohr / units.Hartree}, "atomic units"),
        ({"energy": 1000.0}, "meV"),
    ],
)
def test_energies_and_forces_in_different_units(good, factors, hint):
    assert_found(scaled(good, **factors), "error", hint)


def test_gradients_in_place_of_forces(good):
    assert_found(scaled(good, forces=-1.0), "error", "change their sign")


@pytest.fixture(scope="module")
def water():
    """Snapshots of a liquid in one box, far from each other."""
    return read_frames([water16("gfn1")])[::5]


def test_a_liquid_in_one_box_is_right(water):
    assert not messages(water, "error")
    (unknown,) = messages(water, "not checked")
    assert unknown.startswith("whether energies are in the unit of the forces")


@pytest.mark.parametrize(
    ("factors", "found"),
    [
        ({"forces": -1}, ["forces drive the atoms of long bonds apart", "or that of the forces"]),
        ({"stress": -1}, ["stress sign looks flipped"]),
        ({"forces": -1, "stress": -1}, ["forces drive the atoms of long bonds apart"]),
    ],
)
def test_signs_in_a_liquid_in_one_box(water, factors, found):
    wrong = messages(scaled(water, **factors), "error")
    assert len(wrong) == len(found), wrong
    for message, text in zip(wrong, found, strict=True):
        assert text in message


def test_atomic_units_in_a_liquid_in_one_box(water):
    """Bonds of light elements are known in stiffness; what energies vary by is known to an order of magnitude."""
    hartree, per_bohr = 1 / units.Hartree, units.Bohr / units.Hartree
    assert_found(scaled(water, energy=hartree), "warning", "are they in hartree")
    for factor, unit in ((per_bohr, "hartree/bohr"), (hartree, "hartree/Å"), (23.06, "kcal/mol/Å")):
        assert_found(scaled(water, energy=hartree, forces=factor), "error", unit)
    assert not [text for text in messages(water) if "hartree" in text or "stretched" in text]


def test_what_cannot_be_told_is_said(good):
    one = good[:1]
    assert not messages(one, "error")
    assert [text.split(":")[0] for text in messages(one, "not checked")] == [
        "whether energies are in the unit of the forces",
        "the sign of the stress",
    ]


def test_forces_far_too_large(good):
    factor = KCAL_PER_EV
    assert_found(scaled(good, energy=factor, forces=factor), "warning", "kcal/mol/Å")


def test_flipped_stress(good):
    assert_found(scaled(good, stress=-1.0), "error", "stress sign looks flipped")


def test_stress_in_gpa(good):
    assert_found(scaled(good, stress=1 / units.GPa), "warning", "are they in GPa")


def test_statistical_energy_of_atoms():
    exact_hartree = {"H": -0.5, "He": -2.904, "C": -37.845, "O": -75.067, "Ar": -527.54}
    for symbol, energy in exact_hartree.items():
        assert all_electron_energy(Atoms(symbol)) == pytest.approx(energy * units.Hartree, rel=0.09)


def test_total_energies_in_kcal_per_mol():
    water_eV = -76.4 * units.Hartree
    for factor, wrong in ((1.0, False), (KCAL_PER_EV, True)):
        frames = []
        for k in range(3):
            atoms = molecule("H2O")
            atoms.rattle(0.05, seed=k)
            energy = torch.tensor([water_eV * factor + 0.1 * k], dtype=torch.float64)
            frames.append(Frame(atoms, Properties(energy=energy), "", f"w.xyz[{k}]"))
        assert any("total energy of all their electrons" in m for m in messages(frames, "error")) == wrong


def test_energies_per_atom():
    frames = []
    for k, size in enumerate((1, 1, 2, 2, 3, 3)):
        atoms = bulk("Cu", cubic=True) * (size, 1, 1)
        atoms.rattle(0.05, seed=k)
        energy = torch.tensor([-3.7 + 0.01 * k], dtype=torch.float64)
        frames.append(Frame(atoms, Properties(energy=energy), "", f"a.xyz[{k}]"))
    assert_found(frames, "error", "energies per atom")
    total = [f._replace(labels=Properties(energy=f.labels.energy * len(f.atoms))) for f in frames]
    assert messages(total) == []


def test_all_energies_equal(good):
    frames = [frame._replace(labels=Properties(energy=torch.zeros(1, dtype=torch.float64))) for frame in good]
    assert_found(frames, "error", "although structures differ")


def test_duplicates(good):
    again = good[3]._replace(source="b.xyz[0]")
    assert_found([*good, again], "warning", "cu.xyz[3] = b.xyz[0]")
    assert messages([*good, again], "error") == []


def test_conflicting_duplicates(good):
    labels = good[3].labels._replace(energy=good[3].labels.energy + 0.05)
    same, other = good[3]._replace(source="b.xyz[0]"), Frame(good[3].atoms, labels, "", "b.xyz[1]")
    assert_found([*good, same, other], "error", "different labels (cu.xyz[3] = b.xyz[0])")
    assert_found([*good, other], "error", "different labels (cu.xyz[3] = b.xyz[1])")


def test_outliers(good):
    energy = replaced(good, 7, energy=good[7].labels.energy + 8 * 2.0)
    assert_found(energy, "warning", "cu.xyz[7] (first:")
    forces = good[9].labels.forces.clone()
    forces[0, 0] += 20.0
    forces[1, 0] -= 20.0
    found = messages(replaced(good, 9, forces=forces), "warning")
    assert any("largest force of 1 structures" in m and "cu.xyz[9]" in m for m in found)


def test_net_force(good):
    forces = good[2].labels.forces + torch.tensor([0.1, 0.0, 0.0])
    found = messages(replaced(good, 2, forces=forces), "warning")
    assert any("do not sum to zero in 1 of 40 structures: up to 0.8 eV/Å in cu.xyz[2]" in m for m in found)


def test_zeros_in_place_of_missing_labels(good):
    assert_found(scaled(good, forces=0.0), "error", "all forces of 40 structures are zero")
    assert_found(scaled(good, stress=0.0), "error", "all stresses of 40 structures are zero")
    one = replaced(good, 5, forces=torch.zeros_like(good[5].labels.forces))
    assert_found(one, "warning", "exactly zero in 1 structures (cu.xyz[5])")


def test_symmetric_crystals_may_have_zero_forces(good):
    atoms = bulk("Cu", cubic=True)
    rest = labelled(atoms, 99)
    rest = rest._replace(labels=rest.labels._replace(forces=torch.zeros(4, 3, dtype=torch.float64)))
    assert not any("zero" in message for message in messages([*good, rest]))


def test_atoms_without_an_element(good):
    atoms = good[0].atoms.copy()
    atoms.numbers[2] = 0
    found = "atoms without an element (X, atomic number 0) in 1 structures (cu.xyz[0])"
    assert_found([good[0]._replace(atoms=atoms), *good[1:]], "error", found)


def test_atoms_too_near(good):
    near, same = good[0].atoms.copy(), good[0].atoms.copy()
    near.positions[1] = near.positions[0] + [0.2, 0, 0]
    same.positions[1] = same.positions[0]
    assert_found([*good, Frame(near, Properties(), "", "near")], "warning", "nearer than 0.3 Å in 1 structures (near)")
    assert_found([*good, Frame(same, Properties(), "", "same")], "error", "on one spot in 1 structures (same)")


def test_undetermined_reference_energies():
    frames = []
    for k in range(3):
        atoms = molecule("H2O")
        atoms.rattle(0.02, seed=k)
        energy = torch.tensor([-2080.0 + 0.01 * k], dtype=torch.float64)
        frames.append(Frame(atoms, Properties(energy=energy), "", f"w.xyz[{k}]"))
    assert_found(frames, "warning", "compositions determine 1 of 2 reference energies")
    console = Console(record=True, width=400, file=io.StringIO())
    render_audit(audit(frames), console)
    text = console.export_text()
    assert text.count("rank 1 of 2") == 1
    assert "E0: not determined by the compositions, see the warning below" in text


def test_isolated_atoms_of_another_level(good):
    atom = Frame(Atoms("Cu"), Properties(energy=torch.tensor([-45000.0]).double()), "", "atom")
    assert_found([*good, atom], "error", "these isolated atoms are of another level")
    light = atom._replace(labels=Properties(energy=torch.tensor([25.0]).double()))
    for count in (1, 80):  # they are their own reference, and hide nothing by their number
        assert_found([*good, *[light] * count], "error", "these isolated atoms are of another level")
    bound = atom._replace(labels=Properties(energy=torch.tensor([3.5]).double()))
    assert messages([*good, bound]) == []


def test_isolated_atoms_do_not_narrow_the_spread(good):
    atom = Frame(Atoms("Cu"), Properties(energy=torch.tensor([3.5]).double()), "", "atom")
    wide = [
        frame._replace(labels=Properties(energy=torch.tensor([-100.0 * k]).double())) for k, frame in enumerate(good)
    ]
    for count in (0, 1, 80):
        assert_found([*wide, *[atom] * count], "warning", "energies spread by")


def test_mixed_levels_of_theory(good):
    frames = [frame._replace(atoms=frame.atoms.copy()) for frame in good]
    for k, frame in enumerate(frames):
        frame.atoms.info["level_of_theory"] = "PBE" if k < 30 else "SCAN"
    assert_found(frames, "warning", "PBE (30), SCAN (10)")


def test_notes_of_the_reader_are_gathered(good):
    noted = Provenance(notes=(Note("energy: REF_energy used, calculator energy not", 0.25, "eV"),))
    frames = [frame._replace(provenance=noted) if k in {4, 6} else frame for k, frame in enumerate(good)]
    assert_found(frames, "warning", "(difference up to 0.25 eV) in 2 structures (cu.xyz[4], cu.xyz[6])")
    same = Provenance(notes=(Note("energy: REF_energy used, calculator energy not", 0.0, "eV"),))
    assert messages([good[0]._replace(provenance=same), *good[1:]]) == []


def test_audit_does_not_change_the_data(good):
    before = [frame.labels.forces.clone() for frame in good], [frame.atoms.copy() for frame in good]
    audit(good)
    assert all(torch.equal(a, frame.labels.forces) for a, frame in zip(before[0], good, strict=True))
    assert all(a == frame.atoms for a, frame in zip(before[1], good, strict=True))
    assert np.isfinite([float(frame.labels.energy) for frame in good]).all()
