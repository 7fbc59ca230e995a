"""Optimisers: what turns gradients into steps."""

import torch
from pydantic import Field
from torch import nn

from ase_mlcalc.config import Section


class OptimizerConfig(Section):
    """How parameters are stepped; these keys are part of ``[train]``."""

    learning_rate: float = Field(3e-3, gt=0, description="largest learning rate; the schedule multiplies it")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of matrices; vectors have none")
    betas: tuple[float, float] = Field((0.9, 0.99), description="memory of AdamW's first and second moments")


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW over the parameters of a model; matrices decay, biases and other vectors do not.

    Reference: Loshchilov and Hutter, ICLR 2019.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.learning_rate, betas=config.betas
    )
