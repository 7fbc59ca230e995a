"""What is taken from e3nn, which is imported when it is first needed: that takes longer than all the rest together."""

import torch
from torch import Tensor


def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    """(2 l1 + 1, 2 l2 + 1, 2 l3 + 1) real Wigner 3j symbols in float64, of norm one."""
    from e3nn import o3

    symbols: Tensor = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    return symbols


def spherical_harmonics(l: int, vectors_pc: Tensor) -> Tensor:
    """(E, 2 l + 1) real spherical harmonics of unit vectors (E, 3), each degree of squared norm 2 l + 1."""
    from e3nn import o3

    values: Tensor = o3.spherical_harmonics(l, vectors_pc, normalize=False, normalization="component")
    return values
