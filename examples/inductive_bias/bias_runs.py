"""Runs of 15 ps from many seeds, and the forces of pairs behind them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import ase.io
import bias_pictures
from bias_models import MODELS, place, present, summary
from common import Study
from materials import Material

from ase_mlcalc.study import StudyJob, StudySummary, run_study

PAIRS_FRAMES = 20
"""Test frames, about, that forces of pairs are averaged over."""


def runs(material: Material) -> Callable[[Study], None]:
    """15 ps of each model from 16 seeds."""

    def made(study: Study) -> None:
        checkpoints = {name: study.checkpoint(f"{material.name}/models", name) for name in MODELS}
        survival(study, material, "study", checkpoints)

    return made


def survival(study: Study, material: Material, name: str, checkpoints: Mapping[str, Path]) -> None:
    """A study; its survival, reasons and energies as table and pictures."""
    folder = place(study, material, name)
    changes = {
        "study.output": folder,
        "study.models": {key: study.forces(path) for key, path in checkpoints.items()},
        "study.structures": [str(place(study, material, "start.extxyz"))],
        "study.temperatures_K": material.run_K,
        "study.timesteps_fs": material.timestep_fs,
        "study.workers": study.workers,
        "md.monitors": material.monitors,
    }
    if study.quick:
        changes |= {"study.seeds": 2, "study.scans": False, "md.time_ps": 0.02, "md.frames_every_fs": 10}
    found = run_study(study.job(StudyJob, "study.toml", changes))
    kept = study.kept("survival")
    for group in found.groups:
        kept.setdefault(material.name, {})[group.model] = {
            "runs": group.n_runs,
            "stable": group.n_stable,
            "mean": group.mean_survival_ps,
            "median": group.median_time_to_failure_ps,
            "reasons": _reasons(found, group.model),
            "lacking": _lacking(found, group.model),
        }
    study.keep("survival", kept)
    planned = found.groups[0].planned_ps
    columns = [
        "model", "stable runs", f"mean survival / ps of {planned:g}", "median time to failure / ps", "reasons",
        "what walls of bonds lack to 5 eV / eV",
    ]  # fmt: skip
    rows = [
        [
            f"`{key}`", f"{own['stable']} of {own['runs']}", own["mean"], own["median"], own["reasons"] or "-",
            own.get("lacking"),
        ]
        for key, own in kept[material.name].items()
    ]  # fmt: skip
    study.table(f"{material.name}-survival", columns, rows, keys=1)
    bias_pictures.survival(study, material.name, name, found)
    bias_pictures.energies(study, material.name, name, folder, found)
    summary(study)


def _reasons(found: StudySummary, model: str) -> str:
    """How often each outcome ended a run."""
    ended = [run.outcome for run in found.runs if run.model == model and run.status == "failed" and run.outcome]
    return ", ".join(f"{ended.count(outcome)} {outcome}" for outcome in sorted(set(ended)))


def _lacking(found: StudySummary, model: str) -> float | None:
    """What the lowest barrier in front of a hole lacks to 5 eV, where bonds of the start are compressed or pulled."""
    for scan in found.scans:
        if scan.model == model:
            return scan.scores.get("bond_missing_barrier_eV")
    return None


def pairs(material: Material) -> Callable[[Study], None]:
    """Forces of pairs as each model has learned them."""

    def made(study: Study) -> None:
        checkpoints = {name: study.checkpoint(f"{material.name}/models", name) for name in MODELS}
        frames = ase.io.read(present(study, material, "test"), ":")
        chosen = frames[:: max(1, len(frames) // PAIRS_FRAMES)]
        bias_pictures.pair_forces_of(study, material.name, checkpoints, chosen)

    return made
