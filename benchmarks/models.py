"""What each family of models reaches, beside published figures or another program (``make bench-models``).

Data are read from ``$ASE_MLCALC_DATA``, see docs/data.md.  Each case has a folder below ``--out``; results are printed
as one table and written to ``models.json`` there, where those of cases that were measured earlier are kept.  A killed
benchmark goes on where it stopped.

To add a case, write a function that measures it and returns rows, and a line in `CASES`.
"""

import argparse
import json
import math
import os
import subprocess
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import accuracy
import numpy as np
import torch
from ase.units import kcal, mol
from rich.console import Console
from rich.table import Table

from ase_mlcalc.config import validate
from ase_mlcalc.data.sets import water16
from ase_mlcalc.files import write_text
from ase_mlcalc.training.calibration import calibrate_files
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.metrics import Metrics
from ase_mlcalc.training.train import train

KCAL_PER_MOL_IN_MEV = 1000 * kcal / mol
RESULTS_FILE = "models.json"


class Row(NamedTuple):
    """One measured number."""

    quantity: str
    """With its unit."""
    measured: float
    aim: float | None = None
    at_least: bool = False
    """The aim is a lower bound; otherwise an upper one."""

    @property
    def reached(self) -> bool | None:
        """Whether the number is as good as its aim, if it has one."""
        if self.aim is None:
            return None
        return self.measured >= self.aim if self.at_least else self.measured <= self.aim


class Case(NamedTuple):
    """Something to measure."""

    name: str
    files: tuple[str, ...]
    """What it reads, below the data folder."""
    measure: Callable[[Path, Path, float], list[Row]]
    """From the data folder, the output folder of all cases and the minutes to rows."""
    minutes: float
    """Wall time of each training run; NaN where it ends by itself."""


# ----- tensor_field: direct forces ------------------------------------------------------------------------------------

THESIS_KCAL_PER_MOL_A = {
    "benzene": 0.19,
    "toluene": 0.39,
    "malonaldehyde": 1.00,
    "salicylic": 0.78,
    "aspirin": 1.09,
    "ethanol": 0.73,
    "uracil": 0.60,
    "naphthalene": 0.30,
}
"""Force errors after up to a week on a GPU with 1000 structures of MD17: S. Batzner (2019), table 3.1."""


def direct_forces(molecule: str, variant: str, data: Path, out: Path, minutes: float) -> list[Row]:
    """Force error of `tensor_field` on test structures of a molecule, with the package's defaults."""
    case = accuracy.Case(
        name=_direct_name(molecule, variant),
        files=f"rmd17/{molecule}_{{part}}.npz",
        model={"name": "tensor_field", "variant": variant},
        minutes=minutes,
        aims={},
    )
    force_mae = accuracy.run_case(case, data, out)[accuracy.FORCE] / KCAL_PER_MOL_IN_MEV
    return [Row("force MAE / kcal/mol/Å", force_mae, THESIS_KCAL_PER_MOL_A[molecule])]


def _direct_name(molecule: str, variant: str) -> str:
    return f"tensor_field-{molecule}" + (f"-{variant}" if variant != "free" else "")


def _direct_case(molecule: str, variant: str = "free") -> Case:
    files = tuple(f"rmd17/{molecule}_{part}.npz" for part in ("train", "test"))
    return Case(_direct_name(molecule, variant), files, partial(direct_forces, molecule, variant), minutes=5)


# ----- body_order: what pairs and triplets of their own are worth -----------------------------------------------------

TRAINING, HELD_BACK = ":478", "478:"
"""Structures of water16; the order in the file is random."""
TERMS = ("pair", "triplet", "message_passing")


def decomposition(_data: Path, out: Path, minutes: float) -> list[Row]:
    """The decomposed energy beside its message passing alone: same data, cutoffs, sizes and time."""
    errors = {}
    for name, terms in (("whole", TERMS), ("control", TERMS[-1:])):
        folder = out / "body_order" / name
        job = {
            "output": folder,
            "data": {"train": water16("gfn2"), "index": TRAINING},
            "model": {"name": "body_order", "cutoff": 5.0, "terms": terms},
            "train": {"max_minutes": minutes},
        }
        trained = train(validate(TrainJob, job, name))
        errors[name] = evaluate_files(trained.checkpoint, [water16("gfn2")], folder / "test", index=HELD_BACK)
    whole, control = errors["whole"], errors["control"]
    return [
        Row("force RMSE / meV/Å, below message passing alone", *_both(whole, control, "force_rmse_meV_per_A")),
        Row("energy RMSE / meV/atom, below message passing alone", *_both(whole, control, "energy_rmse_meV_per_atom")),
    ]


def _both(one: Metrics, other: Metrics, name: str) -> tuple[float, float]:
    return getattr(one, name), getattr(other, name)


# ----- ensembles ------------------------------------------------------------------------------------------------------

COMMITTEE = 4


def committee(data: Path, out: Path, minutes: float) -> list[Row]:
    """How well the spread of an ensemble on ethanol tells its force errors, on test structures."""
    job = {
        "output": out / "committee",
        "data": {"train": data / "rmd17/ethanol_train.npz"},
        "model": {"name": "equivariant"},
        "train": {"max_minutes": COMMITTEE * minutes, "members": COMMITTEE},
    }
    trained = train(validate(TrainJob, job, "committee"))
    test = [data / "rmd17/ethanol_test.npz"]
    found = calibrate_files(trained.checkpoint, test, out / "committee" / "test")["forces"]
    each = [
        evaluate_files(trained.checkpoint.parent / f"member-{k + 1}" / "model.safetensors", test, out / "committee/one")
        for k in range(COMMITTEE)
    ]
    whole = evaluate_files(trained.checkpoint, test, out / "committee" / "whole")
    return [
        Row("rank correlation of spread and force error", found.rank_correlation or 0.0, 0.5, at_least=True),
        Row("expected error over spread", found.scale),
        Row("miscalibration area", found.miscalibration_area),
        Row("miscalibration area, rescaled", found.miscalibration_area_rescaled),
        Row("force MAE of the ensemble / meV/Å", whole.force_mae_meV_per_A or math.nan),
        Row("force MAE of a member, mean / meV/Å", fmean(one.force_mae_meV_per_A or math.nan for one in each)),
    ]


# ----- sgdml: beside the package of that name -------------------------------------------------------------------------

PACKAGE_PYTHON = "SGDML_PYTHON"
"""Environment variable: a python with the package ``sgdml``; without it there is nothing to compare with."""


def kernel_model(molecule: str, n_train: int, sigma: float, data: Path, out: Path, _: float) -> list[Row]:
    """Error and time of `sgdml` and of the package, for the same structures and kernel, on the same cores."""
    folder = out / f"sgdml-{molecule}"
    files = [data / f"rmd17/{molecule}_{part}.npz" for part in ("train", "test")]
    job = {
        "output": folder / "ours",
        "data": {"train": files[0], "validation": files[1], "index": f":{n_train}"},
        "model": {"name": "sgdml", "sigma": sigma},
    }
    trained = train(validate(TrainJob, job, molecule))
    force_mae = evaluate_files(trained.checkpoint, files[1:], folder / "test").force_mae_meV_per_A or math.nan
    theirs = _package_of_that_name(files, n_train, sigma, folder / "package")
    aims = (None, None) if theirs is None else (1.03 * theirs[0], theirs[1])
    return [
        Row("force MAE / meV/Å, within 3 % of the package", force_mae, aims[0]),
        Row("wall time of the whole run / s, of solving in the package", 60 * trained.minutes, aims[1]),
    ]


def _package_of_that_name(files: list[Path], n_train: int, sigma: float, out: Path) -> tuple[float, float] | None:
    """Force error in meV/Å and seconds of the package ``sgdml``."""
    python = os.environ.get(PACKAGE_PYTHON)
    if python is None:
        print(f"set {PACKAGE_PYTHON} to a python with the package sgdml to compare with it")
        return None
    script = Path(__file__).with_name("sgdml_package.py")
    words = [python, script, files[0], n_train, sigma, out, files[1], torch.get_num_threads()]
    done = subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    seconds = json.loads(done.stdout.splitlines()[-1])["wall_s"]
    with np.load(out / "predictions.npz") as predicted, np.load(files[1]) as test:
        error = np.abs(predicted["F"] - test["forces"]).mean()
    return float(error) * KCAL_PER_MOL_IN_MEV, seconds


# ----------------------------------------------------------------------------------------------------------------------

CASES: tuple[Case, ...] = (
    *(_direct_case(molecule) for molecule in THESIS_KCAL_PER_MOL_A),
    _direct_case("aspirin", "zero_net_force"),
    _direct_case("aspirin", "pairwise"),
    Case("body_order", (), decomposition, minutes=10),
    Case("committee", ("rmd17/ethanol_train.npz", "rmd17/ethanol_test.npz"), committee, minutes=3),
    *(
        Case(
            f"sgdml-{molecule}",
            tuple(f"rmd17/{molecule}_{part}.npz" for part in ("train", "test")),
            partial(kernel_model, molecule, n_train, sigma),
            minutes=math.nan,
        )
        for molecule, n_train, sigma in (("azobenzene", 200, 30.0), ("ethanol", 1000, 20.0))
    ),
)


def main() -> None:
    """Run all cases, or some."""
    arguments = _arguments()
    chosen = [case for case in CASES if any(fnmatch(case.name, pattern) for pattern in arguments.only)]
    if not chosen:
        raise SystemExit(f"no case is called {' or '.join(arguments.only)}; there are:\n" + "\n".join(_names(CASES)))
    data = accuracy.data_folder([name for case in chosen for name in case.files])
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    rows: dict[str, list[Row]] = {}
    for case in chosen:
        minutes = arguments.minutes or case.minutes
        console.rule(case.name if math.isnan(minutes) else f"{case.name}, {minutes:g} minutes")
        rows[case.name] = case.measure(data, arguments.out, minutes)
        _write(arguments.out / RESULTS_FILE, {case.name: _as_json(rows[case.name], minutes)})
    console.print(render(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/models"))
    parser.add_argument(
        "--only", nargs="+", metavar="CASE", default=["*"], help="names or patterns such as 'tensor_field-*'"
    )
    parser.add_argument("--minutes", type=float, help="of each training run; default: what each case says")
    return parser.parse_args()


def _names(cases: Sequence[Case]) -> list[str]:
    return [case.name for case in cases]


def _as_json(rows: list[Row], minutes: float) -> dict[str, Any]:
    return {
        "minutes": None if math.isnan(minutes) else minutes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": [{**row._asdict(), "reached": row.reached} for row in rows],
    }


def _write(path: Path, results: dict[str, Any]) -> None:
    """Add results to the file."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, json.dumps(earlier | results, indent=2, ensure_ascii=False))


def render(rows: dict[str, list[Row]]) -> Table:
    """Measured numbers beside the aims."""
    table = Table("case", "quantity", "measured", "aim", "", title="Families of models")
    words = {True: "reached", False: "missed", None: ""}
    for name, measured in rows.items():
        for row in measured:
            aim = "" if row.aim is None else f"{'>=' if row.at_least else '<='} {row.aim:g}"
            table.add_row(name, row.quantity, f"{row.measured:.3g}", aim, words[row.reached])
    return table


if __name__ == "__main__":
    main()
