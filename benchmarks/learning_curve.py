"""A learning curve on the set that comes with the package (``make bench-learning-curve``).

A small model is trained with and without a layer of messages, on 12 to 200 structures of water16, and measured on 100
others.  The picture is that of docs/campaigns.md.  A killed benchmark goes on where it stopped.
"""

import argparse
import shutil
from pathlib import Path

from ase_mlcalc.campaigns import LearningCurveJob, run_learning_curve
from ase_mlcalc.cli.campaign_tables import show_curve
from ase_mlcalc.config import validate
from ase_mlcalc.data.sets import water16

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "learning_curve.png"
SMALL = {"name": "equivariant", "cutoff": 4.5, "l_max": 1, "features": 16, "edge_features": 8}


def job(folder: Path, workers: int | None) -> LearningCurveJob:
    """The learning curve."""
    raw = {
        "output": folder,
        "data": {"train": water16("gfn1"), "n_validation": 31, "n_test": 100},
        "train": {"batch_size": 1},  # many small steps, because there are few of them
        "learning_curve": {
            "sizes": [12, 25, 50, 100, 200],
            "seeds": 2,
            "steps": 1600,
            "workers": workers,
            "models": {"density": {**SMALL, "n_interactions": 0}, "messages": SMALL},
        },
    }
    return validate(LearningCurveJob, raw, "benchmark")


def main() -> None:
    """Train, print the table, keep the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/learning-curve"))
    parser.add_argument("--workers", type=int, help="trainings side by side; default: one for each core")
    arguments = parser.parse_args()
    show_curve(run_learning_curve(job(arguments.out, arguments.workers)))
    shutil.copy(arguments.out / "learning_curve.png", PICTURE)
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
