"""`sgdml` beside the package of that name, which runs in a python of its own."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from common import KCAL_EV, ROOT, LeftOut, Study

SIGMA = 20.0


def show(study: Study, sets: Mapping[str, Path]) -> None:
    """Force errors of both on the same test structures, from the same training structures and kernel.

    Raises
    ------
    LeftOut
        No python with the package.
    """
    python = os.environ.get("SGDML_PYTHON")
    if not python:
        raise LeftOut("set SGDML_PYTHON to a python with the package sgdml (pip install sgdml, in a place of its own)")
    rows = []
    for name, file in sets.items():
        frames = ase.io.read(file, ":")
        order = np.random.default_rng(0).permutation(len(frames))
        n_test = 5 if study.quick else 300
        tested = write_npz(file.with_name("tested.npz"), [frames[k] for k in order[:n_test]])
        for n in (10,) if study.quick else (200, 400):
            stage = f"package-{name}-{n}"
            chosen = [frames[k] for k in order[n_test : n_test + n]]
            learned = write_npz(file.with_name(f"learned-{n}.npz"), chosen)
            data = {"train": learned, "validation": tested}
            (ours,) = study.train(stage, {"ours": {"data": data, "model": {"name": "sgdml", "sigma": SIGMA}}}).values()
            mine = None if ours.validation is None else ours.validation.force_mae_meV_per_A / 1000 / KCAL_EV
            theirs = _of_package(python, learned, tested, n, study.out / stage / "package")
            rows.append([name, n, mine, theirs, None if mine is None else mine / theirs])
            study.table("package", ["set", "structures", "`sgdml`, kcal/mol/Å", "package sgdml", "ratio"], rows, keys=2)


def _of_package(python: str, learned: Path, tested: Path, n: int, out: Path) -> float:
    if not (out / "predictions.npz").exists():
        script = ROOT / "benchmarks" / "sgdml_package.py"
        words = [python, script, learned, n, SIGMA, out, tested, 1]
        subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    with np.load(out / "predictions.npz") as predicted, np.load(tested) as labels:
        return float(np.abs(predicted["F"] - labels["F"]).mean())


def write_npz(path: Path, frames: Sequence[Atoms]) -> Path:
    """A data set in the format of the package, kcal/mol and Å."""
    np.savez(
        path,
        z=frames[0].numbers,
        R=np.array([atoms.positions for atoms in frames]),
        E=np.array([atoms.get_potential_energy() for atoms in frames]) / KCAL_EV,
        F=np.array([atoms.get_forces() for atoms in frames]) / KCAL_EV,
    )
    return path
