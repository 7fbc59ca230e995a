"""What pages say: sentences, the numbers of studies, and trajectories of other programs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import report_cases
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from ase_mlcalc.cli import main
from ase_mlcalc.errors import DataError
from ase_mlcalc.md import MDConfig, Outcome, Slope, energy_drift, read_thermo, read_trajectory, run_md
from ase_mlcalc.report import write_report, write_study_report, write_trajectory_report
from ase_mlcalc.report.outcome import verdict_sentence, verdicts
from ase_mlcalc.report.provenance import toml
from ase_mlcalc.report.stage import Stage, stages_of_run
from ase_mlcalc.report.structures import structures_section
from ase_mlcalc.report.study_groups import group_words
from ase_mlcalc.report.study_quality import predictors_section
from ase_mlcalc.report.study_runs import _different_first, runs_section
from ase_mlcalc.report.temperature import canonical_check
from ase_mlcalc.report.words import duration, minus, number, plus_minus, sentence


def figures(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def plain(page):
    """Text of a page without its pictures and tags."""
    text = re.sub(r"<style>.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


# ----- words -----


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (np.nan, "–"), (0.0, "0"), (12.3456, "12.3"), (1234.5, "1234"), (0.00123, "0.00123"), (0.1, "0.1"),
     (-3.0, "−3"), (2e7, "2.00×10⁷"), (5e-7, "5.00×10⁻⁷")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_values_with_errors():
    assert plus_minus(12.345, 0.21) == "+12.35 ± 0.21"
    assert plus_minus(299.6, 12.0, sign=False) == "300 ± 12"
    assert plus_minus(-1.5, None) == "−1.5"
    assert plus_minus(2e-6, 5e-6) == "(+2.0 ± 5.0)×10⁻⁶"


def test_sentences():
    assert sentence("a drift of -0.1") == "A drift of -0.1."
    assert sentence("timestep_fs = 5 is long") == "timestep_fs = 5 is long."
    assert minus("E3-N4 is -0.1, from 2-3 to (-4)") == "E3-N4 is −0.1, from 2-3 to (−4)"
    assert [duration(seconds) for seconds in (None, 12, 252, 11160)] == ["–", "12 s", "4.2 min", "3.1 h"]


def test_configuration_can_be_used_again():
    import tomllib

    values = {"study": {"models": {"a b": {"model": "a.safetensors", "dtype": None}}, "seeds": [0, 1]}, "name": "x",
              "md": [{"ensemble": "nve", "monitors": {"bonds": {"use": True}}}, {"time_ps": 2.5}]}  # fmt: skip
    back = tomllib.loads(toml(values))
    del values["study"]["models"]["a b"]["dtype"]
    assert back == values


# ----- the sentence that comes first -----


def stage(**changes):
    time = np.arange(0.0, 2.0, 0.01)
    rng = np.random.default_rng(0)
    temperature = 300.0 * rng.gamma(30.0, 1 / 30.0, len(time))
    rows = {"step": 10.0 * np.arange(len(time)), "time_ps": time, "temperature_K": temperature}
    rows |= {name: np.full(len(time), np.nan) for name in ("total_eV", "conserved_eV", "potential_eV")}
    known = Stage(
        name="nvt", formula="Ar4", n_atoms=4, ensemble="nvt", outcome=Outcome.COMPLETED, detail="", time_ps=2.0,
        planned_ps=2.0, start_ps=0.0, steps=2000, timestep_fs=1.0, degrees_of_freedom=60, rows=rows,
        target_K=np.full(len(time), 300.0), drift=None, heating=None, frames=lambda: iter(()),
    )  # fmt: skip
    return replace(known, **changes)


def test_good_runs_in_a_sentence():
    assert re.fullmatch(r"Stable for 2 ps at 300 K; mean temperature \d+.* ± .* K\.", verdict_sentence(stage()))
    ramp = np.linspace(300, 600, 200)
    assert verdict_sentence(stage(target_K=ramp)) == "Stable for 2 ps, from 300 to 600 K."
    nve = {"ensemble": "nve", "target_K": None}
    drift = verdict_sentence(stage(**nve, drift=Slope(0.004, 0.001, 0.0, 0.1)))
    assert re.fullmatch(r"Stable for 2 ps at \d+ K; drift \+0.0040 ± 0.0010 meV/atom/ps\.", drift)
    assert "not told from zero" in verdict_sentence(stage(**nve, drift=Slope(0.001, 0.001, 0.0, 0.1)))
    heating = verdict_sentence(stage(**nve, heating=Slope(12.0, 1.0, 300.0, 5.0)))
    assert "gives no energy; the temperature changes by +12.0 ± 1.0 K/ps" in heating
    assert "too few rows" in verdict_sentence(stage(**nve))


def test_bad_and_unfinished_runs_in_a_sentence():
    failed = stage(outcome=Outcome.FUSED, detail="Se12-Se40 is 1.61 Å", time_ps=0.7)
    said = verdicts([failed])
    assert said[0].text == (
        "Failed after 0.7 of 2 ps at 300 K: atoms came closer than their elements allow (Se12-Se40 is 1.61 Å)."
    )
    assert [verdict.state for verdict in said] == ["bad", "advice"]
    assert said[1].text.startswith("The potential lacks a repulsive wall")
    for outcome in Outcome:
        first = verdicts([stage(outcome=outcome)])[0]
        expected = {"COMPLETED": "good", "RUNNING": "open", "INTERRUPTED": "open", "DISK_FULL": "open"}
        assert first.state == expected.get(outcome.name, "bad")
        assert "2 ps" in first.text
    assert verdicts([stage(notes=("timestep_fs = 9 is long",))])[1].state == "note"


def test_canonical_temperatures_are_told_from_others():
    good = canonical_check(stage())
    assert abs(good.mean_K.value - 300) < 3 * good.mean_K.stderr
    assert abs(good.variance_ratio.value - 1) < 3 * good.variance_ratio.stderr
    wrong = canonical_check(stage(target_K=np.full(200, 330.0)))
    assert abs(wrong.mean_K.value - 330) > 5 * wrong.mean_K.stderr
    assert canonical_check(stage(target_K=np.linspace(300, 600, 200))) is None


# ----- runs -----


def test_failed_run_shows_the_atoms_that_matter(tmp_path):
    detail = report_cases.write_failure(tmp_path / "run", seed=0)
    page = write_report(tmp_path / "run")
    text = plain(page)
    assert detail in text
    assert "O2 and H3; they are ringed" in text
    assert text.index("Failed after 0.02 of 5 ps") < text.index("Monitors") < text.index("Structure at the failure")
    for name in ("before-nve", "last-good-nve", "failed-nve"):
        assert (tmp_path / "run" / "report" / f"{name}.png").exists()
    (entry,) = figures(tmp_path / "run")["stages"]
    assert (entry["outcome"], entry["time_ps"]) == ("STRETCHED", 0.02)
    assert entry["events"][0]["atoms"] == [2, 3]
    (known,) = stages_of_run(tmp_path / "run")
    assert known.failed_at == 0.02


def test_frames_of_a_failure_that_a_kill_cut_short(tmp_path):
    report_cases.write_failure(tmp_path / "run", seed=0)
    (tmp_path / "run" / "nve-failure.extxyz").write_text("9\nhalf a fra")
    (stage,) = stages_of_run(tmp_path / "run")
    assert stage.failed
    assert stage.evidence == ()
    assert structures_section([stage]) is None


# ----- studies -----


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    summary = report_cases.study(folder)
    return folder, summary, write_study_report(folder)


def test_study_page_has_the_numbers_of_the_study(study):
    folder, summary, page = study
    text = plain(page)
    for group in summary.groups:
        assert f"{group_words(summary, group)}. Stable {group.n_stable}/{group.n_runs} for 15 ps" in text
    assert "half of them failed within" in text
    assert "direct : conservative" in text
    assert "&lt; 0.0001" in text
    found = figures(folder)
    assert len(found["runs"]) == 96
    keys = {"outcome", "time_ps", "drift_meV_per_atom_per_ps", "drift_stderr", "heating_K_per_ps"}
    assert all(keys <= run.keys() for run in found["runs"])
    assert [(g["n_runs"], g["n_stable"], g["median_time_to_failure_ps"]) for g in found["groups"]] == [
        (g.n_runs, g.n_stable, g.median_time_to_failure_ps) for g in summary.groups
    ]
    sections = re.findall(r"<h2[^>]*>([^<]*)</h2>", page.read_text(encoding="utf-8"))
    assert sections == [
        "Survival", "Structures at failure", "Drift of the conserved energy", "Time step",
        "Temperature against the canonical ensemble", "Scans against survival", "Runs", "Provenance",
    ]  # fmt: skip


def test_links_of_a_study_lead_to_its_runs(study):
    folder, summary, page = study
    links = [link for link in re.findall(r'href="([^"#]*)"', page.read_text(encoding="utf-8")) if link]
    there = [run.folder for run in summary.runs if (folder / run.folder).is_dir()]
    assert links == [f"{name}/" for name in there]
    assert len(there) > 10
    (folder / there[0] / "report.html").write_text("")
    (table,) = runs_section(summary, folder).blocks
    targets = [row[0].target for row in table.rows if not isinstance(row[0], str)]
    assert targets == [f"{there[0]}/report.html", *links[1:]]


def test_first_pictures_show_different_failures(study):
    _, summary, _ = study
    failed = [run for run in summary.runs if run.status == "failed"]
    kinds = {(run.model, run.outcome) for run in failed}
    first = _different_first(failed)[: len(kinds)]
    assert {(run.model, run.outcome) for run in first} == kinds


def test_scores_of_scans_are_words_with_units_and_tell_models_apart(study):
    _, summary, _ = study
    scores = {"bond_force_error_eV_per_A": 0.2, "dimer_fall_eV": 0.5, "bond_undefined": 0.0, "bond_score_eV": None}
    scans = [scan.model_copy(update={"scores": scores}) for scan in summary.scans[:2]]
    scans[1] = scans[1].model_copy(update={"scores": scores | {"bond_force_error_eV_per_A": 0.3}})
    section = predictors_section(summary.model_copy(update={"scans": tuple(scans), "predictors": ()}))
    (table,) = section.blocks
    assert table.columns == ("model", "bond force error / eV/Å", "survived fraction")
    assert [row[1] for row in table.rows] == ["0.2", "0.3"]
    assert "the same in all: dimer fall, bond undefined, bond score." in table.caption
    (table,) = predictors_section(summary.model_copy(update={"scans": tuple(scans[:1]), "predictors": ()})).blocks
    assert table.columns == ("model", "bond force error / eV/Å", "dimer fall / eV", "survived fraction")


def test_unfinished_study_says_so(study, tmp_path):
    from ase_mlcalc.study.summary import write_study

    _, summary, _ = study
    runs = (summary.runs[0].model_copy(update={"status": "waiting", "outcome": None}), *summary.runs[1:2])
    group = summary.groups[0].model_copy(
        update={"n_runs": 2, "n_waiting": 1, "n_stable": 0, "n_failed": 1, "survival": None}
    )
    changes = {
        "runs": runs,
        "groups": (group,),
        "scans": (),
        "timestep_checks": (),
        "comparisons": (),
        "predictors": (),
    }
    write_study(summary.model_copy(update=changes), tmp_path)
    html = write_study_report(tmp_path).read_text(encoding="utf-8")
    assert 'class="verdict open"' in html
    assert 'class="verdict good"' not in html


def test_folder_without_a_study(tmp_path):
    with pytest.raises(DataError, match=r"study\.json"):
        write_study_report(tmp_path)


# ----- trajectories of other programs -----


@pytest.fixture(scope="module")
def argon(tmp_path_factory):
    """A run at constant energy with a frame for each row, and its frames as another program would write them."""
    folder = tmp_path_factory.mktemp("argon")
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * 2
    atoms.calc = LennardJones(sigma=3.40, epsilon=0.0104, rc=6.0, smooth=True)
    config = MDConfig(
        ensemble="nve", temperature_K=60, timestep_fs=4, time_ps=0.8, thermo_every_fs=16, frames_every_fs=16,
        stresses_every_fs=0,
    )  # fmt: skip
    result = run_md(atoms, config, folder, progress=False)
    frames = []
    for frame in read_trajectory(result.trajectory):
        foreign = frame.copy()
        foreign.info = {}
        foreign.calc = SinglePointCalculator(foreign, **frame.calc.results)
        frames.append(foreign)
    return folder, frames


def test_foreign_trajectory_has_the_numbers_of_the_run(argon, tmp_path):
    folder, frames = argon
    ase.io.write(tmp_path / "foreign.traj", frames)
    page = write_trajectory_report(tmp_path / "foreign.traj", tmp_path / "out", interval_fs=16, ensemble="nve")
    rows = read_thermo(folder / "thermo.csv")["md"]
    (entry,) = figures(tmp_path / "out")["stages"]
    expected = energy_drift(rows["time_ps"], rows["total_eV"], 32)
    assert entry["drift_meV_per_atom_per_ps"] == pytest.approx(expected.slope, rel=1e-9)
    assert entry["drift_stderr"] == pytest.approx(expected.stderr, rel=1e-9)
    assert entry["heating_K_per_ps"] == pytest.approx(
        np.polyfit(rows["time_ps"], rows["temperature_K"], 1)[0], rel=1e-6
    )
    assert entry["outcome"] == "COMPLETED"
    assert entry["time_ps"] == pytest.approx(0.8)
    text = plain(page)
    assert f"No failure found in 51 frames, 0.8 ps at {rows['temperature_K'].mean():.0f} K; drift" in text
    pressures = [number(float(value)) for value in (rows["pressure_GPa"].min(), rows["pressure_GPa"].max())]
    assert f"from {pressures[0]} to {pressures[1]} pressure / GPa" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "foreign-failure.extxyz").exists()


def test_foreign_failure_is_found_at_its_frame(argon, tmp_path):
    _, frames = argon
    bad = [frame.copy() for frame in frames]
    for frame in bad:
        del frame.arrays["momenta"]
    vector = bad[30].get_distance(3, 17, mic=True, vector=True)
    bad[30].positions[17] -= 0.7 * vector
    ase.io.write(tmp_path / "bad.xyz", bad, format="extxyz")
    page = write_trajectory_report(tmp_path / "bad.xyz", tmp_path / "out")
    (entry,) = figures(tmp_path / "out")["stages"]
    assert entry["outcome"] == "FUSED"
    assert (entry["events"][0]["step"], entry["events"][0]["atoms"]) == (30, [3, 17])
    assert entry["time_ps"] is None
    text = plain(page)
    assert "Failed after 30 frames: atoms came closer than their elements allow (Ar3-Ar17" in text
    assert "temperature" not in text.split("Provenance")[0].lower()
    kept = ase.io.read(tmp_path / "out" / "bad-failure.extxyz", index=":")
    assert [frame.info["frame"] for frame in kept] == [26, 27, 28, 29, 30]
    assert np.allclose(kept[-1].positions, bad[30].positions, atol=1e-6)


def test_foreign_trajectory_over_a_reference(argon, tmp_path):
    _, frames = argon
    swollen = [frame.copy() for frame in frames]
    for frame in swollen:
        frame.set_cell(1.05 * frame.cell, scale_atoms=True)
    ase.io.write(tmp_path / "reference.traj", frames)
    ase.io.write(tmp_path / "swollen.traj", swollen)
    for name, differs in (("swollen", True), ("reference", False)):
        write_trajectory_report(
            tmp_path / f"{name}.traj", tmp_path / name, interval_fs=16, reference=tmp_path / "reference.traj"
        )
        rows = figures(tmp_path / name)["observables"]["comparison"]
        (rdf,) = [row for row in rows if row["observable"] == "rdf"]
        assert rdf["significant"] is differs
        assert (rdf["w1"]["value"] > 0.05) is differs


# ----- the command line -----


def test_report_on_the_command_line(argon, tmp_path, monkeypatch, capsys):
    folder, frames = argon
    monkeypatch.chdir(tmp_path)
    ase.io.write(tmp_path / "foreign.extxyz", frames[:4])
    assert main(["report", "foreign.extxyz", "--interval-fs", "16", "--ensemble", "nve"]) == 0
    assert "wrote foreign-report/report.html" in capsys.readouterr().out
    assert Path("foreign-report/report.html").exists()
    for none in ("0", "-1", "inf"):
        assert main(["report", "foreign.extxyz", "--interval-fs", none, "--out", "none"]) == 1
        assert "has to be a positive time in fs" in capsys.readouterr().err
    assert main(["report", "nothing", "--out", "none"]) == 1
    assert "no such file or folder: nothing" in capsys.readouterr().err
    assert not Path("none").exists()
    for option in (["--out", "x"], ["--interval-fs", "2"], ["--ensemble", "nve"]):
        assert main(["report", str(folder), *option]) == 1
        error = capsys.readouterr().err
        assert f"{option[0][2:]}: only for the trajectory of another program" in error
