"""Symmetric tensors as a trace and irreps of degree 2."""

import torch
from torch import Tensor, nn

from ase_mlcalc.nn.constant import Constant
from ase_mlcalc.nn.wigner import wigner_3j


class SymmetricTensor(nn.Module):
    r"""A scalar and an irrep of degree 2 as one symmetric Cartesian tensor, which turns as they do.

    .. math:: T_{ab} = \frac{t_0}{\sqrt 3} \delta_{ab} + \sqrt 5 \sum_m C^{2 m}_{1 a; 1 b} \, t_{2 m}

    with e3nn's real coupling coefficients, whose components of l = 1 are x, y, z.  The map keeps the norm:
    :math:`\sum_{ab} T_{ab}^2 = t_0^2 + \sum_m t_{2m}^2`.
    """

    def __init__(self) -> None:
        super().__init__()
        traceless = wigner_3j(1, 1, 2).reshape(9, 5) * 5**0.5
        self.traceless = Constant(traceless.T)
        self.identity = Constant(torch.eye(3, dtype=torch.float64).reshape(1, 9) / 3**0.5)

    def forward(self, t0_n: Tensor, t2_nm: Tensor) -> Tensor:
        """(N,) and (N, 5) to (N, 3, 3)."""
        tensor_nk = t0_n[:, None] * self.identity(t0_n) + t2_nm @ self.traceless(t2_nm)
        return tensor_nk.view(-1, 3, 3)


class SpeciesScale(nn.Module):
    """A factor and a pressure of its own for the stress of each element: light atoms carry less than heavy ones."""

    def __init__(self, n_species: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(n_species))
        self.pressure = nn.Parameter(torch.zeros(n_species))

    def forward(self, tensor_nab: Tensor, species_n: Tensor) -> Tensor:
        """(N, 3, 3) and (N,) rows of the elements to (N, 3, 3)."""
        eye = torch.eye(3, dtype=tensor_nab.dtype, device=tensor_nab.device)
        own_n = self.pressure[species_n][:, None, None]
        return self.factor[species_n][:, None, None] * tensor_nab + own_n * eye
