"""Exponential moving average of a model's parameters, which is better than the last step's."""

import copy

import torch

from ase_mlcalc.model import Model


class MovingAverage:
    """A copy of a model whose parameters follow the trained ones slowly.

    Early on it follows faster, as min(decay, (1 + t) / (10 + t)) at step t, so that the random start is forgotten.

    Parameters
    ----------
    model : Model
        The one that is trained; not modified.
    decay : float
        In [0, 1); 0 is a plain copy.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._slow: list[torch.Tensor] = list(self.model.parameters())
        self._fast = list(model.parameters())
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step number `step` (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._slow, [p.detach() for p in self._fast], 1 - decay)
        for slow, fast in self._buffers:
            slow.copy_(fast)
