"""Parity plots: predictions over labels."""

from pathlib import Path

import numpy as np
import torch
from ase.units import GPa

from ase_mlcalc.plots import ParityPanel, parity_plot
from ase_mlcalc.training.metrics import Comparison

PANELS: dict[str, tuple[str, str, float]] = {
    "energy": ("energy per atom, less its mean", "eV/atom", 1.0),
    "forces": ("force components", "eV/Å", 1.0),
    "stress": ("stress components", "GPa", GPa),
    "stresses": ("per-atom stress components", "GPa", GPa),
}
"""Property to title, unit and that unit in ASE's."""


def parity(path: Path, comparison: Comparison) -> None:
    """Draw predictions over labels, a panel for each property that has both; nothing is written if none has."""
    panels = [panel for name in PANELS if (panel := _panel(comparison, name)) is not None]
    if panels:
        parity_plot(path, panels)


def _panel(comparison: Comparison, name: str) -> ParityPanel | None:
    prediction, label = getattr(comparison.prediction, name), getattr(comparison.labels, name)
    if prediction is None or label is None or bool(label.isnan().all()):
        return None
    title, unit, in_ase = PANELS[name]
    if name == "energy":
        n_atoms_b = torch.bincount(comparison.system, minlength=len(label))
        mean = (label / n_atoms_b).nanmean()
        prediction, label = prediction / n_atoms_b - mean, label / n_atoms_b - mean
    index_b = torch.arange(len(comparison.groups)) if name in ("energy", "stress") else comparison.system
    labelled = ~label.isnan()
    groups = None
    if len(set(comparison.groups)) > 1:
        index = index_b.reshape(-1, *[1] * (label.ndim - 1)).expand_as(label)[labelled]
        groups = np.array([group or "(none)" for group in comparison.groups])[index.numpy()]
    return ParityPanel(title, unit, (label[labelled] / in_ase).numpy(), (prediction[labelled] / in_ase).numpy(), groups)
