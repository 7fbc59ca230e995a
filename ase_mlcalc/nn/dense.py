"""Linear layers whose outputs have the size of their inputs."""

from torch import nn


def dense(n_in: int, n_out: int, *, bias: bool = True, size: float = 1.0) -> nn.Linear:
    """A linear layer that takes independent numbers of order one to numbers of order `size`; biases begin at zero."""
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.normal_(layer.weight, std=size * n_in**-0.5)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
