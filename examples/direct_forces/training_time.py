"""Times of trainings from their logs, by the time of an epoch, so that pauses of the machine do not count.

Trainings have one thread, so that hours are core-hours.
"""

import csv
from pathlib import Path

import numpy as np
from common import KCAL_EV


def _log(folder: Path) -> dict[str, np.ndarray] | None:
    path = folder / "log.csv"
    if not path.exists():
        return None
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    columns = ("epoch", "minutes", "val_force_mae_meV_per_A")
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns}


def _minutes_per_epoch(log: dict[str, np.ndarray]) -> float:
    """Median over the validations."""
    if len(log["epoch"]) < 2:
        return float(log["minutes"][-1] / log["epoch"][-1])
    return float(np.median(np.diff(log["minutes"]) / np.diff(log["epoch"])))


def core_hours(folder: Path) -> float | None:
    """Of a whole training, of an ensemble with all of its members; ``None`` before there is one."""
    logs = [_log(one) for one in sorted(folder.glob("member-*")) or [folder]]
    made = [float(log["epoch"][-1]) * _minutes_per_epoch(log) / 60 for log in logs if log is not None]
    return sum(made) if made else None


def to_common_error(one: Path, other: Path) -> list[float | None]:
    """Minutes of two trainings until they are within 10 % of the worse of their errors, their ratio, that error.

    The measure of the thesis.  Errors are those on the validation structures; the best so far counts.
    """
    logs = [_log(one), _log(other)]
    if logs[0] is None or logs[1] is None:
        return [None] * 4
    best = [np.minimum.accumulate(log["val_force_mae_meV_per_A"]) for log in logs]
    common = 1.1 * max(float(own[-1]) for own in best)
    minutes = [
        float(log["epoch"][int(np.argmax(own <= common))]) * _minutes_per_epoch(log)
        for log, own in zip(logs, best, strict=True)
    ]
    return [*minutes, minutes[1] / minutes[0], common / 1000 / KCAL_EV]
