"""Direct against conservative forces at constant energy (``make bench-direct-forces``).

Direct force prediction conserves neither energy nor, in its plain form, momentum.  Here tensor field networks in three
variants and a model of energies are trained on the same structures of one molecule for the same time, then run by the
same protocol: Langevin dynamics until the temperature settles, then constant energy with rigid motion taken out after
every step.  What is measured is the heating rate, the slope of the temperature, which does not need an energy.

Data are read from ``$ASE_MLCALC_DATA``, see docs/data.md.  A killed benchmark goes on where it stopped.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from rich.console import Console
from rich.table import Table

from ase_mlcalc.config import validate
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.study import StudyJob, run_study
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train

MODELS = {
    "direct-free": {"name": "tensor_field", "variant": "free"},
    "direct-zero-net-force": {"name": "tensor_field", "variant": "zero_net_force"},
    "direct-pairwise": {"name": "tensor_field", "variant": "pairwise"},
    "equivariant": {"name": "equivariant"},
}


def trained(folder: Path, data: Path, molecule: str, minutes: float) -> dict[str, dict[str, str]]:
    """Checkpoints of all models, and their force errors on the console."""
    sources = {}
    for name, model in MODELS.items():
        job = {
            "output": folder / "models" / name,
            "data": {"train": data / "rmd17" / f"{molecule}_train.npz"},
            "model": model,
            "train": {"max_minutes": minutes},
        }
        result = train(validate(TrainJob, job, name))
        print(f"{name}: force MAE {result.metrics.force_mae_meV_per_A:.1f} meV/Å on validation structures", flush=True)
        sources[name] = {"model": str(result.checkpoint)}
    return sources


def starting_structure(folder: Path, data: Path, molecule: str) -> Path:
    """The structure of lowest energy among those of the training set."""
    frames = read_frames([data / "rmd17" / f"{molecule}_train.npz"])
    energies = [float(frame.labels.energy) for frame in frames]
    best = frames[int(np.argmin(energies))].atoms
    path = folder / f"{molecule}.extxyz"
    write(path, Atoms(best.numbers, best.positions), format="extxyz")
    return path


def _plus_minus(value: float | None, error: float | None, digits: int) -> str:
    return "-" if value is None or error is None else f"{value:+.{digits}f} ± {error:.{digits}f}"


def main() -> None:
    """Train, run, print and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecule", default="toluene")
    parser.add_argument("--minutes", type=float, default=12.0, help="of training, each model")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--time-ps", type=float, default=2.0, help="at constant energy")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/direct-forces"))
    arguments = parser.parse_args()
    data = Path(os.environ["ASE_MLCALC_DATA"])
    sources = trained(arguments.out, data, arguments.molecule, arguments.minutes)
    if arguments.train_only:
        return
    study = {
        "output": arguments.out / "study",
        "models": sources,
        "structures": [str(starting_structure(arguments.out, data, arguments.molecule))],
        "temperatures_K": [100.0, 200.0, 300.0],
        "timesteps_fs": [0.5],
        "seeds": arguments.seeds,
        "equilibration": "langevin-settle",
        "scans": False,
        "workers": arguments.workers,
    }
    stage = {"ensemble": "nve", "time_ps": arguments.time_ps, "rigid_motion": "removed-always"}
    from ase_mlcalc.report.study_report import write_study_report

    summary = run_study(validate(StudyJob, {"study": study, "md": stage}, "study"))
    table = Table("model", "T / K", "stable", "heating / K/ps", "drift / meV/atom/ps", title="at constant energy")
    for group in summary.groups:
        heating = _plus_minus(group.heating_K_per_ps, group.heating_stderr, 2)
        drift = _plus_minus(group.drift_meV_per_atom_per_ps, group.drift_stderr, 4)
        stable = f"{group.n_stable}/{group.n_runs}"
        table.add_row(group.model, f"{group.temperature_K:g}", stable, heating, drift)
    Console(width=110).print(table)
    print(f"wrote {write_study_report(arguments.out / 'study')}")


if __name__ == "__main__":
    main()
