"""What the verbs show: errors of a potential, and the models that there are."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from ase_mlcalc.md import RunResult
from ase_mlcalc.model import Model, Solvable, registered
from ase_mlcalc.potential import DERIVED_FROM
from ase_mlcalc.study.words import plus_minus
from ase_mlcalc.training.calibration import Calibration
from ase_mlcalc.training.metrics import Metrics
from ase_mlcalc.training.side_by_side import Row

QUANTITIES = (
    ("forces", "force", "meV_per_A", "meV/Å"),
    ("energy per atom", "energy", "meV_per_atom", "meV/atom"),
    ("stress", "stress", "GPa", "GPa"),
    ("per-atom stress, by total volume", "stresses", "GPa", "GPa"),
)
"""Shown name, name and unit in the fields of `Metrics`, shown unit."""


def metrics_table(metrics: Metrics, title: str) -> Table:
    """MAE and RMSE of whatever was labelled, then forces by element and errors by group."""
    table = Table("quantity", "MAE", "RMSE", "unit", title=title, title_justify="left")
    values = metrics.model_dump()
    for shown, name, unit, shown_unit in QUANTITIES:
        mae, rmse = values[f"{name}_mae_{unit}"], values[f"{name}_rmse_{unit}"]
        if mae is not None:
            table.add_row(shown, f"{mae:.4g}", f"{rmse:.4g}", shown_unit)
    for symbol, element in metrics.elements.items():
        if element.force_mae_meV_per_A is not None and len(metrics.elements) > 1:
            rmse = element.force_rmse_meV_per_A
            table.add_row(f"  forces on {symbol}", f"{element.force_mae_meV_per_A:.4g}", f"{rmse:.4g}", "meV/Å")
    for name, group in metrics.groups.items():
        if group.force_mae_meV_per_A is not None:
            rmse = group.force_rmse_meV_per_A
            table.add_row(f"  forces in {name}", f"{group.force_mae_meV_per_A:.4g}", f"{rmse:.4g}", "meV/Å")
    table.caption = f"{metrics.n_structures} structures, {metrics.n_atoms} atoms"
    if metrics.stresses_r2 is not None:
        parts = f"normal {metrics.stresses_normal_r2:.3f}, shear {metrics.stresses_shear_r2:.3f}"
        table.caption += f"; R² of per-atom stress {metrics.stresses_r2:.3f} ({parts})"
    return table


def comparison_table(rows: Sequence[Row]) -> Table:
    """One row a potential: the errors that any of them has, time of a call, and size."""
    values = [row.metrics.model_dump() for row in rows]
    shown = [each for each in QUANTITIES if any(own[f"{each[1]}_mae_{each[2]}"] is not None for own in values)]
    titles = [f"{name}\n{unit}" for name, _, _, unit in shown]
    table = Table("model", *titles, "ms/call", "parameters", "precision", title="MAE / RMSE", title_justify="left")
    for row, own in zip(rows, values, strict=True):
        errors = []
        for _, name, unit, _ in shown:
            mae, rmse = own[f"{name}_mae_{unit}"], own[f"{name}_rmse_{unit}"]
            errors.append("-" if mae is None else f"{mae:.4g} / {rmse:.4g}")
        size = f"{row.parameters}" if row.n_members == 1 else f"{row.parameters} in {row.n_members} members"
        table.add_row(row.name, *errors, f"{row.ms_per_call:.3g}", size, row.dtype)
    first = rows[0]
    table.caption = (
        f"{first.metrics.n_structures} structures, {first.metrics.n_atoms} atoms; time of a call on "
        f"{first.n_atoms_timed} atoms with {first.threads} thread{'s' * (first.threads > 1)}"
    )
    return table


def calibration_table(found: Mapping[str, Calibration]) -> Table:
    """One row a property: how well spread tells error."""
    table = Table(
        "property", "spread, rms", "error, rms", "unit", "rank correlation", "scale", "miscalibration area", "rescaled",
        caption="scale: expected error over spread; area between calibration curve and diagonal, 0 is best",
    )  # fmt: skip
    for name, one in found.items():
        rank = "-" if one.rank_correlation is None else f"{one.rank_correlation:.3f}"
        table.add_row(
            f"{name} ({one.n_items} values)", f"{one.spread_rms:.4g}", f"{one.error_rms:.4g}", one.unit, rank,
            f"{one.scale:.4g}", f"{one.miscalibration_area:.4f}", f"{one.miscalibration_area_rescaled:.4f}",
        )  # fmt: skip
    return table


def describe_stage(result: RunResult) -> str:
    """How a stage of molecular dynamics ended and what it measured, in one line.

    Why a stage failed is in its message, which is the error of the command.
    """
    steps = f"{result.name}: ended after {result.steps_done} of {result.config.steps} steps"
    parts = [result.message if result.completed else steps]
    if result.temperature_mean_K is not None:
        spread = f", fluctuating by {result.temperature_std_K:.1f} K" if result.temperature_std_K else ""
        parts.append(f"mean temperature {result.temperature_mean_K:.1f} K{spread}")
    if result.drift is not None:
        sign = "+" if result.drift.slope > 0 else ""
        parts.append(f"energy drift {sign}{plus_minus(result.drift.slope, result.drift.stderr)} meV/atom/ps")
    if result.ms_per_step is not None:
        parts.append(f"{result.ms_per_step:.3g} ms/step")
    return ", ".join(parts)


def describe_models() -> list[dict[str, Any]]:
    """All registered models as plain values."""
    return [_describe(model_class) for model_class in registered().values()]


def _describe(model_class: type[Model]) -> dict[str, Any]:
    outputs = model_class.outputs
    derived = frozenset[str]().union(*(DERIVED_FROM[name] for name in outputs)) - outputs
    model = model_class(model_class.Config())
    return {
        "name": model_class.name,
        "outputs": sorted(outputs),
        "derived": sorted(derived),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "closed_form": issubclass(model_class, Solvable),
        "trainable": model_class.trainable,
        "equivariant": model_class.equivariant,
        "smooth": model_class.smooth,
        "transferable": model_class.transferable,
    }


def models_table(described: list[dict[str, Any]]) -> Table:
    """One row a model."""
    table = Table("model", "predicts", "derived", "parameters", "", caption="parameters: at the default configuration")
    for model in described:
        remarks = [] if model["trainable"] else ["analytic"]
        remarks += ["in closed form"] if model["closed_form"] else []
        remarks += [f"not {flag}" for flag in ("equivariant", "smooth", "transferable") if not model[flag]]
        size = f"{model['parameters']}" if model["parameters"] else "-"
        table.add_row(
            model["name"], ", ".join(model["outputs"]), ", ".join(model["derived"]) or "-", size, ", ".join(remarks)
        )
    return table
