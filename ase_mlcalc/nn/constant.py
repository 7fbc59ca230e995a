"""Numbers that a layer knows exactly."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """A table that follows its model to any device but stays in float64, and is cast where it is used.

    So a model that was trained in float32 and is evaluated in float64 works with exact coefficients, not with rounded
    ones.  It is not saved with the weights.
    """

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values.to(torch.float64), persistent=False)

    def forward(self, like: Tensor) -> Tensor:
        """The table in the precision of `like`."""
        return self.values.to(like.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: ARG002
        self.values = self.values.to(fn(self.values).device)  # what moves and casts a model reaches only the device
        return self
