r"""Optimisers: what turns gradients into steps.

Matrices are stepped by Muon (K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024): the
momentum M of a matrix is replaced by the nearest semi-orthogonal one, :math:`U V^T` of :math:`M = U S V^T`, so that all
directions in the space of features learn equally fast.  Interatomic potentials gain much: their gradients are dominated
by a few directions (short bonds), and the rest matters for the last meV/Å.  Everything else (biases, embeddings, output
rows) is stepped by AdamW.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ase_mlcalc.config import Section

NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration of Jordan et al., tuned to take singular values to about 1 in five steps."""


class OptimizerConfig(Section):
    """How parameters are stepped; these keys are part of ``[train]``."""

    optimizer: Literal["muon", "adamw"] = Field(
        "muon", description="muon: matrices by Muon, the rest by AdamW; adamw: everything by AdamW"
    )
    learning_rate: float = Field(1.5e-3, gt=0, description="largest root mean square change of a weight in one step")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of matrices; vectors have none")
    momentum: float = Field(0.95, ge=0, lt=1, description="memory of Muon's gradient average")
    betas: tuple[float, float] = Field((0.9, 0.99), description="memory of AdamW's first and second moments")


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of a model's trainable parameters; matrices decay, everything else does not."""
    matrices, others = _matrices_and_others(model)
    adamw = {"learner": "adamw", "betas": config.betas}
    first = {"learner": "muon", "momentum": config.momentum} if config.optimizer == "muon" else adamw
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay, **first},
        {"params": others, "weight_decay": 0.0, **adamw},
    ]
    return MuonAdamW([group for group in groups if group["params"]], learning_rate=config.learning_rate)


def _matrices_and_others(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Maps between features, possibly stacked, and the rest: vectors, embeddings and maps to or from one number."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_map = parameter.ndim >= 2 and min(parameter.shape[-2:]) > 1 and id(parameter) not in embeddings
        (matrices if is_map else others).append(parameter)
    return matrices, others


class MuonAdamW(torch.optim.Optimizer):
    """Muon for groups with ``learner="muon"``, AdamW (Loshchilov and Hutter, ICLR 2019) for ``learner="adamw"``.

    Muon's step is scaled by the square root of the larger side of the matrix (Liu et al., arXiv:2502.16982), so
    that its entries change by about the learning rate, as in AdamW: one learning rate serves both.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], learning_rate: float) -> None:
        super().__init__(groups, {"lr": learning_rate, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("MuonAdamW takes no closure")
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["learner"] == "muon":
                self._muon(parameters, group)
            else:
                self._adam(parameters, group)

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [_grad(parameter) for parameter in parameters]
        averages = [self._state(parameter, "average") for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = [g.lerp(m, group["momentum"]) for g, m in zip(gradients, averages, strict=True)]  # Nesterov
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter, direction in zip(parameters, ahead, strict=True):
            rows, columns = parameter.shape[-2:]
            wide = direction.reshape(-1, rows, columns)
            wide = wide if rows <= columns else wide.mT
            by_shape[tuple(wide.shape[-2:])].append((parameter, wide))
        for (_, longer), members in by_shape.items():
            # one batch per shape: many small matrix products would be all overhead
            orthogonal = _orthogonalize(torch.cat([wide for _, wide in members]))
            for (parameter, _), part in zip(members, orthogonal.split([len(w) for _, w in members]), strict=True):
                turned = part if parameter.shape[-2] <= parameter.shape[-1] else part.mT
                parameter.add_(turned.reshape(parameter.shape), alpha=-group["lr"] * longer**0.5)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        gradients = [_grad(parameter) for parameter in parameters]
        first = [self._state(parameter, "first") for parameter in parameters]
        second = [self._state(parameter, "second") for parameter in parameters]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        for parameter, m, v in zip(parameters, first, second, strict=True):
            state = self.state[parameter]
            state["step"] = state.get("step", 0) + 1
            rms = (v / (1 - beta2 ** state["step"])).sqrt_().add_(1e-8)
            parameter.addcdiv_(m, rms, value=-group["lr"] / (1 - beta1 ** state["step"]))

    def _state(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        value: Tensor = state[name]
        return value


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _orthogonalize(x: Tensor) -> Tensor:
    """(K, m, n) matrices with m <= n to nearly semi-orthogonal ones with the same singular vectors."""
    a, b, c = NEWTON_SCHULZ
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-12)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
