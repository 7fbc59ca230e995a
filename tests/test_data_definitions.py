"""Per-atom stress of several definitions: pointed out, and neither learned from nor measured on."""

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from training_cases import crystals, make_job, write

from ase_mlcalc import checkpoint
from ase_mlcalc.data.audit import audit
from ase_mlcalc.data.definitions import definitions, refuse_other_definitions, what_is_not_named
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.errors import DataError
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.train import train

ENERGIES, STRESSES = frozenset({"energies"}), frozenset({"stresses"})
WORDS = "LAMMPS stress/atom: pairs, bonds and angles in equal parts to their atoms"


def labelled(names):
    """Crystals with per-atom stress that is said to be by these definitions."""
    structures = crystals(len(names))
    for atoms, name in zip(structures, names, strict=True):
        stresses = np.tile(atoms.get_stress() / len(atoms), (len(atoms), 1))
        atoms.calc = SinglePointCalculator(atoms, **atoms.calc.results, stresses=stresses)
        if name:
            atoms.info["stress_definition"] = name
    return structures


def read(folder, names):
    return read_frames([write(folder / "frames.extxyz", labelled(names))])


def test_several_are_counted_and_pointed_out(tmp_path):
    frames = read(tmp_path, ["edge", "heat", "heat", ""])
    assert definitions(frames) == {"heat": 2, "edge": 1, "": 1}
    told = [problem.message for problem in audit(frames).problems if "definitions" in problem.message]
    assert [text.split(";")[0] for text in told] == [
        "per-atom stresses of several definitions in one data set: heat (2), edge (1), not stated (1)"
    ]
    only_one = audit(read(tmp_path, ["heat", "heat", ""])).problems
    assert not [problem for problem in only_one if "definitions" in problem.message]


@pytest.mark.parametrize(
    ("names", "outputs", "message"),
    [
        (["edge", "heat"], ENERGIES, r"edge \(1\), heat \(1\).*train.loss.stresses = 0"),
        (["edge", "heat"], STRESSES, r"edge \(1\), heat \(1\).*train.loss.stresses = 0"),
        ([WORDS, "", "edge"], STRESSES, r"equal parts to their atoms \(1\), not stated \(1\), edge \(1\)"),
        (["heat", "heat"], ENERGIES, r"definition 'heat'.*outputs \['energies'\] gives definition 'edge'"),
        (["site", ""], frozenset({"edge_forces"}), r"definition 'site'.*gives definition 'edge'"),
        (["edge", ""], ENERGIES, None),
        (["", ""], ENERGIES, None),
        ([WORDS, WORDS], ENERGIES, None),  # may well be what the model gives
        (["heat", ""], STRESSES, None),
    ],
)
def test_what_can_be_learned(tmp_path, names, outputs, message):
    frames = read(tmp_path, names)
    if message is None:
        refuse_other_definitions(frames, outputs)
        return
    with pytest.raises(DataError, match=message):
        refuse_other_definitions(frames, outputs)


def test_training_refuses_only_what_it_learns(tmp_path):
    file = write(tmp_path / "heat.extxyz", labelled(["heat"] * 5 + ["edge"]))
    with pytest.raises(DataError, match=r"heat \(5\), edge \(1\)"):  # wherever the other one is, in training or not
        train(make_job(tmp_path / "learned", file, max_epochs=1, loss={"stresses": 1.0}), progress=False)
    result = train(make_job(tmp_path / "left", file, max_epochs=1), progress=False)
    assert checkpoint.read_header(result.checkpoint).provenance["labels"].keys() == {"energy", "forces", "stress"}


def test_training_warns_where_nobody_will_know_the_definition(tmp_path, capsys):
    model = {"name": "stress_gat", "cutoff": 4.0}
    structures = labelled(["", ""])
    for atoms in structures:
        atoms.set_velocities(0.02 * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    train(make_job(tmp_path / "run", write(tmp_path / "none.extxyz", structures), model=model, max_epochs=1))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(told) == 1
    assert "no structure names the definition" in told[0]
    assert "info['stress_definition']" in told[0]


def test_structures_that_name_none_are_taken_for_the_others(tmp_path):
    assert what_is_not_named(read(tmp_path, ["heat", "heat"])) == ""
    assert what_is_not_named(read(tmp_path, ["heat", "", ""])).startswith("2 of 3 structures do not name")


def test_what_was_learned_by_another_definition_is_not_measured(tmp_path):
    model = {"name": "stress_gat", "cutoff": 4.0}

    def file(name, count):
        structures = labelled([name] * count)
        for atoms in structures:
            atoms.set_velocities(0.02 * np.random.default_rng(0).standard_normal((len(atoms), 3)))
        return write(tmp_path / f"of-{name[:6]}.extxyz", structures)

    result = train(make_job(tmp_path / "run", file("heat", 4), model=model, max_epochs=1), progress=False)
    with pytest.raises(DataError, match=r"by definition 'site', and the model learned that of its labels: heat"):
        evaluate_files(result.checkpoint, [file("site", 2)], tmp_path / "out")
    for name in ("heat", "", WORDS):
        assert evaluate_files(result.checkpoint, [file(name, 2)], tmp_path / "out").stresses_r2 is not None
