"""Whole `Properties` compared, and made into one number."""

import numpy as np
import torch
from torch import Tensor

from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import outcome
from ase_mlcalc.testing.outcome import Judge


def close(judge: Judge, what: str, got: Properties, expected: Properties, relative: float) -> None:
    """Fail if a given field differs by more than `relative` times its largest number."""
    for name in sorted(expected.given()):
        value = getattr(expected, name)
        judge.close(f"{what}: {name}", getattr(got, name), value, relative, scale=size(value))


def identical(judge: Judge, what: str, got: Properties, expected: Properties) -> None:
    """Fail unless all given fields are equal bit by bit."""
    for name in sorted(expected.given()):
        judge.identical(f"{what}: {name}", getattr(got, name), getattr(expected, name))


def size(value: Tensor) -> float:
    """Largest magnitude, at least the smallest that is worth comparing."""
    return max(float(np.abs(outcome.array(value.nan_to_num())).max(initial=0.0)), 1e-6)


def mean_squares(prediction: Properties) -> Tensor:
    """Mean squares of forces, stress and per-atom stress, whichever are there; NaN is left out."""
    terms = []
    for name in ("forces", "stress", "stresses"):
        value = getattr(prediction, name)
        if value is not None:
            terms.append(value[~torch.isnan(value)].square().mean())
    return torch.stack(terms).sum()
