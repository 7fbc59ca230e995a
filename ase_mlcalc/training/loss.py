r"""What is minimised: errors of energy, forces, stress and per-atom stress, each in its natural unit.

.. math::

    L = \sum_k w_k \frac{1}{M_k} \sum_{m} \rho\left( (p_m - l_m) / s_k \right)

over the M_k labelled items m of property k in a batch, with predictions p, labels l, weights w and scales s.  Items are
structures (energy divided by the number of atoms, stress) or atoms (forces, per-atom stress).  NaN labels are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ase_mlcalc.config import Section
from ase_mlcalc.data.frames import Frame, counts, require
from ase_mlcalc.errors import DataError
from ase_mlcalc.graph import has_volume
from ase_mlcalc.potential import DERIVED_FROM, Baseline
from ase_mlcalc.properties import Properties

Norm = Literal["l2", "mse", "huber"]

DEFAULT_WEIGHTS: dict[str, float] = {"energy": 1.0, "forces": 1.0, "stress": 0.1, "stresses": 1.0}
"""Used where a label is there and nobody asked for another weight."""


class LossConfig(Section):
    """What the loss is made of.  A weight that is not given is a default where the data have the label, else 0."""

    norm: Norm = Field(
        "l2",
        description="l2: length of the error vector of each item; mse: mean square of its components; "
        "huber: mse within huber_delta",
    )
    energy: float | None = Field(None, ge=0, description="weight of the energy per atom")
    forces: float | None = Field(None, ge=0, description="weight of the forces")
    stress: float | None = Field(None, ge=0, description="weight of the stress")
    stresses: float | None = Field(
        None, ge=0, description="weight of the per-atom stress; by default only where the model predicts nothing else"
    )
    huber_delta: float = Field(0.02, gt=0, description="in units of the scales; larger errors count linearly")


class Loss(NamedTuple):
    """A loss function: weights, scales and norm."""

    weights: Mapping[str, float]
    """Property to weight; only those above zero."""
    scales: Mapping[str, float]
    """eV per atom, eV/Å, eV/Å³, and for per-atom stress eV/Å³ of ``stresses``."""
    norm: Norm = "l2"
    huber_delta: float = 0.02

    def __call__(
        self, prediction: Properties, labels: Properties, system: Tensor, items: Mapping[str, int] | None = None
    ) -> Tensor:
        """The loss of a batch, dimensionless.

        Parameters
        ----------
        prediction, labels : Properties
            B structures with N atoms; labels are ``None`` or NaN where there are none.
        system : (N,)
            Structure of each atom.
        items : mapping of property to int, optional
            Labelled items M_k of the whole batch, where this is a part of it; the sum over all parts is then its loss.

        Returns
        -------
        ()
            Zero without a gradient if nothing in the batch is labelled.
        """
        total = system.new_zeros((), dtype=torch.float64)
        for name, weight in self.weights.items():
            predicted, label = getattr(prediction, name), getattr(labels, name)
            if label is None or predicted is None:
                continue
            error = (predicted - label) / self.scales[name]
            if name == "energy":
                error = error / torch.bincount(system, minlength=len(label))
            count = None if items is None else items[name]
            total = total + weight * self._mean_penalty(
                error.reshape(len(label), -1), label.reshape(len(label), -1), count
            )
        return total

    def _mean_penalty(self, error_mk: Tensor, label_mk: Tensor, count: int | None) -> Tensor:
        """Mean over the labelled items m, or so many, of a function of their K error components."""
        labelled_m = _labelled(label_mk)
        error_mk = torch.where(labelled_m[:, None], error_mk, 0.0)  # before the norm: NaN times zero is NaN
        if self.norm == "l2":
            penalty_m = torch.linalg.vector_norm(error_mk, dim=1)  # its gradient at zero is zero
        elif self.norm == "mse":
            penalty_m = error_mk.square().mean(dim=1)
        else:
            penalty_m = torch.nn.functional.huber_loss(
                error_mk, torch.zeros_like(error_mk), reduction="none", delta=self.huber_delta
            ).mean(dim=1)
        return penalty_m.sum() / (labelled_m.sum().clamp(min=1) if count is None else max(1, count))

    def items(self, labels: Properties) -> dict[str, int]:
        """How many labelled items of each property of the loss there are."""
        found = {}
        for name in self.weights:
            label = getattr(labels, name)
            found[name] = 0 if label is None else int(_labelled(label.reshape(len(label), -1)).sum())
        return found


def _labelled(label_mk: Tensor) -> Tensor:
    return ~label_mk.isnan().any(dim=1)


def make_loss(config: LossConfig, outputs: frozenset[str], frames: Sequence[Frame], baseline: Baseline) -> Loss:
    """The loss that a configuration asks for, checked against the model and the training data.

    Parameters
    ----------
    config : LossConfig
    outputs : set of str
        What the model predicts itself; properties derived from them count too.
    frames : sequence of Frame
        Training structures.
    baseline : Baseline
        Its energy scale is the unit of energy errors; the others are measured in the size of the labels.

    Raises
    ------
    DataError
        A weight is given for something that no structure is labelled with or that the model does not predict; nothing
        is left to train on; a stress label without a volume.
    """
    predicted = frozenset().union(*(DERIVED_FROM[name] for name in outputs))
    asked = {name: getattr(config, name) for name in DEFAULT_WEIGHTS}
    required = {name for name, weight in asked.items() if weight}
    impossible = sorted(required - predicted)
    if impossible:
        raise DataError(
            f"the loss asks for {', '.join(impossible)}, which a model with outputs {sorted(outputs)} does not "
            f"predict; it predicts {', '.join(sorted(predicted))}: set the weight to 0 or choose another model"
        )
    require(frames, required)
    have = counts(frames)
    automatic = predicted - (set() if "stresses" in outputs else {"stresses"})
    weights = {}
    for name, weight in asked.items():
        if weight is None and name in automatic and have[name]:
            weights[name] = DEFAULT_WEIGHTS[name]
        elif weight:
            weights[name] = weight
    if not weights:
        raise DataError(
            f"nothing to train on: the model predicts {', '.join(sorted(predicted))}, the {len(frames)} training "
            f"structures are labelled with {', '.join(name for name, n in have.items() if n) or 'nothing'}, and "
            f"weights are {asked}; add labels that it predicts (or name their keys), or choose a model that predicts "
            "these: `ase-mlcalc models` lists what each predicts"
        )
    _refuse_stress_without_volume(frames, weights)
    return Loss(weights, _scales(weights, frames, baseline), config.norm, config.huber_delta)


def _scales(weights: Mapping[str, float], frames: Sequence[Frame], baseline: Baseline) -> dict[str, float]:
    """Units in which errors are of order one: how large the labels are.

    Energies have no natural zero; their unit is the one that the model's energies are multiplied by.
    """
    return {name: _size(name, frames, baseline.energy_scale) for name in sorted(weights)}


_ROUNDING = 1e-6
"""Labels below this part of what energies and volumes make likely are taken for zero."""


def _size(name: str, frames: Sequence[Frame], energy_scale: float) -> float:
    """Root mean square component of a label over the structures that have it.

    Forces of crystals at rest, zero but for rounding, are no measure of how large errors may be: there the unit is
    that of energies, over 1 Å or over the volume of an atom.
    """
    if name == "energy":
        return energy_scale
    labelled = [frame for frame in frames if getattr(frame.labels, name) is not None]
    likely = energy_scale
    if name in ("stress", "stresses"):
        per_volume = [(len(f.atoms) if name == "stress" else 1) / f.atoms.get_volume() for f in labelled]
        likely = energy_scale * float(np.median(per_volume))
    labels = torch.cat([getattr(frame.labels, name).flatten() for frame in labelled])
    size = labels.square().nanmean().sqrt().item()
    return size if size > _ROUNDING * likely else likely


def _refuse_stress_without_volume(frames: Sequence[Frame], weights: Mapping[str, float]) -> None:
    for frame in frames:
        for name in weights.keys() & {"stress", "stresses"}:
            if getattr(frame.labels, name) is not None and not has_volume(frame.atoms):
                raise DataError(
                    f"{frame.source} is labelled with {name} but its cell vectors {frame.atoms.cell.tolist()} "
                    "span no volume; remove the label or set the cell"
                )
