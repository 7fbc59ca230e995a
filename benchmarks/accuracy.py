"""Accuracy after a fixed time of training, on public reference data (``make bench-accuracy``).

Each case trains with the package's defaults for so many minutes of wall time on this machine, evaluates the checkpoint
on test structures that training never saw, and is compared with an aim.  Data are read from ``$ASE_MLCALC_DATA``::

    rmd17/NAME_train.npz, NAME_test.npz   revised MD17, 1000 and 500 structures (Christensen and von Lilienfeld 2020)
    mlearn/Si_train.xyz, Si_test.xyz      elemental silicon (Zuo et al. 2020)

The demo, which needs none of these, is one more case: its errors are those on the structures that it holds back.
Results go to ``--out`` as ``accuracy.json``; a killed benchmark goes on where it stopped.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from rich.console import Console
from rich.table import Table

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.config import validate
from ase_mlcalc.demo import DRIFT_AIM_MEV_PER_ATOM_PER_PS, ENERGY_AIM_MEV_PER_ATOM, FORCE_AIM_MEV_PER_A, run_demo
from ase_mlcalc.files import write_text
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.evaluate import evaluate_files
from ase_mlcalc.training.train import train


class Case(NamedTuple):
    """One training run and what it should reach."""

    name: str
    files: str
    """Path of the data below the data folder, with {part} for train or test."""
    model: dict[str, Any]
    minutes: float
    aims: dict[str, float]
    """Key of metrics.json to the largest value aimed at."""


FORCE, ENERGY, STRESS = "force_mae_meV_per_A", "energy_mae_meV_per_atom", "stress_mae_GPa"
DRIFT = "nve_drift_meV_per_atom_per_ps"
CASES = (
    Case("aspirin-equivariant", "rmd17/aspirin_{part}.npz", {"name": "equivariant"}, 20, {FORCE: 14}),
    Case("aspirin-schnet", "rmd17/aspirin_{part}.npz", {"name": "schnet"}, 20, {FORCE: 35}),
    Case("ethanol-equivariant", "rmd17/ethanol_{part}.npz", {"name": "equivariant"}, 10, {FORCE: 8}),
    Case("benzene-equivariant", "rmd17/benzene_{part}.npz", {"name": "equivariant"}, 10, {FORCE: 1.5}),
    Case("Si-equivariant", "mlearn/Si_{part}.xyz", {"name": "equivariant"}, 10, {FORCE: 80, ENERGY: 5, STRESS: 0.4}),
)
DEMO = "demo"
DEMO_AIMS = {FORCE: FORCE_AIM_MEV_PER_A, ENERGY: ENERGY_AIM_MEV_PER_ATOM, DRIFT: DRIFT_AIM_MEV_PER_ATOM_PER_PS}
CALL_AIM_MS = 6.0


def run_case(case: Case, data: Path, out: Path) -> dict[str, Any]:
    """Train and evaluate; a finished case is only read."""
    folder = out / case.name
    job = validate(
        TrainJob,
        {
            "output": folder,
            "data": {"train": data / case.files.format(part="train")},
            "model": case.model,
            "train": {"max_minutes": case.minutes},
        },
        case.name,
    )
    result = train(job)
    metrics_file = folder / "test" / "metrics.json"
    if not metrics_file.exists():
        evaluate_files(result.checkpoint, [data / case.files.format(part="test")], folder / "test")
    measured = json.loads(metrics_file.read_text())
    trained = json.loads((folder / "metrics.json").read_text())
    return {
        "case": case.name,
        "minutes": trained["minutes"],
        "epochs": trained["epochs"],
        "aims": case.aims,
        **{key: measured[key] for key in (FORCE, "force_rmse_meV_per_A", ENERGY, STRESS)},
    }


def run_demonstration(out: Path) -> dict[str, Any]:
    """The demo as ``make demo`` runs it; a finished one is only read."""
    summary_file = out / DEMO / "summary.json"
    if not summary_file.exists():
        run_demo(out / DEMO)
    summary = json.loads(summary_file.read_text())
    quantities = (FORCE, ENERGY, STRESS, DRIFT, "nve_drift_stderr", "nve_ps", "md_ms_per_step")
    return {
        "case": DEMO,
        "minutes": summary["total_minutes"],
        "aims": DEMO_AIMS,
        **{key: summary[key] for key in quantities},
    }


def time_call(model: Path, structure: Atoms, calls: int = 100) -> dict[str, float]:
    """Median wall time of one energy-and-force call at a new geometry, eager, at both useful numbers of threads."""
    timings = {}
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        atoms = structure.copy()
        atoms.calc = MLCalculator(model)
        taken = []
        for call in range(calls + 10):
            atoms.rattle(1e-3, seed=call)
            begin = time.perf_counter()
            atoms.get_forces()
            taken.append(1e3 * (time.perf_counter() - begin))
        timings[f"{threads}_thread_ms"] = float(np.median(taken[10:]))
    torch.set_num_threads(before)
    return timings


def render(rows: list[dict[str, Any]], calls: dict[str, dict[str, float]]) -> Table:
    """Measured numbers beside the aims."""
    table = Table("case", "minutes", "epochs", "quantity", "measured", "aim", title="Accuracy on test structures")
    for row in rows:
        for key, aim in row["aims"].items():
            epochs = f"{row['epochs']:.0f}" if "epochs" in row else ""
            value = f"{row[key]:.3g}" + (f" ± {row['nve_drift_stderr']:.1g}" if key == DRIFT else "")
            table.add_row(row["case"], f"{row['minutes']:.1f}", epochs, key, value, f"<= {aim:g}")
    for case, timings in calls.items():
        for threads, milliseconds in timings.items():
            table.add_row(case, "", "", f"call, {threads}", f"{milliseconds:.2f}", f"<= {CALL_AIM_MS:g}")
    return table


def main() -> None:
    """Run all cases, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--only", nargs="+", metavar="CASE", choices=[DEMO, *(case.name for case in CASES)])
    parser.add_argument("--minutes-factor", type=float, default=1.0, help="scale all times (for a quick look)")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if arguments.only is None or case.name in arguments.only]
    data = data_folder([case.files.format(part=part) for case in chosen for part in ("train", "test")])
    rows: list[dict[str, Any]] = []
    calls: dict[str, dict[str, float]] = {}
    console = Console(width=110)
    if arguments.only is None or DEMO in arguments.only:
        rows.append(run_demonstration(arguments.out))
    for case in chosen:
        scaled = case._replace(minutes=case.minutes * arguments.minutes_factor)
        console.rule(f"{case.name}, {scaled.minutes:g} minutes")
        rows.append(run_case(scaled, data, arguments.out))
        if case.name.startswith("aspirin"):
            archive = np.load(data / case.files.format(part="test"))
            calls[case.name] = time_call(
                arguments.out / case.name / "model.safetensors",
                Atoms(archive["nuclear_charges"], archive["coords"][0]),
            )
    report = {"threads": torch.get_num_threads(), "torch": torch.__version__, "cases": rows, "calls": calls}
    write_text(arguments.out / "accuracy.json", json.dumps(report, indent=2))
    console.print(render(rows, calls))


def data_folder(files: Sequence[str]) -> Path:
    """Where the reference data are; ends the program if these files, relative to it, are not all there."""
    data = Path(os.environ.get("ASE_MLCALC_DATA", ""))
    missing = ", ".join(str(data / file) for file in files if not (data / file).exists())
    if missing:
        sys.exit(
            f"missing reference data: {missing}; set ASE_MLCALC_DATA, docs/data.md says which public files go there"
        )
    return data


if __name__ == "__main__":
    main()
