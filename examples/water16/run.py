"""Sixteen water molecules: the earlier study with SchNet, what went wrong in it, and what is possible.

    python examples/water16/run.py --quick
    python examples/water16/run.py                      # hours; the same command goes on after a kill
    python examples/water16/run.py --only models scan

Labels are those of the water16 sets that come with the package.  Of 531 frames, in random order, 53 are for testing.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.units import Bohr, Hartree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LeftOut, Study, bring_models, main, needs

from ase_mlcalc.campaigns import ScanJob, run_scan
from ase_mlcalc.campaigns.trainings import Trained
from ase_mlcalc.data.sets import water16
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.metrics import Errors
from ase_mlcalc.training.side_by_side import compare_files
from ase_mlcalc.training.train import train

ATOMS = 48
LEARNED = 478
"""Frames that the earlier study trained on, of 531; here validation structures are taken from them."""
PUBLISHED = {"force_rmse_eV_per_A": 1.04, "energy_rmse_hartree": 0.366}
FORCE_AIM, ENERGY_AIM = "20; `schnet` 60", "0.3"
"""MAE in meV/Å and meV/atom, of `equivariant` unless another is named."""


def frames(study: Study, level: str) -> dict[str, Any]:
    """``[data]`` of a training at a level: the same frames at both."""
    folder = study.out / "data"
    folder.mkdir(exist_ok=True)
    files = {"train": folder / f"{level}.extxyz", "test": folder / f"{level}-test.extxyz"}
    if not files["test"].exists():
        everything = ase.io.read(water16(level), ":")
        learned, tested = everything[:LEARNED], everything[LEARNED:]
        if study.quick:
            learned, tested = learned[:12], tested[:4]
        ase.io.write(files["train"], learned)
        ase.io.write(files["test"], tested)
    return {**files, "n_validation": 4 if study.quick else 48}


def errors(found: Errors | None) -> dict[str, float]:
    """What all tables show of a potential; also in the units of the earlier study."""
    if found is None:
        return {}
    return {
        "force_mae": found.force_mae_meV_per_A,
        "force_rmse": found.force_rmse_meV_per_A,
        "energy_mae": found.energy_mae_meV_per_atom,
        "energy_rmse": found.energy_rmse_meV_per_atom,
        "energy_rmse_hartree": found.energy_rmse_meV_per_atom * ATOMS / 1000 / Hartree,
    }


COLUMNS = (
    "force RMSE / eV/Å",
    "energy RMSE / hartree",
    "force MAE / meV/Å",
    "energy MAE / meV/atom",
)


def cells(found: dict[str, float]) -> list[float | None]:
    """The same, in the order of `COLUMNS`."""
    rmse = found.get("force_rmse")
    return [
        None if rmse is None else rmse / 1000,
        found.get("energy_rmse_hartree"),
        found.get("force_mae"),
        found.get("energy_mae"),
    ]


# ----- what went wrong ------------------------------------------------------------------------------------------------

REPAIRS = {
    "as published": {},
    "radial functions repaired": {"gaussians": True},
    "neighbours gathered": {"gather": True},
    "both": {"gaussians": True, "gather": True},
}


def published(study: Study) -> None:
    """The network of the earlier study, and what each of its two faults costs; trained with our data and training."""
    bring_models("published_schnet")
    data = frames(study, "gfn1")
    labels = [atoms.get_forces() for atoms in ase.io.read(data["test"], ":")]
    found: dict[str, dict[str, float]] = {
        "no forces at all": {"force_rmse": 1000 * math.sqrt(np.square(labels).mean())}
    }
    small = {"features": 8, "n_gaussians": 100} if study.quick else {}
    jobs = {
        name: {
            "data": data,
            "model": {"name": "water16_published", **repairs, **small},
            "train": {"max_epochs": 1 if study.quick else 3},
        }
        for name, repairs in REPAIRS.items()
    }
    found |= {name: errors(one.test) for name, one in study.train("published", jobs).items()}
    rows = [["reported (B3LYP)", *cells(_reported())], *([key, *cells(own)] for key, own in found.items())]
    study.keep("published", found)
    study.table("published", ["network of the earlier study", *COLUMNS], rows)


def _reported() -> dict[str, float]:
    return {
        "force_rmse": 1000 * PUBLISHED["force_rmse_eV_per_A"],
        "energy_rmse_hartree": PUBLISHED["energy_rmse_hartree"],
    }


# ----- what is possible -----------------------------------------------------------------------------------------------

REPORTED_SCAN = {(300, 64, 3): 0.118, (150, 64, 3): 18.9, (300, 32, 3): 1.57, (300, 64, 6): 7.64}
"""Roots of the reported total test losses, by Gaussians, features and interactions."""


def models(study: Study) -> None:
    """`equivariant`, `schnet` with its defaults, and a committee of eight Behler-Parrinello networks."""
    data = frames(study, "gfn1")
    epochs = {"equivariant": 60, "schnet": 14}
    jobs = {
        name: {
            "data": data,
            "model": study.model(name),
            "train": {"max_epochs": 1 if study.quick else most},
        }
        for name, most in epochs.items()
    }
    found = study.train("models", jobs)
    found["behler_parrinello"] = _committee(study, data)
    names = [name for name, one in found.items() if one.status == "trained"]
    checkpoints = [study.checkpoint("models", name) for name in names]
    repeats = 3 if study.quick else 100
    compared = compare_files(checkpoints, [data["test"]], study.out / "models" / "compared", repeats=repeats)
    kept = {
        row.name: {
            **errors(row.metrics),
            "ms_per_call": row.ms_per_call,
            "parameters": row.parameters,
            "minutes": found[row.name].minutes,
        }
        for row in compared
    }
    study.keep("models", kept)
    study.picture(study.out / "models" / "compared" / "compare.png")
    rows = [
        [_title(name), *cells(own), own["minutes"], own["ms_per_call"], own["parameters"]] for name, own in kept.items()
    ]
    study.table("models", ["model", *COLUMNS, "minutes of training", "ms per call", "parameters"], rows)


def _title(name: str) -> str:
    return "committee of 8 `behler_parrinello`" if name == "behler_parrinello" else f"`{name}`"


def _committee(study: Study, data: dict[str, Any]) -> Trained:
    changes: dict[str, Any] = {"output": study.out / "models" / "behler_parrinello", "data": data}
    changes |= {"train.workers": min(8, study.workers)}
    if study.quick:
        changes |= {"train.members": 2, "train.max_epochs": 1, "train.workers": 1, "model.n_radial": 3}
        changes |= {"model.angular_zeta": [1.0], "model.angular_cutoff": 3.0, "model.hidden": [4, 4]}
    result = train(study.job(TrainJob, "committee.toml", changes))
    return Trained(folder="behler_parrinello", status="trained", epochs=result.epochs, minutes=result.minutes)


def scan(study: Study) -> None:
    """The four networks that the earlier study compared, with a `schnet` that is one."""
    changes: dict[str, Any] = {
        "output": study.out / "scan",
        "data": frames(study, "gfn1"),
        "scan.workers": study.workers,
    }
    if study.quick:
        changes |= {"train.max_epochs": 1, "scan.model.n_gaussians": [8, 8], "scan.model.features": [8, 4]}
        changes |= {"scan.model.n_interactions": [1, 1]}
    rows = []
    for point in run_scan(study.job(ScanJob, "scan.toml", changes)).points:
        key = tuple(point.values[f"model.{name}"] for name in ("n_gaussians", "features", "n_interactions"))
        own = errors(point.trainings[0].test)
        rows.append([*key, REPORTED_SCAN.get(key), _total(own), *cells(own), point.minutes and point.minutes.mean])
    study.keep("scan", {"best": min((row[5] for row in rows if row[5] is not None), default=None)})
    study.picture(study.out / "scan" / "scan.png")
    heads = ["Gaussians", "features", "interactions", "total RMSE, reported", "here", *COLUMNS, "minutes of training"]
    study.table("scan", heads, rows)


def _total(own: dict[str, float]) -> float | None:
    """Root of the loss of the earlier study, 0.1 MSE of the energy + MSE of forces, in hartree and bohr."""
    if not own:
        return None
    force = own["force_rmse"] / 1000 * Bohr / Hartree
    return math.sqrt(0.1 * own["energy_rmse_hartree"] ** 2 + force**2)


# ----- another level of theory ----------------------------------------------------------------------------------------

SIZES = (50, 200)
"""Frames of GFN2-xTB, validation frames among them."""


def transfer(study: Study) -> None:
    """Few frames of GFN2-xTB: from scratch, from the weights of GFN1-xTB, and the difference to it."""
    high = frames(study, "gfn2")
    sizes = (8,) if study.quick else SIZES
    base = study.checkpoint("models", "equivariant")
    jobs: dict[str, dict[str, Any]] = {}
    for n in sizes:
        data = {**high, "n_train": n - n // 10, "n_validation": n // 10 or 1}
        steps = {"max_epochs": 1 if study.quick else round(400 / math.sqrt(n))}
        anew = {"model": study.model("equivariant"), "train": steps}
        jobs[f"equivariant-{n}-scratch"] = {"data": data, **anew}
        jobs[f"equivariant-{n}-transfer"] = {"data": data, "train": {**steps, "start_from": base}}
        jobs[f"equivariant-{n}-delta"] = {"data": {**data, "base": {"model": base}}, **anew}
    found = study.train("transfer", jobs)
    rows = []
    for n in sizes:
        own = [errors(found[f"equivariant-{n}-{way}"].test) for way in ("scratch", "transfer", "delta")]
        rows.append([n, *(one.get("force_mae") for one in own), *(one.get("energy_mae") for one in own)])
    ways = ("from scratch", "transfer", "Δ-learning")
    heads = [f"{quantity}, {way}" for quantity in ("force MAE / meV/Å", "energy MAE / meV/atom") for way in ways]
    study.keep("transfer", {str(row[0]): row[1:] for row in rows})
    study.table("transfer", ["frames of GFN2-xTB", *heads], rows)


# ----- what dynamics shows --------------------------------------------------------------------------------------------


def md(study: Study) -> None:
    """Radial distribution functions at 300 K beside those of the reference."""
    import water_rdf

    from ase_mlcalc.study import StudyJob, run_study

    needs("tblite", 'pip install "ase-mlcalc[xtb]"')
    changes: dict[str, Any] = {"study.output": study.out / "md", "study.workers": study.workers}
    changes |= {"study.structures": [f"{water16('gfn1')}@-2"]}
    for name in ("equivariant", "schnet"):
        changes[f"study.models.{name}.model"] = str(study.checkpoint("models", name))
    member = study.checkpoint("models", "behler_parrinello").parent / "member-1" / "model.safetensors"
    changes["study.models.behler_parrinello.model"] = str(member)  # one runs eight times as fast as the committee
    if study.quick:
        changes |= {"md.time_ps": 0.01, "md.frames_every_fs": 1.0, "study.equilibration": "none", "study.seeds": 1}
    summary = run_study(study.job(StudyJob, "md.toml", changes))
    measured = {name: water_rdf.observables(summary, study.out / "md", name) for name in summary.models}
    reference = measured["reference"]
    rows = []
    for group in summary.groups:
        row: list[Any] = ["GFN1-xTB" if group.model == "reference" else f"`{group.model}`"]
        row += [f"{group.n_stable} of {group.n_runs}", group.ms_per_step]
        own = measured[group.model]
        row += water_rdf.distances(own, reference) if own is not None and own is not reference else [None] * 3
        rows.append(row)
    if reference is not None:
        path = study.out / "md" / "rdf.png"
        water_rdf.draw(path, {name: own for name, own in measured.items() if own is not None})
        study.picture(path)
    heads = ["forces", "stable runs", "ms per step", *(f"∫|Δg| of {pair} / Å (chance)" for pair in water_rdf.PAIRS)]
    study.table("rdf", heads, rows)


def openmm(study: Study) -> None:
    """The trained potential in OpenMM: the same energies and forces, and how fast it runs."""
    needs("openmm", "pip install openmm")
    import water_openmm

    steps = 20 if study.quick else 20_000
    found = water_openmm.run(study.checkpoint("models", "equivariant"), ase.io.read(water16("gfn1"), -2), steps)
    study.keep("openmm", found)
    study.table("openmm", list(found), [list(found.values())])


# ----------------------------------------------------------------------------------------------------------------------


def summary(study: Study) -> None:
    """The published figure, the published network here, and the best, side by side."""
    repaired, best, scanned = study.kept("published"), study.kept("models"), study.kept("scan")
    if not best and not scanned:
        raise LeftOut("make the stage models or scan first")
    ours, schnet = best.get("equivariant", {}), best.get("schnet", {})
    network = repaired.get("as published", {})

    def row(what: str, reported: float | None, key: str, factor: float, aim: str | None) -> list[Any]:
        values = [None if key not in own else own[key] / factor for own in (network, schnet, ours)]
        return [what, reported, *values, aim]

    rows = [
        row("force RMSE / eV/Å", PUBLISHED["force_rmse_eV_per_A"], "force_rmse", 1000, None),
        row("energy RMSE / hartree per box", PUBLISHED["energy_rmse_hartree"], "energy_rmse_hartree", 1, None),
        row("force MAE / meV/Å", None, "force_mae", 1, FORCE_AIM),
        row("energy MAE / meV/atom", None, "energy_mae", 1, ENERGY_AIM),
    ]
    if scanned.get("best") is not None:
        rows.append(["force RMSE / eV/Å, best of the scan", None, None, scanned["best"], None, None])
    heads = ["16 H2O, test frames", "published", "its network, here", "`schnet`", "`equivariant`", "aim"]
    study.table("summary", heads, rows, keys=1, fill=True)


STAGES = {
    "models": models,
    "published": published,
    "scan": scan,
    "transfer": transfer,
    "openmm": openmm,
    "md": md,
    "summary": summary,
}


def run(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """All stages, or some; returns what was left out and why."""
    return main(__file__, __doc__, STAGES, arguments)


if __name__ == "__main__":
    run()
