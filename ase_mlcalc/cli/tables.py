"""What the verbs show: errors of a potential, and the models that there are."""

from typing import Any

from rich.table import Table

from ase_mlcalc.md import RunResult
from ase_mlcalc.model import Model, registered
from ase_mlcalc.potential import DERIVED_FROM
from ase_mlcalc.training.metrics import Metrics

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
    return table


def describe_stage(result: RunResult) -> str:
    """How a stage of molecular dynamics ended and what it measured, in one line."""
    parts = [result.message]
    if result.temperature_mean_K is not None:
        parts.append(f"{result.temperature_mean_K:.1f} ± {result.temperature_std_K or 0.0:.1f} K")
    if result.drift is not None:
        parts.append(f"energy drift {result.drift.slope:+.2g} ± {result.drift.stderr:.1g} meV/atom/ps")
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
        remarks += [f"not {flag}" for flag in ("equivariant", "smooth", "transferable") if not model[flag]]
        size = f"{model['parameters']}" if model["trainable"] else "-"
        table.add_row(
            model["name"], ", ".join(model["outputs"]), ", ".join(model["derived"]) or "-", size, ", ".join(remarks)
        )
    return table
