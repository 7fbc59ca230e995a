"""Active learning: what is chosen and why, when it ends, and that a kill costs nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import active_cases
import ase.io
import numpy as np
import pytest
from active_cases import calls, crystals, job, labelled, raw_job
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure

from ase_mlcalc import checkpoint
from ase_mlcalc.active import LearnJob, learn, read_learned, rounds
from ase_mlcalc.active.assess import Assessed, _unphysical, frames_of, run_files
from ase_mlcalc.active.choose import choose
from ase_mlcalc.active.data import divide
from ase_mlcalc.active.ends import end_of, next_length_ps, verdict
from ase_mlcalc.active.files import read_written, round_files
from ase_mlcalc.active.identity import claim
from ase_mlcalc.active.measure import force_rms
from ase_mlcalc.active.page import _kind, _unlabelled_section, write_learn_report
from ase_mlcalc.active.picture import draw_errors, draw_labels, draw_learning, draw_spread, draw_survival
from ase_mlcalc.active.summary import RoundSummary
from ase_mlcalc.active.trust import Trust, trust
from ase_mlcalc.cli import main
from ase_mlcalc.cli.templates import template_of
from ase_mlcalc.config import validate
from ase_mlcalc.data.geometry import fingerprint
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError, DataError, MLCalcError
from ase_mlcalc.md.monitors.base import Setting
from ase_mlcalc.md.monitors.config import DistancesConfig
from ase_mlcalc.md.monitors.distances import Distances
from ase_mlcalc.plots import new_axes, new_figure
from ase_mlcalc.study.plan import plan

savefig = Figure.savefig
LEVELS = Trust(0.1, 0.4, 0.03, 1.0, 0.5)

# ----- which frames -----


def assessed(features, uncertainty, *, apart_fs=100.0, at_stop=(), unphysical=None):
    """Frames of a run, the first of which is not its start."""
    n = len(uncertainty)
    stops = np.zeros(n, dtype=bool)
    stops[list(at_stop)] = True
    return Assessed(
        features=np.array(features, dtype=float).reshape(n, -1 if n else 0),
        uncertainty_eV_per_A=np.array(uncertainty, dtype=float),
        atom=np.zeros(n, dtype=int),
        step=np.arange(1, n + 1),
        time_ps=np.arange(1, n + 1) * apart_fs / 1000.0,
        at_stop=stops,
        place=np.arange(n),
        unphysical=np.array([(unphysical or {}).get(k, "") for k in range(n)]),
    )


def order(decisions):
    """(run, frame) of the chosen ones, the first one first."""
    chosen = sorted((one for one in decisions if one.rank is not None), key=lambda one: one.rank)
    return [(one.run, one.frame) for one in chosen]


KNOWN = np.array([[0.0, 0.0], [1.0, 0.0]])


def test_only_uncertain_frames_are_chosen_and_each_has_a_reason():
    run = assessed(
        [[5, 5], [6, 6], [7, 7], [8, 8], [1, 0]], [0.09, 0.2, 2.0, np.nan, 0.3], unphysical={3: "Cu0-Cu1 is 0.3 Å"}
    )
    found = choose([run], KNOWN, LEVELS, 10)
    assert order(found) == [(0, 1)]
    assert [one.why.split(",")[0] for one in found] == [
        "below the threshold",
        "uncertain",
        "too far from what is known to be believed",
        "Cu0-Cu1 is 0.3 Å",
        "the same as a structure that has a label",
    ]


def test_uncertainty_and_difference_both_count():
    twice_as_far = choose([assessed([[2, 4], [2, 2]], [0.2, 0.2])], KNOWN, LEVELS, 1)
    assert order(twice_as_far) == [(0, 0)]
    more_uncertain = choose([assessed([[2, 2.4], [2, 2]], [0.2, 0.38])], KNOWN, LEVELS, 1)
    assert order(more_uncertain) == [(0, 1)]


def test_copies_are_chosen_once():
    run = assessed([[9, 9], [9, 9], [9, 9], [4, 4]], [0.39, 0.38, 0.37, 0.11])
    found = choose([run], KNOWN, LEVELS, 3)
    assert order(found) == [(0, 0), (0, 3)]


def test_frames_of_a_run_are_apart_in_time_and_those_of_two_need_not_be():
    features = [[2, 1], [3, 2], [4, 3], [5, 9]]
    near = choose([assessed(features, [0.3] * 4, apart_fs=5.0)], KNOWN, LEVELS, 4)
    assert order(near) == [(0, 3)]
    assert {one.why for one in near if one.rank is None} == {"within 20 fs of a chosen frame"}
    two = [assessed([feature], [0.3], apart_fs=5.0) for feature in features]
    assert len(order(choose(two, KNOWN, LEVELS, 4))) == 4


def test_each_failed_run_gives_a_frame_whatever_the_committee_thought_of_it():
    """Where a monitor stops a run about which the committee is sure, the committee is wrong."""
    sure = [assessed([[3, 3 + k], [3.1, 3 + k]], [0.01, 0.02], at_stop=[0, 1]) for k in range(3)]
    unsure = assessed([[9, 9], [9, -9]], [0.39, 0.39])
    found = choose([unsure, *sure], KNOWN, LEVELS, 5)
    assert sorted(run for run, _ in order(found)[:3]) == [1, 2, 3]
    assert order(found)[3:] in ([(0, 0), (0, 1)], [(0, 1), (0, 0)])
    assert [run for run, _ in order(choose([unsure, *sure], KNOWN, LEVELS, 2))].count(0) == 0


def test_fewer_are_the_first_of_more():
    rng = np.random.default_rng(3)
    runs = [assessed(rng.normal(size=(30, 4)), rng.uniform(0.1, 0.5, 30)) for _ in range(3)]
    known = rng.normal(size=(5, 4))
    assert order(choose(runs, known, LEVELS, 4)) == order(choose(runs, known, LEVELS, 12))[:4]
    assert len(order(choose(runs, known, LEVELS, 12))) == 12


def test_runs_without_a_frame_are_no_obstacle():
    empty = assessed(np.zeros((0, 0)), [])
    assert choose([empty], KNOWN, LEVELS, 3) == []
    assert order(choose([empty, assessed([[3, 3]], [0.2])], KNOWN, LEVELS, 3)) == [(1, 0)]


# ----- when it ends -----


def summary(number=0, **given):
    values = {
        "number": number, "n_asked": 10, "n_failed": 0, "n_training": 9, "n_validation": 1, "model": "m",
        "trained": True, "threshold_eV_per_A": 0.1, "stop_eV_per_A": 0.5, "planned_ps": 0.32, "n_runs": 2,
        "n_stable": 2, "mean_survival_ps": 0.3, "n_frames": 100, "n_uncertain": 5, "n_chosen": 5, **given,
    }  # fmt: skip
    return RoundSummary(**values)


@pytest.mark.parametrize(
    ("found", "end"),
    [
        ({}, "stable"),
        ({"n_uncertain": 11}, None),
        ({"n_uncertain": 11, "n_chosen": 0}, "nothing new"),
        ({"n_stable": 1}, None),
        ({"n_stable": 1, "n_chosen": 0}, "nothing new"),
        ({"n_stable": 1, "n_asked": 40}, "labels"),
        ({"planned_ps": 0.08}, None),
        ({"planned_ps": 0.08, "n_asked": 40, "n_chosen": 0}, None),  # longer runs need no label
    ],
)
def test_how_it_ends(tmp_path, found, end):
    given = job(tmp_path)
    assert end_of(given, [summary(**found)]) == end
    assert (verdict(given, [summary(**found)], end).split(":")[0] == "stable") == (end == "stable")


def test_a_committee_that_knows_not_even_the_start_is_to_be_trained(tmp_path):
    found = summary(n_stable=0, n_frames=0, n_uncertain=0, n_chosen=0, outcomes={"UNCERTAIN": 2})
    words = verdict(job(tmp_path), [found], "nothing new")
    assert "all 2 runs stopped where they began (2 UNCERTAIN)" in words
    assert "train.max_epochs" in words
    assert "%" not in words


def test_rounds_are_a_budget_and_may_be_raised(tmp_path):
    failing = [summary(k, n_stable=1, n_asked=1) for k in range(2)]
    assert end_of(job(tmp_path), failing) == "rounds"
    assert end_of(job(tmp_path, rounds=3), failing) is None
    assert end_of(job(tmp_path, rounds=3, max_labels=2), failing) == "labels"


def test_runs_get_longer_when_all_survive(tmp_path):
    given = job(tmp_path)
    assert next_length_ps(job(tmp_path, first_ps=None), []) == 0.02, "a sixteenth of 0.32"
    assert next_length_ps(given, []) == 0.16
    assert next_length_ps(given, [summary(planned_ps=0.02)]) == 0.08
    assert next_length_ps(given, [summary(planned_ps=0.02, n_stable=1)]) == 0.02
    assert next_length_ps(given, [summary(planned_ps=0.2)]) == 0.32


def test_no_two_rounds_have_a_seed_in_common(tmp_path):
    table = job(tmp_path).study.model_copy(update={"seeds": (0, 3, 7)})
    seeds = [seed for number in range(20) for seed in table.seeds_of(number)]
    assert len(set(seeds)) == len(seeds) == 60


# ----- trust levels -----


def test_the_size_of_forces_is_that_of_what_has_labels():
    def with_labels(**results):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
        atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms

    forces = np.array([[3.0, 0, 4.0], [np.nan, 0, 0]])
    assert force_rms([with_labels(energy=1.0, forces=forces), with_labels(energy=2.0)]) == 5.0
    assert force_rms([with_labels(energy=2.0)]) == 0.0


def with_calibration(tmp_path, **forces):
    files = round_files(tmp_path / "out", 0)
    files.model.mkdir(parents=True)
    entry = {"error_rms": 0.05, "scale": 2.0, "rank_correlation": 0.6, **forces}
    (files.model / "calibration.json").write_text(json.dumps({"properties": {"forces": entry}}), encoding="utf-8")
    return files


def test_levels_follow_from_the_calibration(tmp_path):
    files = with_calibration(tmp_path)
    assert trust(job(tmp_path), files, 0.4)[:4] == pytest.approx((0.15, 0.5, 0.05, 2.0))
    assert trust(job(tmp_path, threshold_eV_per_A=0.3), files, 0.4)[:2] == pytest.approx((0.3, 0.9))
    assert trust(job(tmp_path, threshold_eV_per_A=0.3, stop_eV_per_A=0.4), files, 0.4)[:2] == (0.3, 0.4)
    assert trust(job(tmp_path, stop_eV_per_A=0.1), files, 0.4)[:2] == pytest.approx((0.15, 0.15))


def test_levels_fall_and_do_not_rise(tmp_path):
    files = with_calibration(tmp_path)
    before = [summary(threshold_eV_per_A=0.4), summary(threshold_eV_per_A=0.12)]
    assert trust(job(tmp_path), files, 0.4, before)[0] == 0.12
    assert trust(job(tmp_path), files, 0.4, [summary(threshold_eV_per_A=0.4)])[0] == pytest.approx(0.15)


def test_a_run_does_not_end_the_sooner_the_better_the_committee_is(tmp_path):
    files = with_calibration(tmp_path)
    assert trust(job(tmp_path), files, 2.6)[:2] == pytest.approx((0.15, 1.3))
    assert trust(job(tmp_path), files, 40.0)[:2] == pytest.approx((0.15, 2.0))
    assert trust(job(tmp_path, stop_eV_per_A=0.7), files, 2.6)[:2] == pytest.approx((0.15, 0.7))


def test_a_committee_that_has_learned_nothing_is_not_trusted(tmp_path):
    files = with_calibration(tmp_path, error_rms=6.0)
    assert trust(job(tmp_path), files, 0.4)[:2] == pytest.approx((2 / 3, 2.0))
    assert trust(job(tmp_path, threshold_eV_per_A=1.0), files, 0.4)[:2] == pytest.approx((1.0, 3.0))


def test_without_a_calibration_a_threshold_is_needed(tmp_path):
    files = round_files(tmp_path / "out", 0)
    with pytest.raises(DataError, match=r"learn.threshold_eV_per_A"):
        trust(job(tmp_path), files, 0.4)
    assert trust(job(tmp_path, threshold_eV_per_A=0.2), files, 0.4)[:4] == (0.2, pytest.approx(0.6), None, None)


def test_what_is_held_back_stays_held_back():
    structures = crystals(45, 0.1, 5)
    before: set[str] = set()
    for count in (2, 11, 12, 30, 45):
        training, validation = divide(structures[:count])
        names = [{fingerprint(atoms) for atoms in part} for part in (training, validation)]
        assert len(names[0]) + len(names[1]) == count
        assert before <= names[1]
        before = names[1]
    assert len(before) == 5


# ----- a whole learning -----


@pytest.fixture(scope="module")
def in_process():
    """No worker processes and no pictures, which take longer than all the rest here and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda _, path, **__: Path(path).write_bytes(b"a picture"))
        patch.setattr("ase_mlcalc.active.run.write_learn_report", lambda _: None)
        for module in ("labelling.run", "study.run", "active.rounds"):
            patch.setattr(f"ase_mlcalc.{module}.work_on", active_cases.here)
        yield patch


@pytest.fixture(scope="module")
def learned(tmp_path_factory, in_process):
    folder = tmp_path_factory.mktemp("learned")
    return folder, learn(job(folder), progress=False)


def test_labels_are_learned_and_none_is_asked_for_twice(learned):
    folder, found = learned
    made = calls(folder)
    assert len(made) == len(set(made)) == found.n_labels
    assert found.end in ("rounds", "stable")
    assert len(found.rounds) > 1
    assert found.rounds[0].n_asked == 22
    assert all(0 < each.n_asked <= 5 for each in found.rounds[1:])
    assert [each.n_training + each.n_validation for each in found.rounds] == np.cumsum(
        [each.n_asked - each.n_failed for each in found.rounds]
    ).tolist()
    assert found.rounds[-1].test.n_structures == 5
    assert found.rounds[-1].test.force_mae_meV_per_A < found.rounds[0].test.force_mae_meV_per_A
    assert read_learned(folder / "out") == found
    last = folder / "out" / found.rounds[-1].model
    assert (folder / "out" / "model.safetensors").read_bytes() == last.read_bytes()
    assert len(checkpoint.load(folder / "out" / "model.safetensors").members) == 2
    assert isinstance(checkpoint.load(last), Ensemble)


def test_each_round_goes_on_from_the_committee_before(learned):
    folder, found = learned
    for number in range(1, len(found.rounds)):
        header = checkpoint.read_header(folder / "out" / found.rounds[number].model)
        before = str(folder / "out" / found.rounds[number - 1].model)
        assert [one["train"]["start_from"] for one in header.provenance["members"]] == [before, before]
        assert [one["train"]["start_member"] for one in header.provenance["members"]] == [1, 2]
        assert header.provenance["members"][0]["train"]["max_epochs"] == 6
        assert header.provenance["members"][0]["train"]["learning_rate"] == 0.008


def test_chosen_frames_are_what_the_committee_met(learned):
    folder, found = learned
    given = job(folder)
    files = round_files(given.learn.output, 0)
    chosen = read_written(files.chosen)
    assert len(chosen) == found.rounds[0].n_chosen > 0
    study = given.exploration(files.study, files.checkpoint, given.study.structures, 0, 0.16, 1.0)
    runs = {run.folder: run for run in plan(study)}
    for atoms in chosen:
        frames = [frame for frame, _, _ in frames_of(run_files(runs[atoms.info["run"]], files.study))]
        near = min(np.abs(frame.positions - atoms.positions).max() for frame in frames)
        assert near < 1e-6
        assert atoms.calc is None
        assert not atoms.has("momenta")
    asked = read_written(round_files(given.learn.output, 1).asked)
    assert [fingerprint(atoms) for atoms in asked] == [fingerprint(atoms) for atoms in chosen[: len(asked)]]


def test_what_is_said_of_close_atoms_is_counted_as_such():
    near = Atoms("H2", [[0, 0, 0], [0, 0, 0.41]])
    why = _unphysical(near, Distances(DistancesConfig(), Setting(near)))
    assert why == "H0-H1 is 0.41 Å, closer than 0.50 Å"
    assert _kind(why, chosen=False) == "atoms too close"


def test_every_decision_is_put_down(learned):
    folder, found = learned
    with open(folder / "out" / "decisions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for each in found.rounds:
        own = [row for row in rows if int(row["round"]) == each.number]
        assert sum(bool(row["chosen"]) for row in own) == each.n_chosen
        assert len(own) >= each.n_frames + each.n_runs, "and the starts"
        for row in own:
            assert row["why"]
            if row["why"] == "below the threshold":
                assert float(row["expected_error_eV_per_A"]) <= each.threshold_eV_per_A * (1 + 1e-4)
            if row["why"].startswith("uncertain"):
                assert float(row["expected_error_eV_per_A"]) > each.threshold_eV_per_A * (1 - 1e-4)
                assert row["chosen"]


def test_the_report_says_how_it_went(learned, tmp_path, monkeypatch):
    folder, found = learned
    monkeypatch.setattr(Figure, "savefig", savefig)
    draw_learning(tmp_path / "learn.png", found)
    assert (tmp_path / "learn.png").read_bytes().startswith(b"\x89PNG")
    page = write_learn_report(folder / "out").read_text(encoding="utf-8")
    assert f"{found.n_labels} reference calculations" in page
    for heading in ("From round to round", "Decisions", "Provenance", f"Survival in round {len(found.rounds) - 1}"):
        assert heading in page
    before = (folder / "out" / "report.html").read_bytes()
    (folder / "out" / "report.html").unlink()
    assert main(["report", str(folder / "out")]) == 0
    assert (folder / "out" / "report.html").read_bytes() == before
    assert main(["report", str(tmp_path)]) == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pictures_of_few_rounds_have_whole_numbers_and_reach_the_actual_error(count):
    quantiles = (0.01, 0.02, 0.05, 0.1, 0.3)
    rounds = [
        summary(
            number=k,
            error_rms_eV_per_A=4.0,
            uncertainty_eV_per_A=quantiles if k else None,
            validation={"n_structures": 1, "n_atoms": 2, "force_mae_meV_per_A": 900.0},
        )
        for k in range(count)
    ]
    for draw in (draw_spread, draw_errors, draw_labels, draw_survival):
        axes = new_axes(new_figure(5, 3), 1, 1, 0)
        draw(axes, rounds)
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks == list(range(count))
        if draw is draw_spread:
            low, high = axes.get_ylim()
            assert high > 4.0
            assert low < (0.01 if count > 1 else 0.1)
            assert any("no frames" in text.get_text() for text in axes.texts) == (count == 1)


def test_the_same_command_does_nothing_again_and_more_rounds_go_on(learned):
    folder, found = learned
    made = calls(folder)
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "out").glob("round-*/**/*") if path.is_file()}
    again = learn(job(folder), progress=False)
    assert again.rounds == found.rounds
    assert calls(folder) == made
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    other = job(folder)
    with pytest.raises(ConfigError, match=r"learn.labels_per_round \(was 5, now 6\)"):
        learn(job(folder, labels_per_round=6), progress=False)
    changed = other.model_copy(update={"tune": {**other.tune, "max_epochs": 5}})
    with pytest.raises(ConfigError, match=r"tune.max_epochs \(was 6, now 5\)"):
        learn(changed, progress=False)


class Killed(BaseException):
    """As a signal, nothing of the package catches it."""


STEPS = ("label", "write_structures", "train", "run_study", "read_assessed", "choose", "write_decisions", "write_round")


def test_a_kill_after_any_step_changes_nothing(learned, tmp_path, in_process):
    """Killed after the first call of each step in turn, the learning is the same as one that was not."""
    _, undisturbed = learned
    killed = []
    for step in STEPS:
        real = getattr(rounds, step)

        def dies(*arguments, real=real, **named):
            real(*arguments, **named)
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rounds, step, dies)
            with pytest.raises(Killed):
                learn(job(tmp_path), progress=False)
        killed.append(step)
    found = learn(job(tmp_path), progress=False)
    assert killed == list(STEPS)
    assert len(calls(tmp_path)) == len(set(calls(tmp_path))) == found.n_labels
    assert sorted(calls(tmp_path)) == sorted(calls(learned[0]))

    def numbers(one):
        return [each.model_dump(exclude={"minutes"}) for each in one.rounds]

    assert numbers(found) == numbers(undisturbed)


def test_structures_that_cannot_be_calculated_are_set_aside(tmp_path, in_process):
    raw = raw_job(tmp_path, rounds=1, test=[], threshold_eV_per_A=0.2)
    raw["learn"]["reference"]["calculator_arguments"]["fails_below_A"] = 2.44
    raw["train"]["max_epochs"] = 4
    found = learn(validate(LearnJob, raw, "learn"), progress=False)
    first = found.rounds[0]
    assert 0 < first.n_failed < 22
    assert first.n_training + first.n_validation == 22 - first.n_failed
    assert first.test is None
    page = _unlabelled_section(found, tmp_path / "out")
    assert "SCF not converged" in str(page)
    raw["learn"] |= {"output": str(tmp_path / "none")}
    raw["learn"]["reference"]["calculator_arguments"]["fails_below_A"] = 9.0
    with pytest.raises(DataError, match=r"too few to learn from.*SCF not converged"):
        learn(validate(LearnJob, raw, "learn"), progress=False)


def test_clusters_without_a_cell_and_labels_that_are_there(tmp_path, in_process):
    """Labelled structures are used as they are: the reference is asked for nothing in the first round."""
    rng = np.random.default_rng(2)
    known = []
    for _ in range(12):
        atoms = active_cases.cluster()
        atoms.rattle(0.05, rng=rng)
        known.append(labelled(atoms))
    ase.io.write(tmp_path / "known.extxyz", known)
    raw = raw_job(tmp_path, rounds=1, test=[], start=[], labelled=str(tmp_path / "known.extxyz"), first_ps=0.04)
    raw["study"] |= {"structures": None, "temperatures_K": [300]}
    raw["train"]["max_epochs"] = 4
    found = learn(validate(LearnJob, raw, "learn"), progress=False)
    assert calls(tmp_path) == []
    assert (found.n_labels, found.rounds[0].n_training, found.rounds[0].n_validation) == (0, 10, 2)
    assert found.rounds[0].n_runs == 8 * 2, "two seeds for the eight structures that differ most"
    assert found.rounds[0].validation.stress_mae_GPa is None


# ----- what is refused -----


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        ("learn", {"start": [], "labelled": []}, "nothing to start from"),
        ("learn", {"threshold_eV_per_A": 0.5, "stop_eV_per_A": 0.4}, "is not above threshold_eV_per_A = 0.5"),
        ("learn", {"first_ps": 3.0}, "is above md.time_ps = 0.32"),
        ("learn", {"round": 3}, "did you mean 'rounds'"),
        ("train", {"members": 1}, "greater than or equal to 2"),
        ("train", {"max_epochs": None}, "training would never end"),
        ("tune", {"max_epoch": 3}, "max_epoch"),
        ("model", {"name": None}, 'needs name = "..."'),
        ("md", {"temperature_K": 300}, "temperature_K is filled in from study.temperatures_K"),
        ("md", {"monitors_every_fs": 0}, "without monitors nothing is found"),
        ("md", {"monitors": {"committee": {"use": False}}}, "filled in from learn.stop_eV_per_A"),
        ("study", {"seeds": [50_000]}, "need seeds above 100000"),
        ("study", {"seeds": []}, "the list is empty"),
        ("study", {"temperatures_K": [0.026]}, "302 K"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, table, given, message):
    raw = raw_job(tmp_path)
    raw[table] = {**raw[table], **given}
    with pytest.raises(ConfigError, match=message) as error:
        validate(LearnJob, raw, "learn.toml")
    assert "\n" not in str(error.value)


def test_files_that_do_not_fit_are_refused_before_anything_is_calculated(tmp_path):
    raw = raw_job(tmp_path)
    other = [labelled(atoms) for atoms in crystals(2, 0.1, 9)]
    for atoms in other:
        atoms.info["level_of_theory"] = "PBE"
    ase.io.write(tmp_path / "other.extxyz", other)
    same = [labelled(atoms) for atoms in crystals(22, 0.06, 0)[3:5]]
    ase.io.write(tmp_path / "same.extxyz", same)
    ase.io.write(tmp_path / "few.extxyz", crystals(5, 0.1, 1))
    silver = labelled(crystals(1, 0.1, 9)[0])
    silver.symbols[0] = "Ag"
    ase.io.write(tmp_path / "silver.extxyz", labelled(silver))
    for change, error, message in [
        (
            {"learn": {"labelled": str(tmp_path / "other.extxyz")}},
            DataError,
            "computed with PBE, the reference is EMT",
        ),
        ({"learn": {"test": str(tmp_path / "other.extxyz")}}, DataError, "was computed with PBE"),
        ({"learn": {"test": str(tmp_path / "same.extxyz")}}, DataError, "is one of the structures to start from"),
        ({"learn": {"test": str(tmp_path / "silver.extxyz")}}, MLCalcError, "Ag"),
        (
            {"learn": {"start": str(tmp_path / "few.extxyz")}},
            DataError,
            "have 4 atoms, and a calibration takes",
        ),
        ({"learn": {"start": str(tmp_path / "none.extxyz")}}, DataError, "no data file"),
        ({"model": {"cutof": 4.0}}, ConfigError, "cutof"),
        ({"model": {"species": [29, 47, 300]}}, MLCalcError, "species"),
    ]:
        changed = {key: {**table, **change.get(key, {})} for key, table in raw.items()}
        with pytest.raises(error, match=message) as refused:
            learn(validate(LearnJob, changed, "learn"), progress=False)
        assert "\n" not in str(refused.value)
    assert calls(tmp_path) == []
    assert not (tmp_path / "out" / "round-00").exists()


def test_budgets_may_change_and_nothing_else(tmp_path):
    given = job(tmp_path)
    given.learn.output.mkdir()
    claim(given, "EMT")
    claim(job(tmp_path, rounds=9, max_labels=999, workers=2), "EMT")
    longer = raw_job(tmp_path)
    longer["md"]["time_ps"] = 5.0
    claim(validate(LearnJob, longer, "longer"), "EMT")
    with pytest.raises(ConfigError, match=r"learn.reference.level_of_theory \(was 'EMT', now 'EMT 2'\)"):
        claim(given, "EMT 2")
    longer["md"]["frames_every_fs"] = 1.0
    with pytest.raises(ConfigError, match=r"md.0.frames_every_fs \(was 8.0, now 1.0\)"):
        claim(validate(LearnJob, longer, "longer"), "EMT")
    ase.io.write(tmp_path / "start.extxyz", crystals(22, 0.07, 0))
    with pytest.raises(ConfigError, match=r"contents of the file of learn.start"):
        claim(given, "EMT")


# ----- the command line -----


def test_the_template_is_valid_and_has_no_key_that_is_filled_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = template_of("learn")
    raw = tomllib.loads(text)
    given = validate(LearnJob, raw, "template")
    assert given.learn.reference.calculator == "tblite.ase:TBLite"
    assert given.model == {"name": "equivariant"}
    assert given.train.members == 4
    for key in ("temperature_K", "timestep_fs", "seed"):
        assert key not in raw["md"][0]
    assert "committee" not in raw["md"][0]["monitors"]


def test_later_rounds_are_gentle_unless_told_otherwise(tmp_path):
    raw = raw_job(tmp_path)
    any_file = [tmp_path / "any.extxyz"]
    for tune, rate in ((raw["tune"], 0.008), ({}, 5e-4)):
        given = validate(LearnJob, {**raw, "tune": tune}, "learn")
        later = given.training(tmp_path / "later", any_file, any_file, tmp_path / "model.safetensors")
        first = given.training(tmp_path / "first", any_file, any_file, None)
        assert (first.train.learning_rate, later.train.learning_rate) == (0.01, rate)
        assert (first.train.max_epochs, later.train.max_epochs) == (12, tune.get("max_epochs", 12))
        assert (first.train.start_from, later.train.start_from) == (None, tmp_path / "model.safetensors")
        assert first.train.members == later.train.members == 2


@pytest.mark.slow
def test_kill_and_go_on(tmp_path):
    """The real thing: worker processes, killed without a warning again and again."""
    raw = raw_job(tmp_path, rounds=2)
    (tmp_path / "job.json").write_text(json.dumps(raw), encoding="utf-8")
    code = (
        "import json, sys; from ase_mlcalc.active import LearnJob, learn; from ase_mlcalc.config import validate; "
        "learn(validate(LearnJob, json.load(open(sys.argv[1])), 'x'), progress=False)"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, "-c", code, str(tmp_path / "job.json")]
    done = False
    for seconds in (4.0, 8.0, 8.0, 8.0, 12.0, 16.0, 600.0):
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})  # noqa: S603
        try:
            assert process.wait(seconds) == 0
            done = True
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.5)
    assert done
    made = calls(tmp_path)
    # a calculation that was at work when the kill came is made again; one that was over is not
    assert len(made) - len(set(made)) <= 6
    found = read_learned(tmp_path / "out")
    assert len(set(made)) == found.n_labels
