"""The log of a run: one row per validation."""

import csv
import io
import math
from collections.abc import Sequence

from ase_mlcalc.training.metrics import Metrics

LogRow = dict[str, float]
"""Column to number; NaN where there is none."""


def log_row(
    metrics: Metrics,
    *,
    epoch: float,
    step: int,
    minutes: float,
    train_loss: float,
    val_loss: float,
    learning_rate: float,
) -> LogRow:
    """A row of the log: where the run is, and the errors of the moving average on the validation structures."""

    def number(value: float | None) -> float:
        return math.nan if value is None else value

    return {
        "epoch": epoch,
        "step": step,
        "minutes": minutes,
        "train_loss": train_loss,
        "val_loss": val_loss,
        "val_force_mae_meV_per_A": number(metrics.force_mae_meV_per_A),
        "val_force_rmse_meV_per_A": number(metrics.force_rmse_meV_per_A),
        "val_energy_mae_meV_per_atom": number(metrics.energy_mae_meV_per_atom),
        "val_energy_rmse_meV_per_atom": number(metrics.energy_rmse_meV_per_atom),
        "val_stress_mae_GPa": number(metrics.stress_mae_GPa),
        "val_stresses_mae_GPa": number(metrics.stresses_mae_GPa),
        "val_stresses_r2": number(metrics.stresses_r2),
        "learning_rate": learning_rate,
    }


def log_text(rows: Sequence[LogRow]) -> str:
    """Rows as CSV; a number that does not exist is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(["" if math.isnan(value) else f"{value:.8g}" for value in row.values()])
    return text.getvalue()
