"""Molecular dynamics: physics of the ensembles, files that survive, and outcomes that say why."""

import csv
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import write
from ase.md.verlet import VelocityVerlet

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.config import read_toml, template, validate
from ase_mlcalc.errors import ConfigError, DataError, ModelError, NumericalError, StructureError
from ase_mlcalc.files import exclusive
from ase_mlcalc.md import (
    MDConfig,
    MDJob,
    Outcome,
    clear_run,
    read_results,
    read_thermo,
    read_trajectory,
    run_job,
    run_md,
)
from ase_mlcalc.md.frames import last_frame
from ase_mlcalc.md.result import save_result
from ase_mlcalc.md.velocities import degrees_of_freedom, draw_momenta, draw_momenta_at_rest, remove_rigid_motion
from ase_mlcalc.model import lookup


def argon(repeat=2):
    atoms = bulk("Ar", "fcc", a=5.26, cubic=True) * repeat
    atoms.calc = LennardJones(sigma=3.40, epsilon=0.0104, rc=6.0, smooth=True)
    return atoms


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return atoms


class Spring(Calculator):
    """Every atom on a spring to where it started; forces only if asked to be without energy."""

    def __init__(self, stiffness=1.0, properties=("energy", "forces"), break_at=None, how=None):
        super().__init__()
        self.stiffness, self.break_at, self.how = stiffness, break_at, how
        self.implemented_properties = list(properties)
        self.origin, self.calls = None, 0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.origin is None:
            self.origin = atoms.positions.copy()
        offset = atoms.positions - self.origin
        results = {
            "energy": 0.5 * self.stiffness * float((offset**2).sum()),
            "forces": -self.stiffness * offset,
            "stress": np.zeros(6),
        }
        if self.break_at is not None and self.calls >= self.break_at:
            if isinstance(self.how, Exception):
                raise self.how
            results["forces"] = np.full_like(offset, self.how)
        self.results = {name: results[name] for name in self.implemented_properties}


NVE = MDConfig(ensemble="nve", temperature_K=40, timestep_fs=2, time_ps=0.2, thermo_every_fs=2, frames_every_fs=20)


def test_nve_is_ases_velocity_verlet_and_conserves_energy(tmp_path):
    atoms = argon()
    result = run_md(atoms, NVE, tmp_path, name="nve", progress=False)

    by_hand = argon()
    draw_momenta(by_hand, 40, np.random.default_rng([0, 0]))
    remove_rigid_motion(by_hand)
    VelocityVerlet(by_hand, 2 * units.fs).run(100)
    assert np.array_equal(atoms.positions, by_hand.positions)

    assert result.outcome is Outcome.COMPLETED
    assert result.steps_done == 100
    rows = read_thermo(tmp_path / "thermo.csv")["nve"]
    assert np.allclose(rows["total_eV"], rows["potential_eV"] + rows["kinetic_eV"], rtol=0, atol=1e-12)
    assert np.ptp(rows["kinetic_eV"]) > 1e-2  # something happened
    assert np.ptp(rows["total_eV"]) < 1e-3
    assert result.drift.stderr > 0
    assert abs(result.drift.slope) < 0.1


def test_thermo_rows_are_what_ase_gives_at_that_frame(tmp_path):
    run_md(argon(), NVE, tmp_path, progress=False)
    rows = read_thermo(tmp_path / "thermo.csv")["md"]
    frames = list(read_trajectory(tmp_path / "md.traj"))
    assert [frame.info["step"] for frame in frames] == list(range(0, 101, 10))
    for frame in frames:
        row = int(np.flatnonzero(rows["step"] == frame.info["step"])[0])
        frame.calc = argon().calc
        kinetic = frame.get_kinetic_energy()
        pressure = -frame.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa
        assert rows["time_ps"][row] == pytest.approx(frame.info["time_ps"], rel=1e-12)
        assert rows["potential_eV"][row] == pytest.approx(frame.get_potential_energy(), rel=1e-12)
        assert rows["temperature_K"][row] == pytest.approx(2 * kinetic / (3 * 32 - 3) / units.kB, rel=1e-12)
        assert rows["pressure_GPa"][row] == pytest.approx(pressure, abs=1e-10)
        assert abs(pressure) > 1e-3
        assert rows["max_force_eV_per_A"][row] == pytest.approx(np.linalg.norm(frame.get_forces(), axis=1).max())


def test_frames_hold_results_and_sampled_stresses(tmp_path):
    config = NVE.model_copy(update={"frames_every_fs": 10, "stresses_every_fs": 53})
    run_md(argon(), config, tmp_path, progress=False)
    frames = {frame.info["step"]: frame for frame in read_trajectory(tmp_path / "md.traj")}
    assert sorted(frames) == [*range(0, 101, 5)]
    assert [step for step, frame in frames.items() if "stresses" in frame.calc.results] == [0, 25, 50, 75, 100]
    named = {
        step: frame.info["stress_definition"] for step, frame in frames.items() if "stress_definition" in frame.info
    }
    assert named == dict.fromkeys([0, 25, 50, 75, 100], "that of LennardJones")
    results = frames[75].calc.results
    assert np.allclose(results["stresses"].sum(axis=0), results["stress"], atol=1e-12)
    assert {"energy", "forces"} <= frames[10].calc.results.keys()


@pytest.mark.parametrize(("timestep", "frames", "stresses", "expected"), [
    (3.0, 50.0, 100.0, (17, 34)),
    (4.0, 50.0, 100.0, (12, 24)),
    (1.0, 50.0, 20.0, (20, 20)),
    (1.0, 50.0, 0.0, (50, None)),
    (1.0, 50.0, 60.0, (50, 50)),
])  # fmt: skip
def test_frames_are_at_equal_distances(timestep, frames, stresses, expected):
    config = MDConfig(timestep_fs=timestep, frames_every_fs=frames, stresses_every_fs=stresses)
    assert config.steps_between_frames == expected


def test_frames_say_how_the_stress_is_split(tmp_path):
    model_class = lookup("lennard_jones")
    atoms = argon()
    atoms.calc = MLCalculator(
        model_class(model_class.Config(sigma=3.4, epsilon=0.0104, cutoff=6.0)), stress_definition="site"
    )
    run_md(atoms, NVE.model_copy(update={"time_ps": 0.02, "stresses_every_fs": 10}), tmp_path, progress=False)
    frames = list(read_trajectory(tmp_path / "md.traj"))
    named = [frame.info.get("stress_definition") for frame in frames if "stresses" in frame.calc.results]
    assert named
    assert set(named) == {"site"}


def test_frames_do_not_inherit_what_belongs_to_the_start(tmp_path):
    """Labels, their definition and level, and the conditions that the start was sampled at."""
    atoms = argon()
    atoms.info |= {"stress_definition": "that of the labels", "level_of_theory": "GFN1-xTB", "temperature_K": 500.0}
    atoms.info |= {"REF_energy": 1.0, "name": "kept"}
    atoms.set_array("REF_forces", np.zeros((len(atoms), 3)))
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0)
    run_md(atoms, NVE.model_copy(update={"time_ps": 0.02, "stresses_every_fs": 10}), tmp_path, progress=False)
    for frame in read_trajectory(tmp_path / "md.traj"):
        expected = "that of LennardJones" if "stresses" in frame.calc.results else None
        assert frame.info.get("stress_definition") == expected
        assert frame.info.keys() - {"stress_definition"} == {"name", "step", "time_ps"}
        assert "REF_forces" not in frame.arrays


def test_last_frame_is_the_exact_final_state(tmp_path):
    atoms = copper()
    run_md(atoms, MDConfig(time_ps=0.0235, frames_every_fs=10), tmp_path, progress=False)
    last = list(read_trajectory(tmp_path / "md.traj"))[-1]
    assert last.info["step"] == 47
    assert np.array_equal(last.positions, atoms.positions)
    assert np.array_equal(last.get_momenta(), atoms.get_momenta())


@pytest.mark.parametrize(("ensemble", "n_degrees"), [("nve", 3), ("nvt", 9)])
def test_temperature_counts_the_degrees_of_freedom_of_the_ensemble(tmp_path, ensemble, n_degrees):
    atoms = molecule("H2O")
    atoms.calc = Spring(5.0)
    result = run_md(atoms, MDConfig(ensemble=ensemble, time_ps=0.01), tmp_path, progress=False)
    rows = read_thermo(tmp_path / "thermo.csv")["md"]
    assert result.degrees_of_freedom == n_degrees
    assert np.allclose(rows["temperature_K"], 2 * rows["kinetic_eV"] / (n_degrees * units.kB))


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (molecule("H2O"), 3),
        (molecule("CO2"), 3),
        (molecule("C2H2"), 6),
        (molecule("N2"), 1),
        (Atoms("Ar"), 0),
        (bulk("Cu", cubic=True), 9),
    ],
    ids=["bent", "linear", "linear of four", "two", "atom", "crystal"],
)
def test_drawn_momenta_have_no_rigid_motion_and_the_right_temperature(atoms, expected):
    rng = np.random.default_rng(1)
    n_degrees = degrees_of_freedom(atoms, all_momenta=False)
    assert n_degrees == expected
    kinetic = []
    for _ in range(2000):
        draw_momenta_at_rest(atoms, 300, rng)
        kinetic.append(atoms.get_kinetic_energy())
    assert np.abs(atoms.get_momenta().sum(axis=0)).max() < 1e-10
    if not atoms.pbc.any():
        assert np.abs(atoms.get_angular_momentum()).max() < 1e-10
    per_degree = 0.5 * units.kB * 300
    assert np.mean(kinetic) == pytest.approx(n_degrees * per_degree, rel=0.06, abs=1e-12)


def test_molecule_that_begins_in_a_line_has_the_degrees_of_freedom_of_a_bent_one(tmp_path):
    """At rest CO2 bends in one plane for good, which leaves three momenta of the four that it has in a line."""
    atoms = molecule("CO2")
    atoms.calc = Spring(5.0)
    result = run_md(atoms, MDConfig(ensemble="nve", temperature_K=300, time_ps=0.02), tmp_path, progress=False)
    assert result.degrees_of_freedom == 3
    arms = atoms.positions - atoms.get_center_of_mass()
    assert np.linalg.svd(arms, compute_uv=False)[1] > 1e-3, "has not bent"
    rng = np.random.default_rng(1)
    kinetic = []
    for _ in range(2000):
        draw_momenta(atoms, 300, rng)
        remove_rigid_motion(atoms)
        kinetic.append(atoms.get_kinetic_energy())
    assert 2 * np.mean(kinetic) / (units.kB * 300) == pytest.approx(3, rel=0.06)


def test_langevin_reaches_its_temperature_with_all_momenta(tmp_path):
    # a friction of 0.1 / fs forgets in 10 fs: 4 ps of 4 atoms on springs are some 5000 independent samples
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(2.0)
    config = MDConfig(temperature_K=300, timestep_fs=2, time_ps=6, friction_per_ps=100, thermo_every_fs=2)
    result = run_md(atoms, config, tmp_path, progress=False)
    assert result.temperature_mean_K == pytest.approx(300, rel=0.06)
    assert result.drift is None  # a thermostat does not conserve energy
    kinetic_of_center = atoms.get_momenta().sum(axis=0)
    assert np.abs(kinetic_of_center).max() > 1e-3  # fixcm=False


def test_same_seed_same_run_other_seed_other_run(tmp_path):
    ends = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        atoms = copper()
        run_md(atoms, MDConfig(time_ps=0.01, seed=seed), tmp_path, name=name, progress=False)
        ends.append(atoms.positions)
    assert np.array_equal(ends[0], ends[1])
    assert not np.allclose(ends[0], ends[2])


def test_stages_share_a_folder_and_continue(tmp_path):
    atoms = copper()
    run_md(atoms, MDConfig(time_ps=0.01), tmp_path, name="nvt", progress=False)
    end = atoms.positions.copy()
    keep = MDConfig(ensemble="nve", initial_velocities="keep", time_ps=0.01)
    run_md(atoms, keep, tmp_path, name="nve", progress=False)
    assert list(read_thermo(tmp_path / "thermo.csv")) == ["nvt", "nve"]
    first = next(read_trajectory(tmp_path / "nve.traj"))
    assert np.array_equal(first.positions, end)
    assert first.get_kinetic_energy() > 0
    assert np.abs(first.get_momenta().sum(axis=0)).max() < 1e-12
    assert [stage.name for stage in read_results(tmp_path)] == ["nvt", "nve"]


def test_one_evaluation_per_step(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(properties=("energy", "forces", "stress"))
    run_md(atoms, MDConfig(time_ps=0.025, thermo_every_fs=0.5, frames_every_fs=0.5), tmp_path, progress=False)
    assert atoms.calc.calls == 51


def test_results_can_be_read_back(tmp_path):
    result = run_md(argon(), NVE, tmp_path, progress=False)
    assert read_results(tmp_path) == [result]
    raw = json.loads((tmp_path / "result.json").read_text())["stages"][0]
    assert raw["outcome"] == "COMPLETED"
    assert raw["drift"].keys() == {"slope", "stderr", "intercept", "rms"}
    assert raw["config"]["timestep_fs"] == 2


# when things go wrong


@pytest.mark.parametrize(
    "how", [np.nan, np.inf, NumericalError("the potential gave NaN")], ids=["nan", "inf", "raised"]
)
def test_nan_stops_the_run_at_the_last_good_frame(tmp_path, how):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(break_at=12, how=how)
    result = run_md(atoms, MDConfig(time_ps=0.1, frames_every_fs=2), tmp_path, name="hot", progress=False)
    assert result.outcome is Outcome.NAN
    assert not result.completed
    assert result.steps_done == 10
    assert "shorter time step" in result.message
    unbroken = bulk("Cu", cubic=True)
    unbroken.calc = Spring()
    run_md(unbroken, MDConfig(time_ps=0.005), tmp_path / "unbroken", progress=False)
    assert np.array_equal(atoms.positions, unbroken.positions)
    assert np.array_equal(atoms.get_momenta(), unbroken.get_momenta())
    last = list(read_trajectory(tmp_path / "hot.traj"))[-1]
    assert last.info["step"] == 10
    assert np.array_equal(last.positions, atoms.positions)
    failed = ase.io.read(tmp_path / "hot-failure.extxyz", ":")
    assert [frame.info["step"] for frame in failed] == [0, 10, 11]
    assert "NAN" in failed[-1].info["failure"]
    assert all(np.isfinite(frame.positions).all() and frame.calc is None for frame in failed)
    rows = read_thermo(tmp_path / "thermo.csv")["hot"]
    assert np.isfinite(rows["temperature_K"]).all()
    assert read_results(tmp_path)[0].outcome is Outcome.NAN


def test_nan_energy_is_noticed_though_forces_are_finite(tmp_path):
    class NoEnergy(Spring):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            if self.calls > 25:
                self.results["energy"] = np.nan

    atoms = bulk("Cu", cubic=True)
    atoms.calc = NoEnergy()
    result = run_md(atoms, MDConfig(time_ps=0.1), tmp_path, progress=False)
    assert result.outcome is Outcome.NAN
    assert "energy" in result.detail
    assert 25 <= result.steps_done < 35


def test_nan_at_the_first_step(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(break_at=1, how=NumericalError("the potential gave NaN or Inf for forces"))
    result = run_md(atoms, MDConfig(time_ps=0.1), tmp_path, progress=False)
    assert result.outcome is Outcome.NAN
    assert result.steps_done == 0


def test_explosion_and_refusal_have_their_own_words(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(stiffness=-2000.0)
    result = run_md(atoms, MDConfig(time_ps=1), tmp_path, name="push", progress=False)
    assert result.outcome is Outcome.EXPLODED
    assert " K" in result.detail
    assert [(event.monitor, event.stops) for event in result.events][-1] == ("temperature", True)
    assert 0 < result.events[-1].time_ps <= result.time_ps
    alone = bulk("Cu", cubic=True)
    alone.calc = Spring(stiffness=-2000.0)
    unwatched = MDConfig(time_ps=1, monitors_every_fs=0)
    result = run_md(alone, unwatched, tmp_path, name="unwatched", progress=False)
    assert result.outcome is Outcome.EXPLODED
    assert " K at step " in result.detail
    assert result.events == ()
    assert result.drift is None

    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(break_at=5, how=StructureError("atoms 0 and 1 are 1e-9 Å apart"))
    result = run_md(atoms, MDConfig(time_ps=1), tmp_path, name="meet", progress=False)
    assert result.outcome is Outcome.REFUSED
    assert "atoms 0 and 1" in result.message


def test_errors_of_foreign_calculators_are_outcomes(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(break_at=5, how=CalculationFailed("SCF not\nconverged"))
    result = run_md(atoms, MDConfig(time_ps=1), tmp_path, name="scf", progress=False)
    assert result.outcome is Outcome.CALCULATION_FAILED
    assert "CalculationFailed at step" in result.detail
    assert result.detail.endswith("SCF not converged")
    assert (tmp_path / "scf-failure.extxyz").exists()
    for how in (OSError("no such program"), MemoryError()):  # nothing that the structure is to blame for
        atoms = bulk("Cu", cubic=True)
        atoms.calc = Spring(break_at=5, how=how)
        with pytest.raises(type(how)):
            run_md(atoms, MDConfig(time_ps=1), tmp_path / type(how).__name__, progress=False)


def test_ctrl_c_leaves_a_result(tmp_path):
    class Impatient(Spring):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            if self.calls == 8:
                raise KeyboardInterrupt

    atoms = bulk("Cu", cubic=True)
    atoms.calc = Impatient()
    with pytest.raises(KeyboardInterrupt):
        run_md(atoms, MDConfig(), tmp_path, progress=False)
    (result,) = read_results(tmp_path)
    assert result.outcome is Outcome.INTERRUPTED
    assert result.steps_done == 6


def test_forces_without_energy_leave_columns_empty(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Spring(properties=("forces",))
    result = run_md(atoms, MDConfig(ensemble="nve", time_ps=0.3), tmp_path, progress=False)
    assert result.completed
    with open(tmp_path / "thermo.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert [name for name, cell in row.items() if cell == ""] == [
        "potential_eV",
        "total_eV",
        "conserved_eV",
        "pressure_GPa",
    ]
    assert np.isnan(read_thermo(tmp_path / "thermo.csv")["md"]["total_eV"]).all()
    assert result.drift is None
    assert result.heating is not None
    assert set(next(read_trajectory(tmp_path / "md.traj")).calc.results) == {"forces"}


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="no calculator"):
        run_md(bulk("Cu"), MDConfig(), folder)
    empty = Atoms()
    empty.calc = EMT()
    with pytest.raises(StructureError, match="no atoms"):
        run_md(empty, MDConfig(), folder)
    lost = copper()
    lost.positions[0, 0] = np.nan
    with pytest.raises(StructureError, match="NaN"):
        run_md(lost, MDConfig(), folder)
    still = bulk("Cu", cubic=True)
    still.calc = Spring(properties=("energy",))
    with pytest.raises(ModelError, match="no forces"):
        run_md(still, MDConfig(), folder)
    with pytest.raises(ConfigError, match="stage name"):
        run_md(copper(), MDConfig(), folder, name="../up")
    assert not folder.exists()


def test_an_earlier_stage_is_not_overwritten(tmp_path):
    first = run_md(copper(), MDConfig(time_ps=0.005), tmp_path, progress=False)
    (tmp_path / "notes.txt").write_text("mine")
    atoms = copper()
    assert run_md(atoms, MDConfig(time_ps=0.005), tmp_path, progress=False) == first  # the same run: its result
    assert np.array_equal(atoms.positions, last_frame(tmp_path / "md.traj").positions)
    with pytest.raises(ConfigError, match=r"another run: md\.seed \(was 0, now 1\)"):
        run_md(copper(), MDConfig(time_ps=0.005, seed=1), tmp_path, progress=False)
    moved = copper()
    moved.rattle(0.01)
    with pytest.raises(ConfigError, match="another run: structure"):
        run_md(moved, MDConfig(time_ps=0.005), tmp_path, progress=False)
    other = copper()
    other.calc = LennardJones(sigma=2.3, rc=5.0)
    with pytest.raises(ConfigError, match=r"calculator\.class"):
        run_md(other, MDConfig(time_ps=0.005), tmp_path, progress=False)
    clear_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "notes.txt"]
    assert run_md(copper(), MDConfig(time_ps=0.005), tmp_path, progress=False).completed


def test_files_cut_short_by_a_kill_are_readable(tmp_path):
    result = run_md(argon(), NVE, tmp_path, progress=False)
    thermo, trajectory = tmp_path / "thermo.csv", result.trajectory
    n_rows = len(read_thermo(thermo)["md"]["step"])
    thermo.write_text(thermo.read_text()[:-25])
    assert len(read_thermo(thermo)["md"]["step"]) == n_rows - 1
    n_frames = len(list(read_trajectory(trajectory)))
    content = trajectory.read_bytes()
    readable = []
    for cut in (0, 10, len(content) // 2, len(content) - 5000, len(content) - 5):
        trajectory.write_bytes(content[:cut])
        readable.append(len(list(read_trajectory(trajectory))))
    assert readable[:2] == [0, 0]
    assert readable == sorted(readable)
    assert n_frames // 3 < readable[2] < n_frames
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(DataError, match="not the result"):
        read_results(tmp_path)
    with pytest.raises(DataError, match=r"no thermo\.csv"):
        read_thermo(tmp_path / "nowhere.csv")


def test_a_killed_run_says_so(tmp_path):
    result = run_md(copper(), MDConfig(time_ps=0.005), tmp_path, progress=False)
    save_result(result.model_copy(update={"outcome": Outcome.RUNNING}))
    assert "killed" in read_results(tmp_path)[0].message


# job files

JOB = """
[job]
structure = "{structure}"
calculator = "ase.calculators.emt:EMT"
output = "{output}"
[[md]]
time_ps = 0.005
seed = 7
[[md]]
ensemble = "nve"
time_ps = 0.005
[[md]]
ensemble = "nve"
time_ps = 0.005
initial_velocities = "thermal"
"""


def test_job_runs_its_stages(tmp_path):
    write(tmp_path / "start.xyz", [bulk("Cu", cubic=True), bulk("Cu", cubic=True) * (2, 1, 1)])
    (tmp_path / "job.toml").write_text(JOB.format(structure=tmp_path / "start.xyz", output=tmp_path / "run"))
    job = validate(MDJob, read_toml(tmp_path / "job.toml"), "job.toml")
    named = dict(job.stages())
    assert list(named) == ["nvt", "nve", "nve-2"]
    assert [stage.initial_velocities for stage in named.values()] == ["thermal", "keep", "thermal"]
    assert [stage.seed for stage in named.values()] == [7, 8, 9]
    results = run_job(job, progress=False)
    assert [result.name for result in results] == ["nvt", "nve", "nve-2"]
    assert results[0].n_atoms == 8  # the last structure of the file
    assert run_job(job, progress=False) == results  # nothing is run twice
    longer = job.model_copy(update={"md": (job.md[0].model_copy(update={"time_ps": 0.006}),)})
    with pytest.raises(ConfigError, match=r"md\.time_ps"):
        run_job(longer, progress=False)
    again = job.model_copy(update={"job": job.job.model_copy(update={"overwrite": True})})
    assert all(result.completed for result in run_job(again, progress=False))


def copper_job(folder, *ensembles, **files):
    write(folder / "start.xyz", bulk("Cu", cubic=True))
    raw = FILES | {"structure": str(folder / "start.xyz"), "output": str(folder / "run")} | files
    stages = [{"ensemble": ensemble, "time_ps": 0.005} for ensemble in ensembles]
    return validate(MDJob, {"job": raw, "md": stages}, "job.toml")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_job_at_work_is_not_overwritten(tmp_path):
    run_job(copper_job(tmp_path, "nvt"), progress=False)
    before = contents(tmp_path / "run")
    over = copper_job(tmp_path, "nvt", overwrite=True)
    with exclusive(tmp_path / "run"), pytest.raises(ConfigError, match="another process is at work"):
        run_job(over, progress=False)
    assert contents(tmp_path / "run") == before
    lock = (tmp_path / "run" / ".lock").stat().st_ino
    assert run_job(over, progress=False)[0].completed
    assert (tmp_path / "run" / ".lock").stat().st_ino == lock


def test_another_job_in_the_same_folder_is_refused(tmp_path):
    (nvt,) = run_job(copper_job(tmp_path, "nvt"), progress=False)
    before = contents(tmp_path / "run")
    for others in (("nve",), ("nve", "nvt")):
        with pytest.raises(ConfigError, match=rf"another job: stages \(were nvt, now {', '.join(others)}\)"):
            run_job(copper_job(tmp_path, *others), progress=False)
    with pytest.raises(ConfigError, match=r"\(were nvt, now equilibration, nvt\)"):
        run_job(copper_job(tmp_path, "nvt", equilibration="langevin"), progress=False)
    assert contents(tmp_path / "run") == before
    both = run_job(copper_job(tmp_path, "nvt", "nve"), progress=False)
    assert [result.name for result in both] == ["nvt", "nve"]
    assert run_job(copper_job(tmp_path, "nvt"), progress=False) == [nvt]
    with pytest.raises(ConfigError, match=r"\(were nvt, nve, now nvt, nvt-2\)"):
        run_job(copper_job(tmp_path, "nvt", "nvt"), progress=False)


FILES = {"structure": "start.xyz", "calculator": "ase.calculators.emt:EMT"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"job": FILES, "md": {"timestp_fs": 1}}, "did you mean 'timestep_fs'"),
        ({"job": FILES, "md": [{"timestep_fs": 0}]}, "greater than 0"),
        ({"job": FILES, "md": [{"timestep_fs": float("nan")}]}, "timestep_fs"),
        ({"job": FILES, "md": []}, "at least one stage"),
        ({"job": FILES, "md": {"ensemble": "nph"}}, "'nve', 'nvt' or 'npt'"),
        ({"job": FILES, "md": {"temperature_K": 0.0257}}, "energy in eV, it is 298 K"),
        ({"job": FILES, "md": {"ensemble": "nve", "temperature_end_K": 500}}, "needs a thermostat"),
        ({"job": FILES, "md": {"temperature_K": 0}}, "stops everything"),
        ({"job": FILES | {"model": "a.safetensors"}}, "got both"),
        ({"job": {"structure": "a"}}, "got neither"),
    ],
)
def test_job_mistakes_are_named(raw, words):
    with pytest.raises(ConfigError, match=words):
        validate(MDJob, raw, "job.toml")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"structure": "nowhere.xyz"}, DataError, "no structure at"),
        ({"index": 3}, DataError, "cannot read structure 3"),
        ({"calculator": "ase.calculators.emt"}, ConfigError, "package.module:Factory"),
        ({"calculator": "ase.calculators.emt:Emt"}, ConfigError, "cannot be imported"),
        ({"calculator_arguments": {"nonsense": 1, "fake": 2}, "calculator": "math:sin"}, ConfigError, "arguments"),
    ],
)
def test_job_files_that_cannot_be_used(tmp_path, changes, error, words):
    write(tmp_path / "start.xyz", bulk("Cu"))
    raw = FILES | {"structure": str(tmp_path / "start.xyz"), "output": str(tmp_path / "run")} | changes
    with pytest.raises(error, match=words):
        run_job(validate(MDJob, {"job": raw}, "job.toml"), progress=False)


def test_template_of_a_job_is_valid_once_its_files_are_named():
    text = template(MDJob)
    assert "[[md]]" in text
    assert "timestep_fs = 0.5" in text
