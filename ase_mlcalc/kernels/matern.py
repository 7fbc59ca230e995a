r"""The kernel of gradient-domain learning: covariances of forces under a Matérn covariance of energies.

With the distance :math:`d` of two descriptors and :math:`n = \sqrt{5} d / \sigma`, energies have the covariance
:math:`k = (1 + n + n^2 / 3) e^{-n}` (:math:`\nu = 5/2`), and derivatives by both descriptors

.. math::

    \frac{\partial^2 k}{\partial x \partial x'} = \frac{5}{3 \sigma^2} e^{-n}
    \Big[ (1 + n) 1 - \frac{5}{\sigma^2} (x - x') (x - x')^T \Big] ,

which Jacobians turn into covariances of forces.  The molecule's permutations are summed over on one side, which is
enough because they are a group (Chmiela et al., Sci. Adv. 3, e1603015 (2017); Nat. Commun. 9, 3887 (2018)).

M geometries, D pairs of atoms, S permutations, r force components of a geometry that internal coordinates can give.
"""

from typing import NamedTuple

import torch
from torch import Tensor

COLUMNS_AT_ONCE = 48
"""Geometries that a block of the matrix is computed with at once: what fits into a cache is faster."""
ROWS_AT_ONCE = 64
"""Geometries for which a product with the matrix is computed at once, whatever their permutations."""
TINY = 1e-30
"""Added to squared distances, so that the derivative of the distance is finite where there is none."""


class Geometries(NamedTuple):
    """What the kernel knows of the geometries that it is trained on."""

    x_md: Tensor
    """(M, D) 1/Å, descriptors."""
    z_mdr: Tensor
    """(M, D, r) 1/Å², how they change along r orthonormal displacements of the atoms, see `internal`."""
    order_sd: Tensor
    """(S, D) permutations of the pairs, see `permutations_of_pairs`."""

    @property
    def size(self) -> int:
        """Rows of the matrix, M r."""
        return self.z_mdr.shape[0] * self.z_mdr.shape[2]


def internal(jacobians_mdk: Tensor) -> Tensor:
    """(M, 3 N, r) orthonormal displacements that change the descriptor.

    The others, translations and rotations, get no force from a function of distances, and without them the linear
    system is smaller by a factor 1 - 2 / N and otherwise the same.  They are sorted by how much the descriptor changes.

    Parameters
    ----------
    jacobians_mdk : (M, D, 3 N)
    """
    # eigenvectors of J^T J: much faster than a singular value decomposition of many tall matrices
    squares, directions_mkr = torch.linalg.eigh(jacobians_mdk.mT @ jacobians_mdk)
    rank = int((squares > 1e-12 * squares[:, -1:]).sum(dim=1).max())
    return directions_mkr[:, :, -rank:].flip(2)


class Covariance(NamedTuple):
    """Coefficients of the second derivative of the kernel."""

    along: Tensor
    """Of the unit matrix."""
    outer: Tensor
    """Of the outer product of the difference with itself, with its sign turned."""


def squared_distances(u_ad: Tensor, x_md: Tensor) -> Tensor:
    """(A, M) of descriptors, by one matrix product."""
    lengths = u_ad.square().sum(dim=1)[:, None] + x_md.square().sum(dim=1)
    return torch.addmm(lengths, u_ad, x_md.T, alpha=-2.0).clamp(min=0.0)


def covariance(squares: Tensor, sigma: float) -> Covariance:
    """Coefficients at squared distances of descriptors."""
    n = squares.mul(5.0 / sigma**2).sqrt_()
    decay = torch.exp(-n).mul_(5.0 / (3.0 * sigma**2))
    return Covariance(along=n.add_(1.0).mul_(decay), outer=decay.mul(5.0 / sigma**2))


def block_row(points: Geometries, sigma: float, m: int, components: slice | Tensor, first: int = 0) -> Tensor:
    """Rows of the matrix that belong to one geometry.

    Parameters
    ----------
    points : Geometries
    sigma : float
    m : int
        The geometry.
    components : slice or tensor
        Which of its r displacements.
    first : int
        Columns begin with this geometry (the matrix is symmetric).

    Returns
    -------
    (components, (M - first) r)
    """
    u_sd = points.x_md[m][points.order_sd]
    z_sdq = points.z_mdr[m][:, components][points.order_sd]
    n_permutations, n_pairs, n_rows = z_sdq.shape
    uz_sq = torch.einsum("sd,sdq->sq", u_sd, z_sdq)
    parts = []
    for start in range(first, len(points.x_md), COLUMNS_AT_ONCE):
        x_id, z_idr = (field[start : start + COLUMNS_AT_ONCE] for field in points[:2])
        c_is = covariance(squared_distances(x_id, u_sd), sigma)
        y_idq = (c_is.along @ z_sdq.reshape(n_permutations, -1)).reshape(-1, n_pairs, n_rows)
        # the difference x_i - u_s along the displacements of either geometry
        own_isr = torch.einsum("id,idr->ir", x_id, z_idr)[:, None] - u_sd @ z_idr
        its_isq = (x_id @ z_sdq.transpose(0, 1).reshape(n_pairs, -1)).reshape(-1, n_permutations, n_rows) - uz_sq
        k_iqr = y_idq.mT @ z_idr
        parts.append(torch.baddbmm(k_iqr, (its_isq * c_is.outer[:, :, None]).mT, own_isr, alpha=-1.0))
    return torch.cat(parts).transpose(0, 1).reshape(n_rows, -1)


def matrix(points: Geometries, sigma: float) -> Tensor:
    """(M r, M r) the upper triangle of the matrix, in blocks; what is below is not set."""
    r = points.z_mdr.shape[2]
    k = points.x_md.new_empty(points.size, points.size)
    for m in range(len(points.x_md)):
        k[m * r : (m + 1) * r, m * r :] = block_row(points, sigma, m, slice(None), first=m)
    return k


def trace(points: Geometries, sigma: float) -> float:
    """Sum of the diagonal of the matrix."""
    total = 0.0
    for m in range(len(points.x_md)):
        alone = points._replace(x_md=points.x_md[m : m + 1], z_mdr=points.z_mdr[m : m + 1])
        total += float(block_row(alone, sigma, 0, slice(None)).diagonal().sum())
    return total


def gradients(u_id: Tensor, points: Geometries, a_md: Tensor, sigma: float) -> Tensor:
    """(I, D) minus the derivatives of the energy by the descriptors of other geometries.

    Parameters
    ----------
    u_id : (I, D) 1/Å
    points : Geometries
    a_md : (M, D)
        Weights of the geometries, ``Z w``.
    sigma : float
    """
    xa_m = torch.einsum("md,md->m", points.x_md, a_md)
    parts = []
    for u_jd in u_id.split(ROWS_AT_ONCE):
        permuted_jsd = u_jd[:, points.order_sd]
        found = covariance(squared_distances(permuted_jsd.flatten(0, 1), points.x_md), sigma)
        parts.append(_gradient(permuted_jsd, points, a_md, xa_m, found))
    return torch.cat(parts)


def _gradient(u_isd: Tensor, points: Geometries, a_md: Tensor, xa_m: Tensor, found: Covariance) -> Tensor:
    u_td = u_isd.flatten(0, 1)
    w_tm = torch.addmm(-xa_m, u_td, a_md.T).mul_(found.outer)
    f_td = torch.addmm(w_tm @ points.x_md, found.along, a_md).sub_(w_tm.sum(dim=1, keepdim=True) * u_td)
    back_sd = torch.argsort(points.order_sd, dim=1)
    return f_td.reshape(u_isd.shape).gather(2, back_sd.expand(u_isd.shape)).sum(dim=1)


class Product:
    """Products of the matrix with vectors, at the cost of a few matrix products and without the matrix.

    Parameters
    ----------
    points : Geometries
    sigma : float
    keep_bytes : int
        Coefficients of the kernel are kept from one product to the next if they need no more than this.
    """

    def __init__(self, points: Geometries, sigma: float, keep_bytes: int = 0) -> None:
        self.points = points
        self.sigma = sigma
        self._keep = coefficient_bytes(len(points.x_md), len(points.order_sd)) <= keep_bytes
        self._kept: dict[int, Covariance] = {}

    def __call__(self, weights: Tensor) -> Tensor:
        """(M r,) to (M r,)."""
        x_md, z_mdr, order_sd = self.points
        a_md = torch.einsum("mdr,mr->md", z_mdr, weights.reshape(len(x_md), -1))
        xa_m = torch.einsum("md,md->m", x_md, a_md)
        parts = []
        for start in range(0, len(x_md), ROWS_AT_ONCE):
            u_isd = x_md[start : start + ROWS_AT_ONCE][:, order_sd]
            parts.append(_gradient(u_isd, self.points, a_md, xa_m, self._coefficients(start, u_isd)))
        return torch.einsum("mdr,md->mr", z_mdr, torch.cat(parts)).flatten()

    def _coefficients(self, start: int, u_isd: Tensor) -> Covariance:
        if start in self._kept:
            return self._kept[start]
        found = covariance(squared_distances(u_isd.flatten(0, 1), self.points.x_md), self.sigma)
        if self._keep:
            self._kept[start] = found
        return found


def coefficient_bytes(n_geometries: int, n_permutations: int) -> int:
    """What `Product` needs to keep the coefficients of the kernel."""
    return 2 * 8 * n_geometries**2 * n_permutations
