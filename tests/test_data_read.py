"""Reading labelled structures: which entry becomes which label, in which unit and sign, and what is refused."""

import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect

from ase_mlcalc.data.frames import counts, require
from ase_mlcalc.data.read import LabelKeys, read_frames
from ase_mlcalc.errors import DataError

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def copper(seed=0, labelled=True):
    atoms = bulk("Cu", cubic=True)
    stretch = np.array([[1.02, 0.01, 0.0], [0.0, 0.99, 0.015], [0.0, 0.0, 1.03]])
    atoms.set_cell(atoms.cell.array @ stretch, scale_atoms=True)
    atoms.rattle(0.05, seed=seed)
    if labelled:
        atoms.calc = EMT()
        atoms.get_potential_energy()
        atoms.get_stress()
    return atoms


def single_point(atoms, **results):
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def write(path, *frames):
    ase.io.write(path, list(frames), **({"format": "extxyz"} if "xyz" in path.name else {}))
    return path


def assert_labels_match(frame, atoms):
    assert float(frame.labels.energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(frame.labels.forces, atoms.get_forces(), atol=1e-7)
    for (a, b), value in zip(VOIGT, atoms.get_stress(), strict=True):
        assert float(frame.labels.stress[0, a, b]) == pytest.approx(value, abs=1e-7)
        assert float(frame.labels.stress[0, b, a]) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("name", ["data.extxyz", "data.xyz", "data.traj", "data.extxyz.gz"])
def test_every_format_gives_the_same_labels(tmp_path, name):
    structures = [copper(seed) for seed in range(3)]
    plain = tmp_path / name.removesuffix(".gz")
    write(plain, *structures)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    frames = read_frames([tmp_path / name])
    assert [frame.source for frame in frames] == [f"{name}[{k}]" for k in range(3)]
    for frame, atoms in zip(frames, structures, strict=True):
        assert_labels_match(frame, atoms)
        assert frame.labels.energy.shape == (1,)
        assert frame.labels.stress.shape == (1, 3, 3)
        assert {value.dtype for value in frame.labels if value is not None} == {torch.float64}
        assert frame.atoms.calc is None
        np.testing.assert_allclose(frame.atoms.positions, atoms.positions, atol=1e-7)


def test_runner_input_data_is_recognised_by_its_contents(tmp_path):
    text = (
        "begin\ncomment test\nlattice 10.0 0.0 0.0\nlattice 0.0 10.0 0.0\nlattice 0.0 0.0 10.0\n"
        "atom 0.0 0.0 0.0 H 0.0 0.0 0.1 0.0 0.0\natom 1.5 0.0 0.0 H 0.0 0.0 -0.1 0.0 0.0\n"
        "energy -1.0\ncharge 0.0\nend\n"
    )
    (tmp_path / "input.data").write_text(text)
    (frame,) = read_frames([tmp_path / "input.data"])
    assert float(frame.labels.energy) == pytest.approx(-units.Hartree, rel=1e-6)
    assert float(frame.labels.forces[0, 0]) == pytest.approx(0.1 * units.Hartree / units.Bohr, rel=1e-6)
    assert frame.atoms.positions[1, 0] == pytest.approx(1.5 * units.Bohr, rel=1e-6)


def test_reference_entries_win_over_the_calculator_and_say_so(tmp_path):
    atoms = copper()
    atoms.info["REF_energy"] = -12.5
    atoms.arrays["REF_forces"] = np.full((4, 3), 0.25)
    (frame,) = read_frames([write(tmp_path / "a.extxyz", atoms)])
    assert float(frame.labels.energy) == -12.5
    assert (frame.labels.forces == 0.25).all()
    assert frame.provenance.origins == {
        "energy": "REF_energy",
        "energies": "calculator energies",
        "forces": "REF_forces",
        "stress": "calculator stress",
    }
    note = frame.provenance.notes[0]
    assert "calculator energy not" in note.text
    assert note.size == pytest.approx(abs(-12.5 - atoms.get_potential_energy()), abs=1e-6)


def test_free_energy_is_preferred_and_the_difference_is_told(tmp_path):
    atoms = copper(labelled=False)
    (both,) = read_frames([write(tmp_path / "a.traj", single_point(atoms, energy=-1.0, free_energy=-2.0))])
    (free,) = read_frames([write(tmp_path / "b.traj", single_point(atoms, free_energy=-2.0))])
    assert float(both.labels.energy) == -2.0
    (note,) = both.provenance.notes
    assert note.text == "energy: calculator free_energy used, calculator energy not"
    assert note.size == 1.0
    assert float(free.labels.energy) == -2.0
    assert free.provenance.origins["energy"] == "calculator free_energy"


def test_a_label_that_is_said_to_be_missing_is_not_taken_from_elsewhere(tmp_path):
    frames = [single_point(copper(labelled=False), energy=-99.0) for _ in range(2)]
    frames[0].info["REF_energy"] = -1.0
    frames[1].info["REF_energy"] = np.nan
    first, second = read_frames([write(tmp_path / "a.xyz", *frames)])
    assert float(first.labels.energy) == -1.0
    assert second.labels.energy is None


def test_databases_are_read_with_all_they_hold(tmp_path):
    atoms = copper(labelled=False)
    forces = np.arange(3.0 * len(atoms)).reshape(-1, 3)
    for path in (tmp_path / "a.db", tmp_path / "a.json"):
        with connect(path) as database:
            for k in range(3):
                database.write(atoms, REF_energy=-1.0 - k, mine=5.0 + k, data={"REF_forces": forces * k})
            database.write(single_point(atoms, energy=-7.0))
        frames = read_frames([path], index="1:")
        assert [float(frame.labels.energy) for frame in frames] == [-2.0, -3.0, -7.0]
        np.testing.assert_array_equal(frames[1].labels.forces, 2 * forces)
        (named,) = read_frames([path], keys=LabelKeys(energy="mine"), index=0)
        assert float(named.labels.energy) == 5.0


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virials", "REF_virial", "w"])
def test_virial_is_minus_volume_times_stress(tmp_path, key):
    atoms = copper()
    stress = np.zeros((3, 3))
    for (a, b), value in zip(VOIGT, atoms.get_stress(), strict=True):
        stress[a, b] = stress[b, a] = value
    bare = atoms.copy()
    bare.info[key] = (-atoms.get_volume() * stress).ravel()
    path = write(tmp_path / "a.extxyz", bare)
    keys = LabelKeys(virial="w") if key == "w" else LabelKeys()
    (frame,) = read_frames([path], keys=keys)
    np.testing.assert_allclose(frame.labels.stress[0], stress, atol=1e-8)
    assert frame.provenance.origins == {"stress": key}


@pytest.mark.parametrize("shape", [(6,), (9,), (3, 3)])
def test_flat_and_full_stress_entries(tmp_path, shape):
    matrix = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]) * 1e-2
    value = np.array([matrix[a, b] for a, b in VOIGT]) if shape == (6,) else matrix.reshape(shape)
    atoms = copper(labelled=False)
    atoms.info["REF_stress"] = value
    (frame,) = read_frames([write(tmp_path / "a.extxyz", atoms)])
    np.testing.assert_allclose(frame.labels.stress[0], matrix, atol=1e-10)


@pytest.mark.parametrize("columns", [6, 9])
def test_per_atom_stress(tmp_path, columns):
    rng = np.random.default_rng(0)
    full = rng.normal(size=(4, 3, 3))
    full = full + full.swapaxes(1, 2)
    value = np.stack([full[:, a, b] for a, b in VOIGT], axis=1) if columns == 6 else full.reshape(4, 9)
    atoms = single_point(copper(labelled=False), stresses=value)
    (frame,) = read_frames([write(tmp_path / "a.traj", atoms)])
    np.testing.assert_allclose(frame.labels.stresses, full, atol=1e-12)


def test_stress_that_is_not_symmetric_is_noted(tmp_path):
    atoms = copper(labelled=False)
    atoms.info["REF_stress"] = np.arange(9.0)
    (frame,) = read_frames([write(tmp_path / "a.extxyz", atoms)])
    assert "not symmetric" in frame.provenance.notes[0].text
    assert torch.equal(frame.labels.stress, frame.labels.stress.mT)


def test_stress_of_a_molecule_is_ignored_and_noted(tmp_path):
    atoms = molecule("H2O")
    atoms.info |= {"REF_energy": -1.0, "REF_stress": np.zeros(9)}
    (frame,) = read_frames([write(tmp_path / "a.extxyz", atoms)])
    assert frame.labels.stress is None
    assert "no volume" in frame.provenance.notes[0].text


def test_named_keys(tmp_path):
    atoms = copper()
    atoms.info["dft_energy"] = -3.0
    atoms.arrays["dft_forces"] = np.full((4, 3), 0.5)
    path = write(tmp_path / "a.extxyz", atoms)
    (frame,) = read_frames([path], keys=LabelKeys(energy="dft_energy", forces="dft_forces", stress="none"))
    assert float(frame.labels.energy) == -3.0
    assert (frame.labels.forces == 0.5).all()
    assert frame.labels.stress is None
    with pytest.raises(DataError, match=r"no structure has the key 'dft_enrgy'.*did you mean 'dft_energy'"):
        read_frames([path], keys=LabelKeys(energy="dft_enrgy"))


def test_files_with_different_labels_mix(tmp_path):
    with_all = write(tmp_path / "a.extxyz", copper())
    energy_only = write(tmp_path / "b.extxyz", single_point(molecule("H2O"), energy=-14.0))
    frames = read_frames([with_all, energy_only])
    assert counts(frames) == {"energy": 2, "energies": 1, "forces": 1, "stress": 1, "stresses": 0}
    require(frames, {"energy", "forces"})
    with pytest.raises(DataError, match=r"stresses asked for but in 0/2 structures .*energy in 2/2, .*forces in 1/2"):
        require(frames, {"energy", "stresses"})


def test_groups_momenta_and_plain_info_are_kept(tmp_path):
    atoms = copper()
    atoms.info |= {"config_type": "bulk", "temperature_K": 300.0}
    atoms.set_momenta(np.ones((4, 3)))
    (frame,) = read_frames([write(tmp_path / "a.extxyz", atoms)])
    assert frame.group == "bulk"
    assert frame.atoms.info["temperature_K"] == 300.0
    assert "energy" not in frame.atoms.info
    np.testing.assert_allclose(frame.atoms.get_momenta(), 1.0)


@pytest.mark.parametrize(
    ("index", "sources", "wanted"),
    [
        ("1:4:2", ["[1]", "[3]"], [1, 3]),
        (2, ["[2]"], [2]),
        ("-1", ["[-1]"], [4]),
        (-2, ["[-2]"], [3]),
        ("-2:", ["[-2:][0]", "[-2:][1]"], [3, 4]),
    ],
)
@pytest.mark.parametrize("name", ["a.traj", "a.npz"])
def test_index_chooses_structures_and_sources_name_them(tmp_path, name, index, sources, wanted):
    structures = [single_point(molecule("H2"), energy=float(k), forces=np.zeros((2, 3))) for k in range(5)]
    path = tmp_path / name
    if name == "a.traj":
        write(path, *structures)
    else:
        positions = np.array([atoms.positions for atoms in structures])
        np.savez(path, z=[1, 1], R=positions, E=np.arange(5.0), e_unit="eV", r_unit="Ang")
    frames = read_frames([path], index=index)
    assert [frame.source for frame in frames] == [name + source for source in sources]
    np.testing.assert_allclose([float(frame.labels.energy) for frame in frames], wanted)


# --- npz -------------------------------------------------------------------------------------------------------------

KCAL = units.kcal / units.mol


@pytest.mark.parametrize("names", [("z", "R", "E", "F"), ("nuclear_charges", "coords", "energies", "forces")])
@pytest.mark.parametrize("column", [False, True])
def test_npz_is_in_kcal_per_mol_unless_it_says_otherwise(tmp_path, names, column):
    rng = np.random.default_rng(0)
    positions, energy, forces = rng.normal(size=(4, 3, 3)), rng.normal(size=4), rng.normal(size=(4, 3, 3))
    z, r, e, f = names
    arrays = {z: np.array([8, 1, 1], dtype=np.uint8), r: positions, e: energy[:, None] if column else energy, f: forces}
    np.savez(tmp_path / "md17.npz", **arrays)
    frames = read_frames([tmp_path / "md17.npz"])
    assert len(frames) == 4
    for k, frame in enumerate(frames):
        assert frame.atoms.get_chemical_symbols() == ["O", "H", "H"]
        assert not frame.atoms.pbc.any()
        np.testing.assert_allclose(frame.atoms.positions, positions[k])
        np.testing.assert_allclose(frame.labels.energy, [energy[k] * KCAL])
        np.testing.assert_allclose(frame.labels.forces, forces[k] * KCAL)
        assert frame.provenance.origins == {"energy": f"{e} (kcal/mol)", "forces": f"{f} (kcal/mol/Ang)"}


def test_npz_units_of_sgdml_are_honoured(tmp_path):
    arrays = {"type": "d", "z": [1, 1], "R": [[[0, 0, 0], [0, 0, 1.5]]], "E": [-1.0], "F": np.ones((1, 2, 3))}
    np.savez(tmp_path / "h2.npz", **arrays, e_unit="Ha", r_unit="bohr", theory=np.array("PBE"))
    (frame,) = read_frames([tmp_path / "h2.npz"])
    assert frame.atoms.get_distance(0, 1) == pytest.approx(1.5 * units.Bohr)
    assert float(frame.labels.energy) == pytest.approx(-units.Hartree)
    assert float(frame.labels.forces[0, 0]) == pytest.approx(units.Hartree / units.Bohr)
    assert frame.atoms.info["level_of_theory"] == "PBE"


def test_npz_lattice_of_sgdml_has_vectors_in_columns(tmp_path):
    lattice = np.array([[10.0, 1.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 12.0]])
    np.savez(tmp_path / "a.npz", z=[1, 1], R=[[[0, 0, 0], [0, 0, 0.8]]], E=[-1.0], lattice=lattice)
    (frame,) = read_frames([tmp_path / "a.npz"])
    np.testing.assert_allclose(frame.atoms.cell.array, lattice.T)
    assert frame.atoms.pbc.all()


def test_npz_named_arrays(tmp_path):
    arrays = {"z": [1, 1], "R": [[[0, 0, 0], [0, 0, 0.8]]], "E": [-1.0], "old_E": [-2.0], "F": np.zeros((1, 2, 3))}
    np.savez(tmp_path / "a.npz", **arrays)
    (frame,) = read_frames([tmp_path / "a.npz"], keys=LabelKeys(energy="old_E", forces="none"))
    assert float(frame.labels.energy) == pytest.approx(-2.0 * KCAL)
    assert frame.labels.forces is None
    with pytest.raises(DataError, match=r"no array new_E; it holds z, R, E, old_E, F"):
        read_frames([tmp_path / "a.npz"], keys=LabelKeys(energy="new_E"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"E": np.array([None])}, "plain arrays"),
        ({"R": None}, "no array coords or R"),
        ({"R": np.zeros((1, 2, 2))}, r"expected \(structures, atoms, 3\)"),
        ({"E": np.zeros(3)}, r"array E has shape \(3,\); expected \(1,\)"),
        ({"F": np.zeros((1, 3, 3))}, r"array F has shape \(1, 3, 3\); expected \(1, 2, 3\)"),
        ({"e_unit": "cal"}, "e_unit is 'cal'; known are"),
        ({"type": "m"}, "fitted sGDML model"),
    ],
)
def test_bad_npz_is_refused(tmp_path, change, message):
    arrays = {"z": np.array([1, 1]), "R": np.array([[[0, 0, 0], [0, 0, 0.8]]]), "E": np.array([-1.0])}
    arrays = {name: value for name, value in (arrays | change).items() if value is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_frames([tmp_path / "a.npz"])


def test_truncated_gz_is_refused(tmp_path):
    plain = write(tmp_path / "cut.extxyz", copper(), copper(1))
    packed = tmp_path / "cut.extxyz.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes())[:-200])
    with pytest.raises(DataError, match=r"cannot read .*cut.extxyz.gz .*cut off"):
        read_frames([packed])


def test_truncated_npz_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", z=[1], R=np.zeros((50, 1, 3)), E=np.zeros(50))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot read"):
        read_frames([tmp_path / "a.npz"])


# --- bad input -------------------------------------------------------------------------------------------------------


def test_missing_empty_foreign_and_truncated_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no data file given"):
        read_frames([])
    with pytest.raises(DataError, match="no data file at"):
        read_frames([tmp_path / "none.xyz"])
    (tmp_path / "empty.xyz").touch()
    with pytest.raises(DataError, match="is empty"):
        read_frames([tmp_path / "empty.xyz"])
    (tmp_path / "text.foo").write_text("hello\nworld\n")
    with pytest.raises(DataError, match=r"cannot read .* in any format"):
        read_frames([tmp_path / "text.foo"])
    path = write(tmp_path / "cut.extxyz", copper(), copper(1))
    path.write_text(path.read_text()[:-200])
    with pytest.raises(DataError, match=r"cannot read .*cut off"):
        read_frames([path])
    with pytest.raises(DataError, match="no structure at index '5:'"):
        read_frames([write(tmp_path / "a.traj", copper())], index="5:")


def test_structures_without_labels_are_refused_with_their_entries(tmp_path):
    atoms = copper(labelled=False)
    atoms.info["my_energy"] = -1.0
    with pytest.raises(DataError, match=r"no labels in any of the 1 structures .*my_energy"):
        read_frames([write(tmp_path / "a.extxyz", atoms)])


def test_nan_throughout_means_missing(tmp_path):
    atoms = copper()
    atoms.calc.results["stress"] = np.full(6, np.nan)
    (frame,) = read_frames([write(tmp_path / "a.traj", atoms)])
    assert frame.labels.stress is None
    assert frame.labels.energy is not None
    assert "stress" not in frame.provenance.origins


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_some_nan_is_an_error_that_names_the_structures(tmp_path, value):
    structures = [copper(seed) for seed in range(4)]
    for k in (1, 3):
        structures[k].calc.results["forces"][2, 0] = value
    with pytest.raises(
        DataError, match=r"a\.traj\[1\]: forces .*1 of 12 numbers NaN or Inf.*\(and 1 more: a\.traj\[3\]\)"
    ):
        read_frames([write(tmp_path / "a.traj", *structures)])


def test_wrong_shapes_are_refused(tmp_path):
    atoms = copper(labelled=False)
    atoms.info["REF_energy"] = -1.0
    for name, value, message in (
        ("REF_stress", np.zeros(5), r"stress \(REF_stress\) has shape \(5,\)"),
        ("REF_energy", np.zeros(2), r"energy \(REF_energy\) has shape \(2,\)"),
        ("REF_energy", "low", "energy .* is not numeric"),
    ):
        bad = atoms.copy()
        bad.info[name] = value
        with pytest.raises(DataError, match=message):
            read_frames([write(tmp_path / "a.extxyz", bad)])
    bad = atoms.copy()
    bad.arrays["REF_forces"] = np.zeros((4, 2))
    with pytest.raises(DataError, match=r"forces \(REF_forces\) has shape \(4, 2\); expected \(4, 3\)"):
        read_frames([write(tmp_path / "a.extxyz", bad)])


def test_two_atoms_on_one_spot_are_refused(tmp_path):
    good, bad = copper(), copper(1)
    bad += Atoms("Cu", [bad.positions[2] + [0, 0, 2e-4]])
    bad = single_point(bad, energy=-1.0)
    with pytest.raises(DataError, match=r"a\.traj\[1\]: atoms 2 and 4 are 2\.0e-04 Å apart; remove"):
        read_frames([write(tmp_path / "a.traj", good, bad)])


def test_doubled_periodic_image_is_refused(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms += Atoms("Cu", [atoms.positions[0] + atoms.cell.array[1]])
    with pytest.raises(DataError, match="atoms 0 and 4 are"):
        read_frames([write(tmp_path / "a.traj", single_point(atoms, energy=-1.0))])


def test_nan_positions_are_refused(tmp_path):
    atoms = single_point(molecule("H2O"), energy=-1.0)
    atoms.positions[1] = np.nan
    with pytest.raises(DataError, match=r"a\.traj\[0\]: positions of 1 atoms are NaN"):
        read_frames([write(tmp_path / "a.traj", atoms)])


def test_path_may_be_a_string_and_hold_an_at_sign(tmp_path):
    path = write(tmp_path / "run@2.traj", copper())
    assert len(read_frames([str(path)])) == 1
    assert isinstance(path, Path)
