"""Flexible molecules: kernels and networks on few structures, along the paths that molecules change their shape on.

    python examples/flexible_molecules/run.py --quick
    python examples/flexible_molecules/run.py              # hours; the same command goes on after a kill

Rotation and inversion of azobenzene and the conformers of glycine are sampled and labelled here, with GFN2-xTB (the
extra xtb).  Learning curves on rMD17 need its files, see docs/data.md; the comparison with the package sgdml needs
``SGDML_PYTHON``, a python that has it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import KCAL_EV, TINY, LeftOut, Study, main, needs

from ase_mlcalc import MLCalculator
from ase_mlcalc.campaigns import LearningCurve, LearningCurveJob, run_learning_curve
from ase_mlcalc.labelling import label
from ase_mlcalc.sampling import SampleJob, relaxed_path, sample

REFERENCE = {"method": "GFN2-xTB", "verbosity": 0}
SETS = ("rotation", "inversion", "glycine")
MODELS = ("sgdml", "equivariant", "schnet", "behler_parrinello")
SIZES = (200, 400, 600, 800, 1000)
REPORTED = {
    "rotation": {"sgdml": (1.629, 1.160, 0.918, 0.804, 0.698), "schnet": (4.415, 3.949, 3.741, 3.145, 2.992)},
    "inversion": {"sgdml": (1.023, 0.717, 0.674, 0.511, 0.459), "schnet": (4.069, 3.821, 2.845, 2.895, 2.665)},
    "glycine": {"schnet": (4.348, 3.041, 2.802, 2.496, 1.954)},
}
"""Force errors (MAE, kcal/mol/Å) of the earlier study, with PBE+MBD labels, at `SIZES`."""
AZOBENZENE = ("rmd17", "rotation", "inversion")
SIGMA_AZOBENZENE = (20.0, 28.0)
"""Kernel lengths compared for azobenzene: with 1000 structures of the rotation forces of the validation structures are
wrong by 0.049, 0.039, 0.032, 0.029 of their size with 56, 40, 28, 20; shorter ones cost more iterations each."""
ROTATION_DEG = (180, 165, 150, 135, 120, 110, 100, 90, 80, 70, 55, 40, 25, 10)
INVERSION_DEG = (115, 125, 135, 145, 155, 165, 174, 186, 195, 205, 215, 225, 235)
CRITICAL = {"rotation": (70, 120), "inversion": (150, 210)}
"""Degrees between which a path counts as its transition region."""


def reference() -> Calculator:
    """GFN2-xTB."""
    needs("tblite", 'pip install "ase-mlcalc[xtb]"')
    from tblite.ase import TBLite

    return TBLite(**REFERENCE)


# ----- structures and labels ------------------------------------------------------------------------------------------


def paths(study: Study) -> None:
    """Relaxed paths of azobenzene, and the minima of glycine."""
    import starts

    for name in SETS:
        file = study.out / name / "path.extxyz"
        if file.exists() or (study.quick and name != "glycine"):
            continue
        file.parent.mkdir(exist_ok=True)
        calculator = reference()
        if name == "glycine":
            found = starts.glycine_conformers(calculator, 2 if study.quick else None)
            for atoms in found:
                atoms.calc = SinglePointCalculator(atoms, energy=atoms.info.pop("energy"), forces=_forces(atoms))
        else:
            coordinate = starts.ROTATION if name == "rotation" else starts.INVERSION
            values = ROTATION_DEG if name == "rotation" else INVERSION_DEG
            begin = starts.azobenzene(calculator)
            begin.info.clear()
            begin.rattle(0.005, seed=0)  # off the plane of symmetry
            found = relaxed_path(begin, calculator, coordinate, values, max_steps=500)
        ase.io.write(file, found)


def _forces(atoms: Atoms) -> np.ndarray:
    return reference().get_property("forces", atoms)


def _path(study: Study, name: str) -> list[Atoms]:
    file = study.out / name / "path.extxyz"
    if not file.exists():
        raise LeftOut(f"{file} is not there; make the stage paths first")
    return ase.io.read(file, ":")


def sets(study: Study) -> None:
    """Molecular dynamics around every structure of the paths, thinned to what differs, and labelled."""
    rows = []
    for name in _sampled(study):
        folder, points = study.out / name, _path(study, name)
        changes: dict[str, Any] = {
            "sample.output": folder / "sample",
            "sample.structures": [f"{folder / 'path.extxyz'}@{k}" for k in range(len(points))],
            "sample.workers": study.workers,
        }
        if name == "glycine":
            changes |= {"sample.seeds": max(2, -(-48 // len(points)))}  # as many runs as along a path
        if study.quick:
            changes |= {"sample.seeds": 1, "sample.temperatures_K": [300], "sample.discard_ps": 0.005}
            changes |= {"md.time_ps": 0.05, "md.frames_every_fs": 2.0, "sample.n_structures": 30}
            changes |= {"sample.structures": changes["sample.structures"][:2]}
        found = sample(study.job(SampleJob, "sample.toml", changes))
        done = label(
            ase.io.read(found.out, ":"),
            "tblite.ase:TBLite",
            folder / "labelled.extxyz",
            arguments=REFERENCE,
            properties=["energy", "forces"],
            workers=study.workers,
        )
        labelled = ase.io.read(done.out, ":")
        spread = np.std([atoms.get_potential_energy() for atoms in labelled]) / KCAL_EV
        size = np.sqrt(np.mean([np.square(atoms.get_forces()) for atoms in labelled])) / KCAL_EV
        rows.append([name, len(points), len(found.runs), found.n_candidates, done.n_labelled, spread, size])
        study.picture(found.figure, f"sample_{name}.png")
    heads = ["set", "structures of the path", "runs", "frames", "labelled"]
    study.table("sets", [*heads, "std of energy / kcal/mol", "rms force / kcal/mol/Å"], rows, keys=1)


def _sampled(study: Study) -> list[str]:
    return ["glycine"] if study.quick else list(SETS)


# ----- learning curves ------------------------------------------------------------------------------------------------


def _folder(study: Study, name: str) -> Path:
    """Of a learning curve."""
    return study.out / ("rmd17" if name == "rmd17" else f"{name}/curve")


def _curve(study: Study, name: str, data: dict[str, Any], sizes: Sequence[int]) -> LearningCurve:
    changes: dict[str, Any] = {"output": _folder(study, name), "data": data, "learning_curve.workers": study.workers}
    changes |= {"learning_curve.sizes": list(sizes)}
    if name in AZOBENZENE:
        changes["learning_curve.models.sgdml.sigma"] = SIGMA_AZOBENZENE
    if study.quick:
        changes |= {"learning_curve.steps": 4, "learning_curve.models": {name: TINY[name] for name in MODELS}}
    return run_learning_curve(study.job(LearningCurveJob, "learning_curve.toml", changes))


def _rows(curve: LearningCurve, reported: dict[str, Sequence[float]]) -> list[list[Any]]:
    """Force errors in kcal/mol/Å, a row for each model, over the sizes; reported ones below."""
    rows = []
    for model in curve.models:
        by_size = {point.size: point for point in curve.of(model)}
        errors = [
            None if size not in by_size else by_size[size].errors["forces"].mean / 1000 / KCAL_EV
            for size in curve.sizes
        ]
        rows.append([f"`{model}`", *errors])
    rows += [[f"{model}, reported (other labels)", *values] for model, values in reported.items()]
    return rows


def curves(study: Study) -> None:
    """Force errors against the number of structures, on the sets of this study."""
    for name in _sampled(study):
        data = {
            "train": _labelled(study, name),
            "n_validation": 5 if study.quick else 50,
            "n_test": 5 if study.quick else 300,
        }
        sizes = (5, 10) if study.quick else SIZES
        curve = _curve(study, name, data, sizes)
        _show(study, name, curve, {} if study.quick else REPORTED[name])


def _show(study: Study, name: str, curve: LearningCurve, reported: dict[str, Sequence[float]]) -> None:
    study.keep(f"curve-{name}", {row[0].strip("`"): row[1:] for row in _rows(curve, {})})
    study.table(name, ["force MAE / kcal/mol/Å", *map(str, curve.sizes)], _rows(curve, reported))
    study.picture(_folder(study, name) / "learning_curve.png", f"curve_{name}.png")


def rmd17(study: Study) -> None:
    """The same on public data: rMD17 azobenzene."""
    if study.quick:
        raise LeftOut("needs public data and an hour; not part of --quick")
    train, test = study.data("rmd17/azobenzene_train.npz", "rmd17/azobenzene_test.npz")
    data = {"train": train, "test": test, "n_validation": 50}
    _show(study, "rmd17", _curve(study, "rmd17", data, (*SIZES[:-1], 950)), {})


# ----- along the paths ------------------------------------------------------------------------------------------------


def along(study: Study) -> None:
    """Where on a path the errors are: minima, transition region, barrier."""
    import along_path

    rows = []
    for name in _sampled(study):
        points = _path(study, name)
        size = 10 if study.quick else SIZES[-1]
        found = {}
        for model in MODELS:
            checkpoint = _folder(study, name) / "trainings" / model / str(size) / "seed-0" / "model.safetensors"
            if not checkpoint.exists():
                continue
            found[model] = along_path.follow(points, MLCalculator(checkpoint))
            rows.append([name, f"`{model}`", *along_path.errors(points, found[model], CRITICAL.get(name))])
        if found:
            picture = study.out / name / f"along_{name}.png"
            along_path.draw(picture, points, found)
            study.picture(picture)
    if not rows:
        raise LeftOut("no training of the learning curves is over; make the stage curves first")
    study.table("along", ["path", "model", *along_path.COLUMNS], rows, keys=2)


# ----- beside the point -------------------------------------------------------------------------------------------


def trap(study: Study) -> None:
    """Energies divided by their standard deviation, forces left as they are: what audit and errors say."""
    import energy_trap

    name = _sampled(study)[0]
    energy_trap.show(study, _labelled(study, name))


def package(study: Study) -> None:
    """`sgdml` beside the package of that name: the same structures, kernel and test."""
    import package_sgdml

    package_sgdml.show(study, {name: _labelled(study, name) for name in _sampled(study)})


def _labelled(study: Study, name: str) -> Path:
    file = study.out / name / "labelled.extxyz"
    if not file.exists():
        raise LeftOut(f"{file} is not there; make the stage sets first")
    return file


# ----------------------------------------------------------------------------------------------------------------------


def summary(study: Study) -> None:
    """Published figures, the same methods here, and the best, with the smallest and the largest set."""
    rows = []
    for name in ("rmd17", *SETS):
        kept = study.kept(f"curve-{name}")
        if not kept:
            continue
        for position, size in ((0, SIZES[0]), (-1, 950 if name == "rmd17" else SIZES[-1])):
            said = REPORTED.get(name, {})
            reported = [said[model][position] if model in said else None for model in ("sgdml", "schnet")]
            own = [kept[model][position] if model in kept else None for model in ("sgdml", "schnet", "equivariant")]
            rows.append([name, size, *reported, *own])
    if not rows:
        raise LeftOut("no learning curve is there; make the stage curves first")
    heads = ["set", "structures", "sGDML, published", "SchNet, published", "`sgdml`", "`schnet`", "`equivariant`"]
    study.table("summary", heads, rows, keys=2)


STAGES = {
    "paths": paths,
    "sets": sets,
    "curves": curves,
    "along": along,
    "trap": trap,
    "package": package,
    "rmd17": rmd17,
    "summary": summary,
}


def run(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """All stages, or some; returns what was left out and why."""
    return main(__file__, __doc__, STAGES, arguments)


if __name__ == "__main__":
    run()
