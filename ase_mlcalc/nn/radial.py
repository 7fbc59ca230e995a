"""Functions of the distance: cutoff envelopes and radial bases."""

import torch
from torch import Tensor, nn

from ase_mlcalc.nn.constant import Constant


def envelope(d_p: Tensor, cutoff: float, p: int = 6) -> Tensor:
    r"""Polynomial envelope that takes a pair function smoothly to zero at the cutoff.

    .. math::
        u(x) = 1 - \tfrac{(p+1)(p+2)}{2} x^p + p (p+2) x^{p+1} - \tfrac{p(p+1)}{2} x^{p+2}, \qquad x = d / r_c

    with u = 0 for x >= 1; u, u' and u'' vanish at the cutoff, so that forces are continuously differentiable.

    Parameters
    ----------
    d_p : (E,) Å
        Edge lengths.
    cutoff : float, Å
    p : int
        The larger, the longer the function stays close to 1.

    Returns
    -------
    (E,) dimensionless, in [0, 1].

    Reference: Gasteiger, Groß and Günnemann, ICLR 2020 (DimeNet), eq. 8.  Code names: x -> ``x_p``.
    """
    x_p = d_p / cutoff
    u_p = 1 - x_p**p * ((p + 1) * (p + 2) / 2 - p * (p + 2) * x_p + p * (p + 1) / 2 * x_p**2)
    return torch.where(x_p < 1, u_p, 0.0)


class BesselBasis(nn.Module):
    r"""Spherical Bessel functions of order zero that vanish at the cutoff.

    .. math:: b_k(d) = w_k \sqrt{2 / r_c} \, \sin(k \pi d / r_c) / d, \qquad k = 1 \dots n

    With ``decay`` they are scaled by w_k ~ k^-decay, their mean square being one: what oscillates fast is small, and
    has to be wanted by many structures before it is learned.

    Reference: Gasteiger, Groß and Günnemann, ICLR 2020 (DimeNet), eq. 7.
    """

    def __init__(self, n_functions: int, cutoff: float, decay: float = 0.0) -> None:
        super().__init__()
        self.wave_numbers = Constant(torch.arange(1, n_functions + 1, dtype=torch.float64) * torch.pi / cutoff)
        self.heights = Constant((2 / cutoff) ** 0.5 * radial_weights(n_functions, decay))

    def forward(self, d_p: Tensor) -> Tensor:
        """(E,) Å to (E, n_functions)."""
        return self.heights(d_p) * torch.sin(self.wave_numbers(d_p) * d_p[:, None]) / d_p[:, None]


def radial_weights(n_functions: int, decay: float) -> Tensor:
    """(n_functions,) k^-decay, the mean of its squares being one."""
    weights = torch.arange(1, n_functions + 1, dtype=torch.float64) ** -decay
    return weights / weights.square().mean().sqrt()


class GaussianBasis(nn.Module):
    r"""Equally spaced Gaussians on [0, r_c], as wide as their spacing.

    .. math:: e_k(d) = \exp(-\gamma (d - \mu_k)^2), \qquad \gamma = 1 / (2 \Delta\mu^2)

    Reference: Schütt et al., J. Chem. Phys. 148, 241722 (2018) (SchNet).
    """

    def __init__(self, n_functions: int, cutoff: float) -> None:
        super().__init__()
        self.centers = Constant(torch.linspace(0.0, cutoff, n_functions, dtype=torch.float64))
        self.gamma = 0.5 / (cutoff / (n_functions - 1)) ** 2

    def forward(self, d_p: Tensor) -> Tensor:
        """(E,) Å to (E, n_functions)."""
        return torch.exp(-self.gamma * (d_p[:, None] - self.centers(d_p)) ** 2)
