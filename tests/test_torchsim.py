"""Potentials in TorchSim, and runs that it makes many at once: what they write is what runs by ASE write."""

import importlib
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
import torch
from ase import units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from scipy import stats

from ase_mlcalc import Baseline, Derived, Ensemble, MLCalculator, checkpoint
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError, NumericalError, SpeciesError, StructureError
from ase_mlcalc.md import Outcome, read_results, read_thermo, read_trajectory
from ase_mlcalc.md.engines import require_engine
from ase_mlcalc.md.job import run_job
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.model import lookup
from ase_mlcalc.study import StudyJob, run_study
from ase_mlcalc.study.batches import MOST_RUNS, batches
from ase_mlcalc.study.plan import plan
from ase_mlcalc.study.summarize import summarize

ts = pytest.importorskip("torch_sim", reason='needs TorchSim: pip install "ase-mlcalc[torchsim]"')

from ase_mlcalc.torchsim import TorchSimModel, moving, run_jobs  # noqa: E402

SPECIES = (1, 6, 8, 12, 14, 26)
TINY = {
    "schnet": {"features": 8, "n_interactions": 1, "n_gaussians": 6},
    "equivariant": {"features": 16, "edge_features": 16, "n_radial": 4, "l_max": 1},
}
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "cutoff": 6.0}
RECORDED = {"thermo_every_fs": 8.0, "frames_every_fs": 40.0, "stresses_every_fs": 80.0, "monitors_every_fs": 8.0}


def potential(name="equivariant", dtype=torch.float64, seed=3):
    torch.manual_seed(seed)
    cls = lookup(name)
    model = cls(cls.Config(species=SPECIES, cutoff=4.5, **TINY[name])).to(dtype)
    return Derived(model, Baseline({1: -13.0, 6: -1000.0}, energy_scale=2.0))


def argon_potential():
    cls = lookup("lennard_jones")
    return Derived(cls(cls.Config(**ARGON)))


def states(every, dtype=torch.float64):
    return ts.io.atoms_to_state(every, torch.device("cpu"), dtype)


# ----- a model of TorchSim -----


@pytest.mark.parametrize("name", ["equivariant", "schnet"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_interface_is_kept(name, dtype):
    from torch_sim.models.interface import validate_model_outputs

    model = TorchSimModel(potential(name), dtype=dtype)
    assert model.potential.dtype == dtype
    validate_model_outputs(model, torch.device("cpu"), dtype)


def crystals():
    every = [bulk("Si", cubic=True), bulk("Mg", "hcp", a=3.2, c=5.2), bulk("Fe", cubic=True) * (2, 1, 1)]
    for k, atoms in enumerate(every):
        atoms.rattle(0.1, seed=k)
    return every


def molecules():
    every = [molecule(name) for name in ("CH3CH2OH", "C6H6", "H2O")]
    for k, atoms in enumerate(every):
        atoms.rattle(0.05, seed=k)
    return every


@pytest.mark.parametrize("every", [crystals(), molecules()], ids=["crystals", "molecules"])
def test_results_are_those_of_the_calculator(every):
    pot = potential()
    state = states(every)
    found = TorchSimModel(pot)(state)
    calculator = MLCalculator(pot)
    for b, atoms in enumerate(every):
        rows = state.system_idx == b
        assert float(found["energy"][b]) == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-9)
        np.testing.assert_allclose(found["forces"][rows], calculator.get_forces(atoms), atol=1e-11)
        if atoms.pbc.any():
            stress = atoms.copy()
            stress.calc = calculator
            np.testing.assert_allclose(found["stress"][b], stress.get_stress(voigt=False), atol=1e-12)
            assert float(found["stress"][b].abs().max()) > 1e-6
        else:
            assert bool(found["stress"][b].isnan().all()), "not known is not zero"


def test_the_members_of_a_state_may_change_between_calls():
    model, every = TorchSimModel(Ensemble([potential(seed=1), potential(seed=2)])), molecules()
    whole = model(states(every))["energy"]
    assert torch.equal(model(states(every[1:]))["energy"], whole[1:])
    turned = model(states(every[::-1]))["energy"]
    np.testing.assert_allclose(turned.flip(0), whole, rtol=1e-14)


def test_single_precision_states_get_single_precision_results():
    found = TorchSimModel(potential())(states(molecules(), torch.float32))
    assert {value.dtype for value in found.values()} == {torch.float32}


def test_only_what_is_asked_for_is_given():
    model = TorchSimModel(potential())
    model.compute_stress = False
    assert model(states(molecules())).keys() == {"energy", "forces"}


def test_a_run_by_torchsim_conserves_energy():
    """With its own driver, in a periodic crystal whose atoms it may wrap."""
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * 2
    model, timestep_ps = TorchSimModel(argon_potential()), 0.004
    integrator = ts.Integrator.nve if hasattr(ts, "Integrator") else ts.integrators.nve
    energies = []
    for n_steps in (1, 200):
        torch.manual_seed(0)
        extra = {} if hasattr(ts, "Integrator") else {"seed": 1}
        final = ts.integrate(
            system=atoms, model=model, integrator=integrator, n_steps=n_steps, temperature=60.0, timestep=timestep_ps,
            **extra,
        )  # fmt: skip
        kinetic = ts.calc_kinetic_energy(masses=final.masses, momenta=final.momenta)
        energies.append(float(final.energy.sum()) + float(kinetic))
    assert float(kinetic) > 0.05
    assert abs(energies[1] - energies[0]) < 1e-3 * float(kinetic)


def test_what_a_model_cannot_do_is_said():
    cls = lookup("tensor_field")
    with pytest.raises(ConfigError, match="needs a model of energies"):
        TorchSimModel(Derived(cls(cls.Config(species=SPECIES))))
    model = TorchSimModel(potential())
    with pytest.raises(SpeciesError, match="S "):
        model(states([molecule("SH2")]))
    every = molecules()
    every[1].positions[3] = every[1].positions[0]
    with pytest.raises(StructureError, match="system 1: atoms 0 and 3"):
        model(states(every))
    state = states(molecules())
    state.positions[-1, 0] = torch.nan
    with pytest.raises(StructureError, match="system 2: positions"):
        model(state)


def test_nan_results_name_their_system(monkeypatch):
    pot = potential("schnet")
    model, state = TorchSimModel(pot), states(molecules())
    with torch.no_grad():
        next(iter(model.potential.model.parameters()))[SPECIES.index(8)] = torch.nan
    with pytest.raises(NumericalError, match="system 0: the potential gave NaN"):
        model(state)


# ----- runs -----


def start(name, folder, atoms):
    path = folder / f"{name}.traj"
    ase.io.write(path, atoms)
    return str(path)


def argon(folder, seed=0):
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.05, seed=seed)
    return start(f"argon{seed}", folder, atoms)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "argon.safetensors"
    checkpoint.save(argon_potential(), path)
    return str(path)


def jobs(folder, model, structures, md, **common):
    """One job for each structure, with a seed of its own."""
    return [
        MDJob.model_validate(
            {
                "job": {"model": model, "structure": each, "output": str(folder / f"run{k}"), **common},
                "md": [{"timestep_fs": 4.0, "seed": k, **RECORDED, **stage} for stage in md],
            }
        )
        for k, each in enumerate(structures)
    ]


def by_ase(folder, made):
    """The same jobs, one after another, by ASE."""
    return [
        run_job(
            one.model_copy(update={"job": one.job.model_copy(update={"output": str(folder / f"run{k}")})}),
            progress=False,
        )
        for k, one in enumerate(made)
    ]


def series(folder, k, stage):
    return read_thermo(folder / f"run{k}" / "thermo.csv")[stage]


NVE = {"ensemble": "nve", "temperature_K": 40.0, "time_ps": 0.4}
LANGEVIN = {"ensemble": "nvt", "temperature_K": 40.0, "time_ps": 0.2, "friction_per_ps": 20.0}


def test_trajectories_at_constant_energy_are_those_of_ase(tmp_path, model_file):
    """From the same velocities, to what rounding grows to in 100 steps; slabs and free clusters beside crystals."""
    structures = [argon(tmp_path, seed) for seed in range(2)]
    for name, pbc in (("slab", (True, True, False)), ("cluster", False)):
        atoms = ase.io.read(structures[0])
        atoms.pbc = pbc
        structures.append(start(name, tmp_path, atoms))
    made = jobs(tmp_path / "together", model_file, structures, [NVE])
    found = run_jobs(made, MLCalculator(model_file))
    expected = by_ase(tmp_path / "ase", made)
    for k, ((ours,), (theirs,)) in enumerate(zip(found, expected, strict=True)):
        assert ours.completed
        assert ours.outcome is theirs.outcome
        assert ours.steps_done == theirs.steps_done == 100
        assert ours.degrees_of_freedom == theirs.degrees_of_freedom
        one, other = series(tmp_path / "together", k, "nve"), series(tmp_path / "ase", k, "nve")
        for column in one:
            np.testing.assert_allclose(one[column], other[column], rtol=1e-9, atol=1e-9, err_msg=column)
        assert np.ptp(one["kinetic_eV"]) > 1e-3
        frames = [list(read_trajectory(tmp_path / side / f"run{k}" / "nve.traj")) for side in ("together", "ase")]
        assert [frame.info for frame in frames[0]] == [frame.info for frame in frames[1]]
        for a, b in zip(*frames, strict=True):
            np.testing.assert_allclose(a.positions, b.positions, atol=1e-9)
            assert a.calc.results.keys() == b.calc.results.keys()
        assert abs(ours.drift.slope) < 5 * max(ours.drift.stderr, 1e-6)


def hot_argon(folder):
    """Two atoms so close that they fly apart faster than a run may be hot."""
    atoms = ase.io.read(argon(folder))
    atoms.positions[1] = atoms.positions[0] + [2.7, 0, 0]
    return start("hot", folder, atoms)


def test_a_run_that_fails_is_what_it_is_by_ase_and_the_others_go_on(tmp_path, model_file):
    structures = [argon(tmp_path), hot_argon(tmp_path), argon(tmp_path, 1)]
    stage = NVE | {"max_temperature_K": 600.0, "monitors_every_fs": 0.0}
    made = jobs(tmp_path / "together", model_file, structures, [stage])
    found, expected = run_jobs(made, MLCalculator(model_file)), by_ase(tmp_path / "ase", made)
    assert [each[0].outcome for each in found] == [Outcome.COMPLETED, Outcome.EXPLODED, Outcome.COMPLETED]
    (failed,), (failed_by_ase,) = found[1], expected[1]
    assert 0 < failed.steps_done == failed_by_ase.steps_done, "the last good step is the one before"
    assert failed.detail == failed_by_ase.detail
    folders = [tmp_path / side / "run1" for side in ("together", "ase")]
    last = [list(read_trajectory(folder / "nve.traj"))[-1] for folder in folders]
    np.testing.assert_allclose(last[0].positions, last[1].positions, atol=1e-9)
    evidence = [ase.io.read(folder / "nve-failure.extxyz", index=":") for folder in folders]
    assert [frame.info["step"] for frame in evidence[0]] == [frame.info["step"] for frame in evidence[1]]
    untouched = run_jobs(jobs(tmp_path / "without", model_file, structures[:1], [stage]), MLCalculator(model_file))
    assert untouched[0][0].drift == found[0][0].drift, "to the last bit"


@pytest.mark.parametrize("problem", ["nan", "refused"])
def test_a_structure_that_cannot_be_evaluated_ends_its_run_alone(tmp_path, model_file, problem, monkeypatch):
    error = {"nan": NumericalError("NaN"), "refused": StructureError("on one spot")}[problem]
    evaluate, calls = moving.Batch.__call__, []

    def failing(self, positions, cells):
        found = evaluate(self, positions, cells)
        calls.append(self.n_structures)
        if len(calls) == 14:
            found.errors[1] = error
        return found

    monkeypatch.setattr(moving.Batch, "__call__", failing)
    made = jobs(tmp_path / "together", model_file, [argon(tmp_path, seed) for seed in range(3)], [NVE])
    found = [each[0] for each in run_jobs(made, MLCalculator(model_file))]
    ends = {"nan": Outcome.NAN, "refused": Outcome.REFUSED}[problem]
    assert [each.outcome for each in found] == [Outcome.COMPLETED, ends, Outcome.COMPLETED]
    assert found[1].steps_done == 12
    assert (max(calls), min(calls)) == (3, 2)


def test_langevin_dynamics_samples_the_canonical_distribution(tmp_path, model_file):
    """Kinetic energies of 32 replicas, far apart in time, follow the chi-square distribution of 3N momenta."""
    structures = [argon(tmp_path)] * 32
    stage = LANGEVIN | {"time_ps": 1.6, "thermo_every_fs": 400.0, "monitors_every_fs": 0.0, "stresses_every_fs": 0.0}
    found = run_jobs(jobs(tmp_path, model_file, structures, [stage]), MLCalculator(model_file))
    assert all(each[0].completed for each in found)
    kinetic = np.concatenate([series(tmp_path, k, "nvt")["kinetic_eV"][1:] for k in range(32)])
    assert len(kinetic) == 128
    reduced = 2.0 * kinetic / (units.kB * 40.0)
    assert stats.kstest(reduced, stats.chi2(df=12).cdf).pvalue > 0.01
    hotter = stats.kstest(reduced / 1.2, stats.chi2(df=12).cdf).pvalue
    assert hotter < 0.01, "the test can tell 20 %"
    assert len(set(reduced.round(9))) == len(reduced), "no two replicas share their noise"


def test_stages_follow_one_another_each_at_its_own_pace(tmp_path, model_file):
    """Equilibration that ends by chance leaves runs in different stages; a ramp reaches its end."""
    md = [
        LANGEVIN | {"settle_within_percent": 10.0, "settle_after_ps": 0.02},
        {"ensemble": "nvt", "temperature_K": 40.0, "temperature_end_K": 80.0, "time_ps": 0.1, "friction_per_ps": 200.0},
        {"ensemble": "nve", "time_ps": 0.1},
    ]
    made = jobs(tmp_path, model_file, [argon(tmp_path, seed) for seed in range(4)], md)
    found = run_jobs(made, MLCalculator(model_file))
    assert all(len(each) == 3 and each[-1].completed for each in found)
    assert len({each[0].steps_done for each in found}) > 1, "they settled at different times"
    for k in range(4):
        stages = read_thermo(tmp_path / f"run{k}" / "thermo.csv")
        assert list(stages) == ["nvt", "nvt-2", "nve"]
        energy = stages["nve"]["conserved_eV"]
        assert np.ptp(energy) < 0.01 * np.ptp(stages["nve"]["kinetic_eV"])
        assert stages["nve"]["potential_eV"][0] == stages["nvt-2"]["potential_eV"][-1]
    means = np.array([[series(tmp_path, k, "nvt-2")["temperature_K"][[0, -1]]] for k in range(4)]).mean(axis=(0, 1))
    assert means[1] > means[0]


def record(folder):
    """What a run wrote that does not depend on the clock."""
    frames = [
        (frame.info["step"], frame.positions.tobytes(), frame.get_momenta().tobytes())
        for path in sorted(folder.glob("*.traj"))
        for frame in read_trajectory(path)
    ]
    return (folder / "thermo.csv").read_bytes(), frames, [each.outcome for each in read_results(folder)]


def test_killed_runs_go_on_bit_by_bit(tmp_path, model_file, monkeypatch):
    """Also where a run of the batch had ended before the kill, and is not there any more."""
    structures = [argon(tmp_path), hot_argon(tmp_path), argon(tmp_path, 1)]
    md = [LANGEVIN | {"max_temperature_K": 600.0, "checkpoint_every_fs": 60.0}, NVE | {"checkpoint_every_fs": 60.0}]
    whole = run_jobs(jobs(tmp_path / "whole", model_file, structures, md), MLCalculator(model_file))
    assert [each[-1].outcome for each in whole] == [Outcome.COMPLETED, Outcome.EXPLODED, Outcome.COMPLETED]

    class KilledError(BaseException):
        """Like SIGKILL: nothing of the runs' own code sees it."""

    evaluate = moving.Batch.__call__
    for last_call in (30, 90):
        left = last_call

        def failing(self, positions, cells):
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError
            return evaluate(self, positions, cells)

        monkeypatch.setattr(moving.Batch, "__call__", failing)
        with pytest.raises(KilledError):
            run_jobs(jobs(tmp_path / "killed", model_file, structures, md), MLCalculator(model_file))
        monkeypatch.setattr(moving.Batch, "__call__", evaluate)
    again = run_jobs(jobs(tmp_path / "killed", model_file, structures, md), MLCalculator(model_file))
    assert max(each.restarts for run in again for each in run) >= 1
    for k in range(3):
        assert record(tmp_path / "whole" / f"run{k}") == record(tmp_path / "killed" / f"run{k}")


def test_longer_runs_go_on_behind_their_end_bit_by_bit(tmp_path, model_file):
    """The last stage of those that completed; one that failed stays as it is."""
    structures = [argon(tmp_path), hot_argon(tmp_path), argon(tmp_path, 1)]
    first, last = LANGEVIN | {"max_temperature_K": 600.0}, NVE | {"checkpoint_every_fs": 60.0}

    def made(folder, **changes):
        return run_jobs(jobs(tmp_path / folder, model_file, structures, [first, last | changes]), calculator)

    calculator = MLCalculator(model_file)
    whole = made("whole")
    short = made("grown", time_ps=0.12)
    assert [each[-1].outcome for each in short] == [each[-1].outcome for each in whole]
    assert short[0][-1].steps_done < whole[0][-1].steps_done
    grown = made("grown")
    assert [each[-1].steps_done for each in grown] == [each[-1].steps_done for each in whole]
    for k in range(3):
        assert record(tmp_path / "whole" / f"run{k}") == record(tmp_path / "grown" / f"run{k}")


def test_what_it_cannot_do_is_told_run_by_run(tmp_path, model_file):
    atoms = ase.io.read(argon(tmp_path))
    atoms.set_constraint(FixAtoms([0]))
    made = jobs(tmp_path, model_file, [argon(tmp_path), start("fixed", tmp_path, atoms)], [NVE])
    made += jobs(tmp_path / "bussi", model_file, [argon(tmp_path)], [LANGEVIN | {"thermostat": "bussi"}])
    made += jobs(tmp_path / "none", model_file, ["nothing.extxyz"], [NVE])
    found = run_jobs(made, MLCalculator(model_file))
    assert found[0][0].completed
    assert "1 constraints" in str(found[1])
    assert "thermostat = 'bussi'" in str(found[2])
    assert "no structure at" in str(found[3])
    by_ase(tmp_path / "ase", made[:1])
    with pytest.raises(ConfigError, match="engine"):
        raise run_jobs(jobs(tmp_path / "ase", model_file, [argon(tmp_path)], [NVE]), MLCalculator(model_file))[0]
    cls = lookup("tensor_field")
    with pytest.raises(ConfigError, match="needs a potential with energies"):
        run_jobs(made[:1], MLCalculator(Derived(cls(cls.Config(species=(18,))))))


# ----- studies -----


def study(folder, model, structures, md=None, **table):
    raw = {
        "study": {
            "output": str(folder / "study"),
            "models": {"argon": {"model": model}},
            "structures": {Path(each).stem: each for each in structures},
            "temperatures_K": [30, 60],
            "timesteps_fs": [4],
            "seeds": 2,
            "scans": False,
            "workers": 2,
            "engine": "torchsim",
        }
        | table,
        "md": [md or {"ensemble": "nve", "time_ps": 0.2, **RECORDED}],
    }
    return validate(StudyJob, raw, "study")


def test_a_study_by_torchsim_finds_what_one_by_ase_finds(tmp_path, model_file):
    """And what cannot be made, here a structure with a constraint, is told of these runs alone."""
    structures = [argon(tmp_path), hot_argon(tmp_path)]
    fixed = ase.io.read(structures[0])
    fixed.set_constraint(FixAtoms([0]))
    md = {"ensemble": "nve", "time_ps": 0.2, "max_temperature_K": 600.0, **RECORDED, "monitors_every_fs": 0.0}
    job = study(tmp_path / "torchsim", model_file, [*structures, start("fixed", tmp_path, fixed)], md, workers=1)
    summary = run_study(job, progress=False)
    alone = study(tmp_path / "ase", model_file, structures, md, engine="ase")
    for run in plan(alone):
        run_job(run.job, progress=False)
    by_itself = summarize(alone, plan(alone))

    told = [
        [(run.folder, run.status, run.outcome, run.time_ps) for run in one.runs if run.structure != "fixed"]
        for one in (summary, by_itself)
    ]
    assert told[0] == told[1]
    assert {run.status for run in by_itself.runs} == {"stable", "failed"}
    groups = [group for group in summary.groups if group.structure != "fixed"]
    for ours, theirs in zip(groups, by_itself.groups, strict=True):
        assert ours.survival == theirs.survival
        if theirs.drift_meV_per_atom_per_ps is not None:
            assert ours.drift_meV_per_atom_per_ps == pytest.approx(theirs.drift_meV_per_atom_per_ps, abs=1e-6)
    result = read_results(job.study.output / summary.runs[0].folder)[0]
    assert result.provenance.packages["torch-sim-atomistic"][0].isdigit()
    assert result.wall_seconds > 0
    assert {run.error for run in summary.runs if run.structure == "fixed"} == {
        "engine = 'torchsim' moves all atoms, and this structure has 1 constraints; remove them, or use engine = 'ase'"
    }
    with pytest.raises(ConfigError, match=r"study.engine \(was 'torchsim', now None\)"):
        run_study(job.model_copy(update={"study": job.study.model_copy(update={"engine": "ase"})}), progress=False)


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path, model_file):
    md = {"ensemble": "nvt", "time_ps": 4.8, **RECORDED, "checkpoint_every_fs": 40.0, "monitors_every_fs": 0.0}
    table = {"temperatures_K": [40], "seeds": 3, "workers": 1}
    whole, killed = (study(tmp_path / name, model_file, [argon(tmp_path)], md, **table) for name in ("whole", "killed"))
    run_study(whole, progress=False)
    file = tmp_path / "job.json"
    file.write_text(killed.model_dump_json(exclude_unset=True))
    code = (
        "import sys; from ase_mlcalc.study import StudyJob, run_study; "
        "run_study(StudyJob.model_validate_json(open(sys.argv[1]).read()), progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(file)], start_new_session=True)  # noqa: S603
    thermo = [killed.study.output / run.folder / "thermo.csv" for run in plan(killed)]
    end = time.monotonic() + 120
    while not all(path.exists() and path.stat().st_size > 3000 for path in thermo):
        assert time.monotonic() < end, "waited in vain"
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run_study(killed, progress=False)
    for run in plan(killed):
        assert record(whole.study.output / run.folder) == record(killed.study.output / run.folder)
        assert read_results(killed.study.output / run.folder)[0].restarts >= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"md": {"ensemble": "npt"}}, "ensemble = 'npt'; use engine = 'ase'"),
        ({"md": {"thermostat": "nose-hoover"}}, "thermostat = 'nose-hoover'"),
        ({"md": {"rigid_motion": "removed-always"}}, "removed-always"),
        ({"models": ["ase.calculators.emt:EMT"]}, "'EMT' is another ASE calculator"),
    ],
)
def test_studies_that_it_cannot_make_are_refused_before_they_begin(tmp_path, change, message):
    md = change.pop("md", None)
    with pytest.raises(ConfigError, match=message) as error:
        study(tmp_path, "model.safetensors", ["a.extxyz"], md, **change)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("ase_mlcalc.md.engines.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'pip install "ase-mlcalc\[torchsim\]"'):
        require_engine("torchsim")
    require_engine("ase")
    for name in [name for name in sys.modules if name.startswith("ase_mlcalc.torchsim")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    with pytest.raises(ConfigError, match=r'pip install "ase-mlcalc\[torchsim\]"'):
        importlib.import_module("ase_mlcalc.torchsim")


def test_batches_are_of_one_model_and_of_bounded_size(tmp_path, model_file):
    job = study(tmp_path, model_file, [argon(tmp_path)], seeds=150, models={m: {"model": model_file} for m in "ab"})
    runs = plan(job)
    shared = batches(runs, range(len(runs)), 2)
    assert sorted(position for members in shared for position in members) == list(range(len(runs)))
    assert all(len({runs[position].model for position in members}) == 1 for members in shared)
    assert max(map(len, shared)) <= MOST_RUNS
    assert len(shared) == 2 * 4
    assert max(map(len, shared)) - min(map(len, shared)) <= 1


def test_the_identity_of_a_study_by_ase_is_as_before(tmp_path, model_file):
    from ase_mlcalc.study.identity import identity

    assert "engine" not in json.dumps(identity(study(tmp_path, model_file, [argon(tmp_path)], engine="ase")))
    assert identity(study(tmp_path, model_file, [argon(tmp_path)]))["study"]["engine"] == "torchsim"
