"""A study by hand, with everything that its page shows: two models, two temperatures, two time steps, failed runs."""

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.io import write

from ase_mlcalc.md import MDConfig, Outcome, run_md
from ase_mlcalc.md.result import Event, RunResult, save_result
from ase_mlcalc.md.thermo import THERMO_FILE, ThermoFile, ThermoRow
from ase_mlcalc.study.summary import (
    GroupSummary,
    ModelComparison,
    Predictor,
    RunSummary,
    Scan,
    StudySummary,
    TemperatureCheck,
    TimestepCheck,
    write_study,
)
from ase_mlcalc.study.survival import (
    Lifetimes,
    median_time,
    restricted_mean,
    stable_interval,
    survival_curve,
)

MODELS = ("direct", "conservative", "tiny")
TEMPERATURES = (300.0, 600.0)
TIMESTEPS = (0.5, 1.0)
SEEDS = tuple(range(8))
PLANNED = 15.0


def good_run(folder):
    """Two stages of an argon crystal with krypton, with per-atom stress."""
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True)
    atoms.symbols[1] = "Kr"
    atoms.calc = LennardJones(sigma=3.40, epsilon=0.0104, rc=6.0, smooth=True)
    nvt = MDConfig(
        temperature_K=60, timestep_fs=4, time_ps=0.4, thermo_every_fs=4, frames_every_fs=16, stresses_every_fs=80
    )
    run_md(atoms, nvt, folder, name="nvt", progress=False)
    nve = nvt.model_copy(update={"ensemble": "nve", "initial_velocities": "keep"})
    run_md(atoms, nve, folder, name="nve", progress=False)


def write_failure(folder, seed):
    """The files of a run that failed, as its page needs them: result and frames around the failure."""
    folder.mkdir(parents=True)
    atoms: Atoms = molecule("CH3CH2OH")
    frames = []
    for step in range(3):
        frame = atoms.copy()
        frame.rattle(0.03, seed=seed)
        frame.positions[3] += 0.35 * step * np.array([0.3, 0.8, 0.2])
        frame.info = {"step": step * 10, "time_ps": step * 0.01}
        frames.append(frame)
    distance = frames[-1].get_distance(2, 3)
    detail = f"O2-H3 is {distance:.2f} Å, its reference 0.97 Å"
    frames[-1].info["failure"] = detail
    write(folder / "nve-failure.extxyz", frames, format="extxyz")
    event = Event(
        monitor="bonds", outcome=Outcome.STRETCHED, step=20, time_ps=0.02, detail=detail, value=distance,
        threshold=0.5, atoms=(2, 3), stops=True,
    )  # fmt: skip
    save_result(
        RunResult(
            name="nve", folder=folder, outcome=Outcome.STRETCHED, detail=detail, config=MDConfig(ensemble="nve"),
            formula="C2H6O", n_atoms=9, degrees_of_freedom=21, calculator="MLCalculator", events=(event,), time_ps=0.02,
        )
    )  # fmt: skip
    with ThermoFile(folder / THERMO_FILE, "nve") as thermo:
        for step in range(3):
            thermo.write(ThermoRow(10 * step, 0.01 * step, 300.0 + 50 * step, -1.0, 0.3, -0.7, -0.7, None, None, 2.0))
    return detail


def study(folder):
    """Write a study into a folder and return its summary."""
    rng = np.random.default_rng(0)
    runs, groups = [], []
    for m, model in enumerate(MODELS):
        for temperature in TEMPERATURES:
            for timestep in TIMESTEPS:
                own = [_run(folder, rng, m, model, temperature, timestep, seed) for seed in SEEDS]
                runs += own
                groups.append(_group(m, own))
    summary = StudySummary(
        models=MODELS,
        structures=("ethanol",),
        temperatures_K=TEMPERATURES,
        timesteps_fs=TIMESTEPS,
        seeds=SEEDS,
        ensemble="nvt",
        planned_ps=PLANNED,
        verdict="direct: stable 9/32; conservative: stable 32/32; tiny: stable 20/32",
        runs=tuple(runs),
        groups=tuple(groups),
        comparisons=(
            ModelComparison(model_a="direct", model_b="conservative", timestep_fs=0.5, n_a=32, n_b=32, failed_a=23,
                            failed_b=0, expected_a=8.1, statistic=5.6, p_value=2e-8, more_stable="conservative"),
            ModelComparison(model_a="direct", model_b="tiny", structure="ethanol", temperature_K=600.0,
                            timestep_fs=0.5, n_a=8, n_b=8, failed_a=6, failed_b=4, expected_a=4.6, statistic=0.9,
                            p_value=0.37),
        ),
        timestep_checks=tuple(
            TimestepCheck(model=model, structure="ethanol", temperature_K=t, short_fs=0.5, long_fs=1.0,
                          short_meV_per_atom=0.02 * (m + 1), long_meV_per_atom=0.02 * (m + 1) * ratio, ratio=ratio,
                          ratio_stderr=0.15, expected_ratio=4.0, order=float(np.log2(ratio)), order_stderr=0.06,
                          verdict=verdict)
            for t in TEMPERATURES
            for m, (model, ratio, verdict) in enumerate(
                (("direct", 1.9, "differs"), ("conservative", 4.06, "agrees"), ("tiny", 3.8, "agrees"))
            )
        ),
        scans=tuple(
            Scan(model=model, structure="ethanol",
                 scores={"bond_force_mismatch_eV_per_A": 0.3 / (m + 1) ** 2, "holes": 2.0 - m, "jump_meV": None})
            for m, model in enumerate(MODELS)
        ),
        predictors=(
            Predictor(score="bond_force_mismatch_eV_per_A", structure="ethanol", n_models=3, rank_correlation=-0.5,
                      p_value=1.0),
        ),
        job={"study": {"output": "study", "models": {m: {"model": f"{m}.safetensors"} for m in MODELS},
                       "seeds": list(SEEDS)}, "md": [{"ensemble": "nvt", "time_ps": PLANNED, "thermostat": None}]},
        provenance={"started": "2026-01-01T00:00:00+00:00", "packages": {"ase": "3.29.0", "torch": "2.6.0"},
                    "machine": "Linux x86_64", "cores": 2, "source": None},
    )  # fmt: skip
    write_study(summary, folder)
    return summary


def _run(folder, rng, m, model, temperature, timestep, seed):
    mean_life = {"direct": 9.0, "conservative": 1e9, "tiny": 40.0}[model] * 300.0 / temperature
    life = float(rng.exponential(mean_life))
    name = f"runs/{model}/ethanol/{temperature:g}K_{timestep:g}fs/seed{seed}"
    common = {
        "model": model, "structure": "ethanol", "temperature_K": temperature, "timestep_fs": timestep, "seed": seed,
        "folder": name, "planned_ps": PLANNED, "n_atoms": 9, "formula": "C2H6O", "ensemble": "nvt", "stage": "nve",
        "ms_per_step": 1.2 + 0.1 * m, "ns_per_day": 36.0 * timestep,
    }  # fmt: skip
    if life < PLANNED:
        outcome = rng.choice(["STRETCHED", "EXPLODED", "FUSED"])
        detail = "O2-H3 is 1.60 Å, its reference 0.97 Å"
        if seed < 3:
            detail = write_failure(folder / name, seed)
        monitor = {"STRETCHED": "bonds", "EXPLODED": "temperature", "FUSED": "distances"}[outcome]
        return RunSummary(**common, status="failed", outcome=str(outcome), time_ps=life, monitor=monitor, detail=detail)
    return RunSummary(
        **common,
        status="stable",
        outcome="COMPLETED",
        time_ps=PLANNED,
        drift_meV_per_atom_per_ps=0.02 * (m - 1) + 0.004 * rng.normal(),
        drift_stderr=0.004,
        temperature_mean_K=temperature + rng.normal(),
        temperature_stderr_K=1.0,
    )


def _group(m, runs):
    first = runs[0]
    stable = [run for run in runs if run.status == "stable"]
    failed = [run for run in runs if run.status == "failed"]
    curve = survival_curve(Lifetimes([run.time_ps for run in failed], [run.time_ps for run in stable]))
    fraction, low, high = stable_interval(len(stable), len(failed))
    reasons = {name: sum(run.outcome == name for run in failed) for name in ("STRETCHED", "EXPLODED", "FUSED")}
    drifts = {}
    if stable:
        slope = float(np.mean([run.drift_meV_per_atom_per_ps for run in stable]))
        drifts = {
            "drift_meV_per_atom_per_ps": slope, "drift_stderr": 0.004 / len(stable) ** 0.5,
            "drift_K_per_ns": 7.7 * slope, "drift_K_per_ns_stderr": 0.02, "n_drift": len(stable),
            "fluctuation_meV_per_atom": 0.02 * (m + 1) * (first.timestep_fs / 0.5) ** (2 if m else 0.9),
            "fluctuation_stderr": 0.001,
        }  # fmt: skip
    return GroupSummary(
        model=first.model,
        structure=first.structure,
        temperature_K=first.temperature_K,
        timestep_fs=first.timestep_fs,
        ensemble="nvt",
        planned_ps=PLANNED,
        n_runs=len(runs),
        n_observed=len(runs),
        n_stable=len(stable),
        n_failed=len(failed),
        n_errors=0,
        n_waiting=0,
        stable_fraction=fraction,
        stable_low=low,
        stable_high=high,
        median_time_to_failure_ps=median_time(curve),
        mean_survival_ps=restricted_mean(curve, PLANNED),
        survival=curve,
        reasons={name: count for name, count in reasons.items() if count},
        temperature=TemperatureCheck(
            target_K=first.temperature_K, mean_K=first.temperature_K + 0.4, mean_stderr_K=0.5, mean_verdict="agrees",
            kinetic_variance_ratio=1.02, kinetic_variance_stderr=0.08, variance_verdict="undecided",
        ),
        ms_per_step=first.ms_per_step,
        ns_per_day=first.ns_per_day,
        **drifts,
    )  # fmt: skip
