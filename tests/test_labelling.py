"""Labelling: right labels in the right places, whatever the reference calculator and the machine do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.io.jsonio import encode
from label_calculators import SPRING, structures

from ase_mlcalc.cli import main
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.errors import ConfigError, DataError, MLCalcError
from ase_mlcalc.files import exclusive
from ase_mlcalc.labelling import label, level_of_theory, tasks
from ase_mlcalc.labelling.job import claim, label_job
from ase_mlcalc.labelling.journal import Entry, Journal
from ase_mlcalc.labelling.structures import bare, structure_key
from ase_mlcalc.labelling.tasks import Reference, calculate, prepare

TESTS = Path(__file__).parent
SPRINGS = "label_calculators:Springs"


def labelled(given, out, calculator=SPRINGS, arguments=None, **options):
    """`label` in one worker, without a bar."""
    options = {"workers": 1, "progress": False, **options}
    return label(given, calculator, out, arguments=arguments, **options)


def numbers(path):
    """Which of `structures` a file holds."""
    return [atoms.info["number"] for atoms in ase.io.read(path, ":")]


def calls(log):
    """Which structures were calculated."""
    return [int(line.split()[0]) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


# ----- labels -----


def test_labels_are_those_of_the_calculator(tmp_path):
    given = structures(3)
    given[1].pbc = False
    given[2].set_constraint(FixAtoms([0]))
    given[2].info |= {"REF_energy": 7.0, "level_of_theory": "old"}
    log = tmp_path / "log"
    result = labelled(given, tmp_path / "out.extxyz", arguments={"log": str(log)}, level="springs")
    assert (result.n_labelled, result.n_failed, result.n_calculated, result.level) == (3, 0, 3, "springs")
    frames = read_frames([tmp_path / "out.extxyz"])
    for k, (atoms, frame) in enumerate(zip(given, frames, strict=True)):
        assert frame.atoms.info["level_of_theory"] == "springs"
        assert "REF_energy" not in frame.atoms.info
        np.testing.assert_allclose(frame.labels.forces.numpy(), -SPRING * atoms.positions, atol=1e-8)
        assert np.abs(frame.labels.forces.numpy()[0]).max() > 0.05 or k == 0, "also of an atom that was fixed"
        # the free energy, which forces derive from
        assert frame.labels.energy.item() == pytest.approx(0.5 * SPRING * (atoms.positions**2).sum(), abs=1e-12)
    assert frames[1].labels.stress is None, "a molecule has none"
    assert frames[2].labels.stress[0, 1, 2].item() == pytest.approx(0.01 * 3 * 3)
    asked = [line.split()[1] for line in log.read_text(encoding="utf-8").splitlines()]
    assert asked == ["energy,forces,stress", "energy,forces", "energy,forces,stress"], "all in one call"


@pytest.mark.parametrize("calculator", ["Plain", "twice"])
def test_calculators_without_reset_keep_nothing_of_the_last_structure(tmp_path, calculator):
    given = structures(3)
    labelled(given, tmp_path / "out.extxyz", f"label_calculators:{calculator}")
    found = [atoms.get_potential_energy() for atoms in ase.io.read(tmp_path / "out.extxyz", ":")]
    times = 2.0 if calculator == "twice" else 1.0
    assert found == pytest.approx([times * 0.5 * SPRING * (atoms.positions**2).sum() for atoms in given], abs=1e-12)


def test_what_is_asked_for_is_what_is_written(tmp_path):
    labelled(structures(1), tmp_path / "forces.extxyz", properties=["forces"])
    (atoms,) = ase.io.read(tmp_path / "forces.extxyz", ":")
    assert set(atoms.calc.results) == {"forces"}
    with pytest.raises(MLCalcError, match="has no energies; it has energy, forces, free_energy, stress"):
        labelled(structures(1), tmp_path / "other.extxyz", properties=["energy", "energies"])
    with pytest.raises(ConfigError, match="no label is called force; labels are energy"):
        labelled(structures(1), tmp_path / "other.extxyz", properties=["force"])


def here(atoms, calculator, arguments=None, properties=None):
    """A calculation in this process."""
    return calculate(Reference(calculator, arguments or {}, properties, "scratch")._asdict(), encode(atoms))


def test_calculators_have_what_they_have():
    (atoms,) = structures(1)
    assert here(atoms, SPRINGS).keys() == {"energy", "forces", "stress"}
    assert here(atoms, "label_calculators:NoStress").keys() == {"energy", "forces"}
    assert here(atoms, "label_calculators:Plain").keys() == {"energy"}
    found = here(atoms, "ase.calculators.lj:LennardJones", {"rc": 3.0}, ["energy", "energies", "stresses"])
    assert np.array(found["stresses"]).shape == (2, 6)
    assert sum(found["energies"]) == pytest.approx(found["energy"])
    with pytest.raises(MLCalcError, match="has no forces"):
        prepare(Reference("label_calculators:Plain", {}, ["forces"], "scratch")._asdict())
    with pytest.raises(MLCalcError, match="forces that is NaN or infinite, 1 of 6"):
        here(atoms, SPRINGS, {"nan": [0]})
    atoms.positions[0] = np.nan
    with pytest.raises(MLCalcError, match="not finite"):
        here(atoms, SPRINGS)


def test_one_reference_never_labels_for_another():
    (atoms,) = structures(1)
    soft, hard = (here(atoms, SPRINGS, {"spring": spring})["energy"] for spring in (1.0, 4.0))
    assert hard == pytest.approx(4 * soft)
    assert here(atoms, "ase.calculators.lj:LennardJones")["energy"] != soft
    first = tasks._calculator(Reference(SPRINGS, {}, None, "scratch"))
    assert tasks._calculator(Reference(SPRINGS, {}, None, "scratch")) is first  # it is made once


def test_a_checkpoint_labels_as_its_calculator(tmp_path):
    import torch

    from ase_mlcalc import Baseline, Derived, MLCalculator, save
    from ase_mlcalc.model import lookup

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = lookup("schnet")(lookup("schnet").Config(features=4, n_interactions=1, cutoff=3.0))
    path = tmp_path / "model.safetensors"
    save(Derived(model, Baseline({6: -1.0, 8: -2.0})), path)
    made = tasks._make(Reference(str(path), None, None, "scratch"))
    assert isinstance(made, MLCalculator)
    level = level_of_theory(str(path), {})
    assert level.startswith("model.safetensors ")
    save(Derived(model, Baseline({6: -1.5, 8: -2.0})), path)
    assert level_of_theory(str(path), {}) != level
    with pytest.raises(DataError, match="cannot read the checkpoint gone"):
        labelled(structures(1), tmp_path / "x.extxyz", "gone")


def test_level_of_theory_is_method_and_program():
    level = level_of_theory("ase.calculators.emt:EMT", {})
    assert level == f"EMT (ase {ase.__version__})"
    level = level_of_theory("ase.calculators.emt:EMT", {"method": "GFN2-xTB", "accuracy": 0.1})
    assert level == f"GFN2-xTB accuracy=0.1 (ase {ase.__version__})"
    assert level_of_theory("label_calculators:Springs", {}) == "Springs (label_calculators)", "of no package"


# ----- what goes wrong -----


def test_failures_are_set_aside_and_tried_again_when_asked(tmp_path):
    given = structures(8)
    log = tmp_path / "log"
    bad = {"fails": [1], "nan": [2], "crashes": [4], "exits": [5], "hangs": [6]}
    arguments = {"log": str(log), **bad}
    result = labelled(given, tmp_path / "out.extxyz", arguments=arguments, timeout_s=3.0)
    assert (result.n_labelled, result.n_failed) == (3, 5)
    assert numbers(result.out) == [0, 3, 7]
    reasons = {atoms.info["number"]: atoms.info["label_failed"] for atoms in ase.io.read(result.failed, ":")}
    assert reasons[1] == "CalculationFailed: SCF not converged in 250 cycles"
    assert reasons[2] == "the calculator gave forces that is NaN or infinite, 1 of 6"
    assert reasons[4].startswith("its process was ended by SIGSEGV")
    assert reasons[5].startswith("its process ended by itself with status 3")
    assert reasons[6] == "took longer than 3 s and was stopped"
    assert "SCF not converged in 250 cycles" in (tmp_path / "out.labelling" / "label.log").read_text(encoding="utf-8")
    assert calls(log) == list(range(8))

    again = labelled(given, tmp_path / "out.extxyz", arguments=arguments, timeout_s=3.0)
    assert (again.n_labelled, again.n_failed, again.n_calculated) == (3, 5, 0)
    assert len(calls(log)) == 8, "not without being asked"
    # structures that were set aside carry no marks when they are given again
    first, second = ase.io.read(result.failed, ":2")
    assert [structure_key(bare(each)) for each in (first, second)] == [
        structure_key(bare(each)) for each in (given[1], given[2])
    ]


def test_a_failure_that_is_gone_leaves_no_file(tmp_path):
    flag = tmp_path / "flag"
    flag.touch()
    first = labelled(structures(2), tmp_path / "out.extxyz", "label_calculators:while_not", {"flag": str(flag)})
    assert (first.n_labelled, first.n_failed, first.out.exists()) == (0, 2, False)
    flag.unlink()
    kept = labelled(structures(2), tmp_path / "out.extxyz", "label_calculators:while_not", {"flag": str(flag)})
    assert kept.n_failed == 2
    again = labelled(
        structures(2), tmp_path / "out.extxyz", "label_calculators:while_not", {"flag": str(flag)}, retry=True
    )
    assert (again.n_labelled, again.n_failed, again.failed.exists()) == (2, 0, False)


def test_a_calculator_that_cannot_be_made_is_no_failure_of_structures(tmp_path):
    with pytest.raises(MLCalcError, match="cannot be started: no parameters for this calculator"):
        labelled(structures(2), tmp_path / "out.extxyz", "label_calculators:refuse")
    with pytest.raises(MLCalcError, match=r"does not take its arguments: .*unexpected keyword argument 'sprung'"):
        labelled(structures(2), tmp_path / "other.extxyz", arguments={"sprung": 1})
    assert not (tmp_path / "out.failed.extxyz").exists()


# ----- once and not again -----


def test_nothing_is_calculated_twice(tmp_path):
    log = tmp_path / "log"
    given = structures(4)
    labelled(given[:2], tmp_path / "out.extxyz", arguments={"log": str(log)})
    # more of them, in another order, one of them twice
    result = labelled([given[3], given[1], given[0], given[3]], tmp_path / "out.extxyz", arguments={"log": str(log)})
    assert (result.n_labelled, result.n_calculated) == (4, 1)
    assert calls(log) == [0, 1, 3]
    assert numbers(result.out) == [3, 1, 0, 3]


def test_what_a_calculator_could_see_tells_structures_apart():
    (atoms,) = structures(1)
    keys = [structure_key(atoms)]
    for change in ("charge", "magmom", "info", "cell", "pbc", "moved", "element"):
        other = atoms.copy()
        match change:
            case "charge":
                other.set_initial_charges([0.0, 1.0])
            case "magmom":
                other.set_initial_magnetic_moments([0.0, 1.0])
            case "info":
                other.info["charge"] = 1
            case "cell":
                other.cell[0, 0] += 1e-9
            case "pbc":
                other.pbc = False
            case "moved":
                other.positions[0, 0] += 1e-12
            case "element":
                other.numbers[0] = 7
        keys.append(structure_key(other))
    assert len(set(keys)) == len(keys)
    assert structure_key(atoms.copy()) == keys[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": {"spring": 2.0}}, r"arguments.spring \(was None, now 2.0\)"),
        ({"level": "other"}, r"level \(was 'Springs"),
        ({"properties": ["energy"]}, "properties"),
        ({"calculator": "label_calculators:NoStress"}, "calculator"),
    ],
)
def test_another_calculation_is_refused(tmp_path, change, message):
    out = tmp_path / "out.extxyz"
    (tmp_path / "out.labelling").mkdir()
    assert claim(label_job(SPRINGS, out, {}, None, None), has_results=False)
    with Journal(tmp_path / "out.labelling" / "journal.jsonl") as journal:
        journal.add(Entry("of a structure", results={"energy": 1.0}))
    with pytest.raises(ConfigError, match=message) as error:
        labelled(structures(1), out, **change)
    assert "choose another output" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_labelling_without_results_makes_room_for_another(tmp_path):
    """All failed, as with a misspelt method: the next command has other arguments and the same output."""
    out = tmp_path / "out.extxyz"
    assert labelled(structures(2), out, arguments={"fails": [0, 1]}).n_failed == 2
    again = labelled(structures(2), out, arguments={"spring": 2.0})
    assert (again.n_labelled, again.n_failed) == (2, 0)
    with pytest.raises(ConfigError, match="another calculation"):
        labelled(structures(2), out)


def test_files_of_others_are_safe(tmp_path):
    out = tmp_path / "mine.extxyz"
    out.write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigError, match="was not written by this command"):
        labelled(structures(1), out)
    assert out.read_text(encoding="utf-8") == "precious"
    with pytest.raises(ConfigError, match=r"ends in \.extxyz"):
        labelled(structures(1), tmp_path / "out.traj")
    with pytest.raises(DataError, match="no structures"):
        labelled([], tmp_path / "out.extxyz")


def test_a_second_process_is_refused(tmp_path):
    (tmp_path / "out.labelling").mkdir()
    with exclusive(tmp_path / "out.labelling"), pytest.raises(ConfigError, match="another process"):
        labelled(structures(1), tmp_path / "out.extxyz")


# ----- kills -----


def test_a_journal_that_was_cut_at_any_byte_loses_one_line(tmp_path):
    whole = tmp_path / "whole"
    with Journal(whole) as journal:
        journal.add(Entry("a", {"energy": 1.5}))
        journal.add(Entry("b", error="did not converge"))
        journal.add(Entry("c", {"energy": 1.0 / 3.0}))
    content = whole.read_bytes()
    ends = [k + 1 for k, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        path = tmp_path / "cut"
        path.write_bytes(content[:size])
        with Journal(path) as journal:
            there = [key for key in "abc" if key in journal]
            assert there == list("abc")[: sum(end <= size for end in ends)]
            journal.add(Entry("d", {"energy": 4.0}))
        with Journal(path) as journal:
            assert [key for key in "abcd" if key in journal] == [*there, "d"]
            assert journal.results("d") == {"energy": 4.0}
            assert journal.n_damaged == 0
            assert journal.failed == ({"b": "did not converge"} if "b" in there else {})
            assert "c" not in there or journal.results("c") == {"energy": 1.0 / 3.0}


def test_a_damaged_line_counts_as_never_written(tmp_path):
    path = tmp_path / "journal"
    with Journal(path) as journal:
        for key in "abc":
            journal.add(Entry(key, {"energy": 1.0}))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * 20 + b"\n" + lines[2])
    with Journal(path) as journal:
        assert [key for key in "abc" if key in journal] == ["a", "c"]
        assert journal.n_damaged == 1
        assert journal.results("c") == {"energy": 1.0}


def test_who_goes_on_is_told_what_was_lost(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("in.extxyz", structures(2))
    words = ["label", "in.extxyz", "--calculator", SPRINGS, "--out", "out.extxyz", "--workers", "1"]
    assert main(words) == 0
    journal = Path("out.labelling/journal.jsonl")
    journal.write_bytes(b"\0" * 20 + b"\n" + journal.read_bytes().splitlines(keepends=True)[1])
    capsys.readouterr()
    assert main(words) == 0
    assert "1 lines of the journal could not be read" in capsys.readouterr().out
    assert "1 lines of journal.jsonl cannot be read" in Path("out.labelling/label.log").read_text(encoding="utf-8")
    assert numbers("out.extxyz") == [0, 1]


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_killed_labelling_goes_on(tmp_path, how):
    ase.io.write(tmp_path / "in.extxyz", structures(12))
    log = tmp_path / "log"
    program = (
        "import sys, ase.io; from ase_mlcalc.labelling import label\n"
        f"label(ase.io.read('in.extxyz', ':'), '{SPRINGS}', 'out.extxyz', arguments={{'log': 'log', 'seconds': 0.2}},\n"
        "      workers=2, progress=False)"
    )
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    journal = tmp_path / "out.labelling" / "journal.jsonl"
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3)
    process.send_signal(how)
    process.communicate(timeout=60)
    done = journal.read_bytes().count(b"\n")
    assert 3 <= done < 12
    before = calls(log)
    assert len(before) - done <= 2, "what was at work"
    if how == signal.SIGINT:
        assert done - 1 <= len(numbers(tmp_path / "out.extxyz")) <= done, "an interrupt leaves what there is"
    finished = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(TESTS)}, cwd=tmp_path, check=False
    )
    assert finished.returncode == 0
    assert numbers(tmp_path / "out.extxyz") == list(range(12))
    assert len(calls(log)) - len(before) == 12 - done, "none of those that had come to an end"


# ----- side by side -----


@pytest.mark.parametrize("name", ["Files", "Shell"])
def test_processes_share_the_cores_and_no_folder(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = labelled(structures(6), tmp_path / "out.extxyz", f"label_calculators:{name}", workers=2)
    energies = [atoms.get_potential_energy() for atoms in ase.io.read(result.out, ":")]
    assert energies == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    folders = list((tmp_path / "out.labelling" / "scratch").iterdir())
    assert len(folders) == 2
    assert all(len(list(folder.iterdir())) == 1 for folder in folders)


def test_calculators_without_files_leave_no_folder(tmp_path):
    labelled(structures(2), tmp_path / "out.extxyz")
    assert not list((tmp_path / "out.labelling").glob("scratch/*"))


# ----- the command line -----


def test_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("a.extxyz", structures(2))
    ase.io.write("b.extxyz", structures(4)[2:])
    words = ["label", "a.extxyz", "b.extxyz", "--calculator", SPRINGS, "--arg", "spring=2", "--arg", "fails=[2]"]
    words += ["--out", "out.extxyz", "--workers", "1", "--level", "soft springs"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "label: 4/4" in printed
    assert "wrote out.extxyz: 3 structures at soft springs" in printed
    assert "1 structures failed; out.failed.extxyz says why" in printed
    assert numbers("out.extxyz") == [0, 1, 3]
    assert json.loads(Path("out.labelling/job.json").read_text(encoding="utf-8"))["arguments"] == {
        "spring": 2,
        "fails": [2],
    }
    assert "journal" not in printed
    assert main([*words[:-2], "--level", "hard"]) == 1
    assert "level (was 'soft springs', now 'hard')" in capsys.readouterr().err


def test_real_references(tmp_path):
    """GFN2-xTB of a water molecule and of one in a box, beside the calculator called directly."""
    tblite = pytest.importorskip("tblite.ase")
    free = molecule("H2O")
    box = molecule("H2O", cell=[6.0, 6.0, 6.0], pbc=True)
    box.rattle(0.05, seed=1)
    arguments = {"method": "GFN2-xTB", "verbosity": 0}
    result = labelled([free, box], tmp_path / "out.extxyz", "tblite.ase:TBLite", arguments)
    for atoms, found in zip([free, box], ase.io.read(result.out, ":"), strict=True):
        atoms.calc = tblite.TBLite(**arguments)
        assert found.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(found.get_forces(), atoms.get_forces(), atol=1e-6)
    assert np.abs(box.get_forces()).max() > 0.1
    np.testing.assert_allclose(found.get_stress(), box.get_stress(), atol=1e-9)
    assert "stress" not in ase.io.read(result.out, "0").calc.results
    assert result.level.startswith("GFN2-xTB verbosity=0 (tblite ")
