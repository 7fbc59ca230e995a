"""Sampling: the structures that differ, from the runs that were asked for, each made once."""

import itertools
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from study_calculators import chain

from ase_mlcalc.cli import main
from ase_mlcalc.cli.templates import template_of
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.sampling import SampleJob, farthest_points, sample
from ase_mlcalc.sampling.descriptor import StructureDescriptor
from ase_mlcalc.sampling.farthest import covering_radii, standardized
from ase_mlcalc.sampling.identity import claim

FAST = {"thermo_every_fs": 5.0, "frames_every_fs": 2.0, "stresses_every_fs": 0.0, "monitors_every_fs": 0.0}


def job(folder, forces=None, md=None, **given):
    """A sampling of a chain of three atoms, in a folder."""
    if not (folder / "chain.extxyz").exists():
        ase.io.write(folder / "chain.extxyz", chain())
    raw = {
        "sample": {
            "output": str(folder / "sample"),
            "structures": [str(folder / "chain.extxyz")],
            "temperatures_K": [200, 600],
            "discard_ps": 0.02,
            "n_structures": 12,
            "workers": 1,
            **given,
        },
        "forces": forces or {"calculator": "study_calculators:Chain"},
        "md": {"time_ps": 0.1, **FAST, **(md or {})},
    }
    return validate(SampleJob, raw, "sample")


# ----- the choice -----


@pytest.mark.parametrize("seed", range(5))
def test_each_choice_is_the_farthest_from_those_before(seed):
    points = np.random.default_rng(seed).normal(size=(40, 3))
    order, radii = farthest_points(points, 15)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert order[0] == np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()
    for k in range(1, 15):
        to_chosen = distance[:, order[:k]].min(axis=1)
        assert to_chosen[order[k]] == to_chosen.max() == pytest.approx(radii[k - 1])
    np.testing.assert_allclose(covering_radii(points, order), radii, atol=1e-7)
    shorter, _ = farthest_points(points, 6)
    np.testing.assert_array_equal(shorter, order[:6])


@pytest.mark.parametrize("seed", range(5))
def test_no_choice_is_twice_as_good(seed):
    points = np.random.default_rng(seed).normal(size=(12, 2))
    _, radii = farthest_points(points, 3)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    best = min(distance[:, list(three)].min(axis=1).max() for three in itertools.combinations(range(12), 3))
    assert best <= radii[-1] <= 2.0 * best


def test_copies_are_chosen_once():
    points = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 1.0]], 4, axis=0)
    order, radii = farthest_points(points, 10)
    assert sorted(order // 4) == [0, 1, 2]
    assert radii[-1] == 0.0


def test_rare_structures_are_found_where_chance_misses_them():
    rng = np.random.default_rng(0)
    points = standardized(np.concatenate([rng.normal(size=(500, 4)), rng.normal(loc=8.0, size=(3, 4))]))
    order, _ = farthest_points(points, 10)
    assert (order >= 500).any()


def test_constant_components_say_nothing():
    rng = np.random.default_rng(1)
    varied = rng.normal(size=(20, 2))
    padded = np.column_stack([varied, np.full(20, 3.0), 1e4 + 1e-7 * rng.normal(size=20)])
    np.testing.assert_allclose(standardized(padded), standardized(varied))
    np.testing.assert_allclose(standardized(varied).std(axis=0), 1 / np.sqrt(2))


def test_descriptor_sees_what_differs_and_nothing_else():
    describe = StructureDescriptor([1, 6, 8], 4.0)
    ethanol = molecule("CH3CH2OH")
    turned = ethanol.copy()
    turned.rotate(40.0, (1, 2, 3))
    turned.positions += 1.0
    shuffled = turned[np.random.default_rng(0).permutation(len(turned))]
    np.testing.assert_allclose(describe(shuffled), describe(ethanol), atol=1e-10)
    moved = ethanol.copy()
    moved.positions[-1] += 0.05
    assert np.abs(describe(moved) - describe(ethanol)).max() > 1e-3
    assert len(describe(molecule("CH4"))) == len(describe(ethanol)), "also without oxygen"


def test_one_unusual_atom_among_many_is_seen():
    """Where the average of a crystal barely changes, the spread over its atoms does."""
    describe = StructureDescriptor([29], 4.0)
    crystal = bulk("Cu", cubic=True).repeat(3)
    moved = crystal.copy()
    moved.positions[0] += 0.4
    before, after = np.split(describe(crystal), 2), np.split(describe(moved), 2)
    of_mean, of_deviation = (np.abs(a - b).max() for a, b in zip(after, before, strict=True))
    assert of_deviation > 3.0 * of_mean > 0.0


# ----- runs -----


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A sampling, the log of its force calls, and what came of it."""
    folder = tmp_path_factory.mktemp("sampled")
    log = folder / "log"
    given = job(folder, {"calculator": "study_calculators:Chain", "calculator_arguments": {"log": str(log)}})
    return given, log, sample(given, progress=False)


def test_chosen_frames_are_those_of_the_runs(sampled):
    given, _, found = sampled
    chosen = ase.io.read(found.out, ":")
    assert len(chosen) == found.n_chosen == 12
    assert found.n_candidates == 2 * 41, "frames from 0.02 to 0.1 ps, one each 2 fs"
    for atoms in chosen:
        run = given.sample.output / "runs" / str(atoms.info["run"])
        frame = {round(each.info["time_ps"], 6): each for each in read_trajectory(run / "nvt.traj")}[
            round(float(atoms.info["time_ps"]), 6)
        ]
        np.testing.assert_allclose(atoms.positions, frame.positions, atol=1e-8)
        assert f"{atoms.info['temperature_K']:g}K" in str(atoms.info["run"])
        assert atoms.info["time_ps"] > 0.02 - 1e-9
        assert atoms.calc is None, "no labels"
        assert not atoms.has("momenta")
    assert {atoms.info["temperature_K"] for atoms in chosen} == {200.0, 600.0}
    assert sum(run.n_chosen for run in found.runs) == 12
    assert found.radius[-1] < 0.8 * found.random_radius[-1]
    assert found.figure.read_bytes().startswith(b"\x89PNG")
    raw = json.loads((given.sample.output / "sample.json").read_text(encoding="utf-8"))
    assert [run["n_candidates"] for run in raw["runs"]] == [41, 41]


def test_the_same_command_makes_no_run_again(sampled):
    given, log, found = sampled
    made = len(log.read_bytes())
    assert made >= 2 * 200
    before = found.out.read_bytes()
    assert sample(given, progress=False) == found
    assert found.out.read_bytes() == before
    fewer = sample(
        given.model_copy(update={"sample": given.sample.model_copy(update={"n_structures": 5})}), progress=False
    )
    assert [str(atoms) for atoms in ase.io.read(fewer.out, ":")] == [
        str(atoms) for atoms in ase.io.read(found.out, ":")
    ][:5]
    assert fewer.n_chosen == 5
    assert len(log.read_bytes()) == made
    sample(given, progress=False)


def test_a_sampling_may_grow_and_its_dynamics_not_change(sampled, tmp_path):
    given = job(tmp_path)
    given.sample.output.mkdir()
    claim(given)
    claim(job(tmp_path, temperatures_K=[400], seeds=3, n_structures=7, cutoff_A=4.0, workers=2))
    for change, message in [
        ({"md": {"timestep_fs": 1.0}}, r"md.timestep_fs \(was 0.5, now 1.0\)"),
        (
            {"forces": {"calculator": "study_calculators:Chain", "calculator_arguments": {"spring": 3}}},
            "forces.calculator_arguments.spring",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            claim(job(tmp_path, **change))
    ase.io.write(tmp_path / "chain.extxyz", chain(4))
    with pytest.raises(ConfigError, match=r"structures.chain.file"):
        claim(job(tmp_path))


def test_runs_that_fail_give_nothing_and_are_named(tmp_path):
    forces = {"calculator": "study_calculators:Chain", "calculator_arguments": {"breaks_at_A": 1.32}}
    found = sample(job(tmp_path, forces, temperatures_K=[20, 2000]), progress=False)
    cold, hot = found.runs
    assert (cold.error, cold.n_candidates) == (None, 41)
    assert (hot.n_candidates, hot.n_chosen) == (0, 0)
    assert "NaN" in hot.error
    assert {atoms.info["temperature_K"] for atoms in ase.io.read(found.out, ":")} == {20.0}
    with pytest.raises(MLCalcError, match=r"no run came to its end; the first, chain/2000K_1/seed0"):
        sample(job(tmp_path, forces, temperatures_K=[2000]), progress=False)


def test_densities_are_relative(tmp_path):
    copper = bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "cu.extxyz", copper)
    found = sample(
        job(
            tmp_path,
            {"calculator": "ase.calculators.emt:EMT"},
            structures=[str(tmp_path / "cu.extxyz")],
            temperatures_K=300,
            densities=[0.9, 1.1],
            n_structures=20,
        ),
        progress=False,
    )
    chosen = ase.io.read(found.out, ":")
    volumes = {round(copper.get_volume() / atoms.get_volume(), 6) for atoms in chosen}
    assert volumes == {0.9, 1.1}
    for atoms in chosen:
        # 63.546 u of 4 atoms; 1 u / Å³ is 1.66054 g/cm³
        assert atoms.info["density_g_per_cm3"] == pytest.approx(4 * 63.546 * 1.660539 / atoms.get_volume(), rel=1e-6)
        name = str(atoms.info["run"])
        assert ("K_0.9/" in name) == (atoms.info["density_g_per_cm3"] < 8.9)


@pytest.mark.slow
def test_a_killed_sampling_goes_on(tmp_path):
    """No step is made again but those after the last checkpoint, and what is chosen is what it would have been."""
    steps, log = 8000, tmp_path / "log"
    forces = {"calculator": "study_calculators:Chain", "calculator_arguments": {"log": str(log)}}
    md = {"time_ps": steps / 2000, "frames_every_fs": 50.0, "checkpoint_every_fs": 50.0}
    given = job(tmp_path, forces, md)
    program = (
        "import sys; from ase_mlcalc.sampling import SampleJob, sample\n"
        "sample(SampleJob.model_validate_json(sys.argv[1]), progress=False)"
    )
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", program, given.model_dump_json(exclude_unset=True)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        start_new_session=True,
    )
    end = time.monotonic() + 120.0
    while not log.exists() or log.stat().st_size < 1.3 * steps:  # in the second run
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
    process.kill()
    process.wait()
    found = sample(given, progress=False)
    made = log.stat().st_size
    assert 2 * (steps + 1) <= made <= 2 * (steps + 1) + 300
    whole = sample(job(tmp_path, forces, md, output=str(tmp_path / "whole")), progress=False)
    assert found.out.read_bytes() == whole.out.read_bytes()
    assert made < log.stat().st_size


# ----- what is refused -----


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"md": {"temperature_K": 300}}, "md.temperature_K is filled in from sample.temperatures_K"),
        ({"md": {"seed": 3}}, "md.seed is filled in from sample.seeds"),
        ({"temperatures_K": [0.026]}, "302 K"),
        ({"temperatures_K": [300, 300]}, "twice"),
        ({"densities": [1000.0]}, "relative to that of the structure"),
        ({"densities": [0.9, 1.0], "md": {"ensemble": "npt"}}, "constant volume"),
        ({"discard_ps": 0.5}, "leaves nothing of"),
        ({"forces": {"dtype": "float64"}}, "give either model"),
        ({"structures": {"a/b": {"file": "x"}}}, "name of a folder"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, given, message):
    with pytest.raises(ConfigError, match=message) as error:
        job(tmp_path, **given)
    assert "\n" not in str(error.value)


def test_molecules_have_no_density(tmp_path):
    with pytest.raises(ConfigError, match="periodic in three directions"):
        sample(job(tmp_path, densities=[0.9, 1.0]), progress=False)


# ----- the command line -----


def test_the_template_is_runnable(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("start.extxyz", chain())
    text = template_of("sample")
    assert "\ntemperature_K =" not in text
    assert tomllib.loads(text)["sample"]["structures"] == ["start.extxyz"]
    Path("sample.toml").write_text(text.replace("tblite.ase:TBLite", "study_calculators:Chain"), encoding="utf-8")
    words = ["sample", "sample.toml", "--out", "there", "--workers", "1", "--set", "sample.temperatures_K=[300]"]
    words += ["--set", "sample.discard_ps=0.0", "--set", "md.time_ps=0.05", "--set", "md.frames_every_fs=1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "start/300K_1/seed0" in printed
    assert "wrote there/sample.extxyz: 50 of 50 frames" in printed
