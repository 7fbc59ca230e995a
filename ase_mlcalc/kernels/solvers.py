r"""The linear system of gradient-domain learning, :math:`(K + \lambda) w = y`, directly or iteratively.

Directly means a Cholesky factorisation of the whole matrix, in place.  The iterative solver never has the matrix: it
is the method of conjugate gradients with products from `matern.Product`, preconditioned by a low-rank approximation of
the matrix from some of its columns (Nyström), here :math:`P = F F^T + \mu` with :math:`F = C L^{-T}`, where C are the
columns and :math:`L L^T` is their own part of the matrix.  The columns are drawn at random, more of those displacements
that the descriptor responds to strongly; eigenvalues below those that the columns catch are of the order of
:math:`\mu`, and the number of iterations grows with :math:`\sqrt{\mu / \lambda}`.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from torch import Tensor

from ase_mlcalc.errors import ConfigError, NumericalError
from ase_mlcalc.kernels import matern
from ase_mlcalc.kernels.matern import Geometries
from ase_mlcalc.memory import GB

COLUMN_SHARE = 0.1
"""Part of the columns that the preconditioner is made of, where memory allows."""
DIRECT_UP_TO = 8000
"""Unknowns beyond which conjugate gradients are faster than a factorisation."""
FEWEST_COLUMNS_PER_GEOMETRY = 1
"""Fewer, and conjugate gradients would hardly converge."""
JITTERS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10)
"""Relative to the trace, added to the columns' own part of the matrix, which is singular in all but name; the first
that makes it positive definite is taken."""

Method = Literal["direct", "iterative"]


class System(NamedTuple):
    """What is solved: (K + ridge) w = y."""

    points: Geometries
    labels: Tensor
    """(M r,) y, forces along the displacements, of order one."""
    sigma: float
    ridge: float


class Plan(NamedTuple):
    """How a system is solved, and the memory that it takes."""

    method: Method
    n_bytes: int
    columns: int = 0
    """Of the preconditioner, for each geometry."""

    def __str__(self) -> str:
        """In words."""
        return f"{self.method} solver, {self.n_bytes / GB:.3g} GB"


class Solution(NamedTuple):
    """What came out."""

    weights: Tensor
    """(M r,)"""
    residual: float
    """Norm of y - (K + ridge) w by that of y: the relative error of the training forces that solving leaves."""
    iterations: int | None = None


def make_plan(points: Geometries, limit_bytes: int, method: Method | Literal["auto"] = "auto") -> Plan:
    """Which solver is used, and whether it fits into the memory; by itself the direct one for small systems.

    Raises
    ------
    ConfigError
        Neither fits, or not the one that is asked for; says how much memory is needed and what to do.
    """
    n_geometries, n_pairs, r = points.z_mdr.shape
    n, n_permutations = points.size, len(points.order_sd)
    direct = direct_bytes(points)
    if method == "direct" and direct > limit_bytes:
        raise ConfigError(
            f"model.solver = 'direct' needs {direct / GB:.3g} GB for {n_geometries} training structures and may use "
            f"{limit_bytes / GB:.3g} GB; use model.solver = 'iterative', fewer structures or a larger "
            "model.max_memory_GB"
        )
    if method == "direct" or (method == "auto" and direct <= limit_bytes and n <= DIRECT_UP_TO):
        return Plan("direct", direct)
    rows = _common_bytes(points) + 8 * 4 * matern.ROWS_AT_ONCE * n_permutations * (n_geometries + n_pairs)

    def needed(columns: int) -> int:
        k = columns * n_geometries
        return rows + 8 * (n * k + 4 * k**2)

    columns = max(FEWEST_COLUMNS_PER_GEOMETRY, round(COLUMN_SHARE * r))
    while columns > FEWEST_COLUMNS_PER_GEOMETRY and needed(columns) > limit_bytes:
        columns -= 1
    if needed(columns) > limit_bytes:
        raise ConfigError(
            f"{n_geometries} training structures need at least {needed(columns) / GB:.3g} GB (the direct solver "
            f"{direct / GB:.3g} GB) and may use {limit_bytes / GB:.3g} GB; use fewer structures (data.n_train) or a "
            "larger model.max_memory_GB"
        )
    return Plan("iterative", needed(columns), columns)


def direct_bytes(points: Geometries) -> int:
    """What the direct solver needs."""
    return _common_bytes(points) + 8 * points.size * (points.size + points.z_mdr.shape[2])


def _common_bytes(points: Geometries) -> int:
    """Jacobians, a few vectors, and what a block of the matrix is computed in."""
    n_geometries, n_pairs, r = points.z_mdr.shape
    return 8 * (2 * n_geometries * n_pairs * r + 8 * points.size + 6 * matern.COLUMNS_AT_ONCE * n_pairs * r)


def solve_directly(system: System) -> Solution:
    """Cholesky factorisation in place.

    Raises
    ------
    NumericalError
        The matrix is not positive definite in float64.
    """
    k = matern.matrix(system.points, system.sigma)
    k.diagonal().add_(system.ridge)
    try:
        # the transpose is in the order of LAPACK, which then needs no copy
        factor = cho_factor(k.numpy().T, lower=True, overwrite_a=True, check_finite=False)
        weights = torch.from_numpy(cho_solve(factor, system.labels.numpy(), check_finite=False))
    except LinAlgError as error:
        raise NumericalError(
            f"the kernel matrix at sigma {system.sigma:g} is singular to rounding; raise model.ridge (now "
            f"{system.ridge:g}) or look for structures that occur twice"
        ) from error
    return Solution(weights, _residual(system, matern.Product(system.points, system.sigma), weights))


def solve_iteratively(
    system: System,
    columns: int,
    *,
    tolerance: float,
    max_iterations: int,
    keep_bytes: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> Solution:
    """Preconditioned conjugate gradients.

    Parameters
    ----------
    system : System
    columns : int
        For each geometry, of the preconditioner.
    tolerance : float
        Largest residual, relative to the labels.
    max_iterations : int
    keep_bytes : int
        See `matern.Product`.
    report : callable
        Takes lines about the progress.

    Raises
    ------
    NumericalError
        Not converged.
    """
    precondition = Preconditioner(system, columns)
    product = matern.Product(system.points, system.sigma, keep_bytes)
    report(f"preconditioner of {precondition.rank} of {system.points.size} columns is ready")
    weights, residual = torch.zeros_like(system.labels), system.labels.clone()
    scale = float(system.labels.norm())
    preconditioned = precondition(residual)
    direction, overlap = preconditioned.clone(), residual @ preconditioned
    mark = 0.1
    for iteration in range(1, max_iterations + 1):
        image = product(direction).add_(direction, alpha=system.ridge)
        step = overlap / (direction @ image)
        weights += step * direction
        residual -= step * image
        left = float(residual.norm()) / scale
        if left <= tolerance:
            return Solution(weights, _residual(system, product, weights), iteration)
        if left < mark:
            report(f"iteration {iteration}: residual {left:.1e} of {tolerance:.0e}")
            mark = 10.0 ** math.floor(math.log10(left))
        preconditioned = precondition(residual)
        before, overlap = overlap, residual @ preconditioned
        direction = preconditioned + (overlap / before) * direction
    raise NumericalError(
        f"the iterative solver left a residual of {left:.1e} after {max_iterations} iterations and "
        f"should reach {tolerance:.0e}; give it more memory for the preconditioner (model.max_memory_GB), or raise "
        "model.max_iterations, model.tolerance or model.ridge"
    )


class Preconditioner:
    """An approximate inverse of K + ridge from some columns of K; see the top of this module."""

    def __init__(self, system: System, columns: int) -> None:
        points, sigma = system.points, system.sigma
        n_geometries, _, r = points.z_mdr.shape
        chosen_mq = _drawn(points.z_mdr, columns)
        own = (torch.arange(n_geometries)[:, None] * r + chosen_mq).flatten()
        self.rank = len(own)
        f_kn = points.x_md.new_empty(self.rank, points.size)  # C^T, and then F^T in its place
        for m, components in enumerate(chosen_mq):
            f_kn[m * columns : (m + 1) * columns] = matern.block_row(points, sigma, m, components)
        inner = f_kn[:, own]
        inner = (inner + inner.T) / 2
        lower = _cholesky_of_singular(inner)
        for part in f_kn.split(4096, dim=1):
            part.copy_(torch.linalg.solve_triangular(lower, part, upper=False))
        missed = max(matern.trace(points, sigma) - float(f_kn.square().sum()), 0.0)
        self.mu = system.ridge + missed / points.size
        self.f_kn = f_kn
        core = f_kn @ f_kn.T
        core.diagonal().add_(self.mu)
        self.core = torch.linalg.cholesky(core)

    def __call__(self, vector: Tensor) -> Tensor:
        """(F F^T + mu)^-1 v, by the identity of Sherman, Morrison and Woodbury."""
        inner = torch.cholesky_solve((self.f_kn @ vector)[:, None], self.core)[:, 0]
        return (vector - self.f_kn.T @ inner) / self.mu


def _cholesky_of_singular(inner: Tensor) -> Tensor:
    size = float(inner.diagonal().sum())
    for jitter in JITTERS:
        shifted = inner.clone()
        shifted.diagonal().add_(jitter * size)
        lower, failed = torch.linalg.cholesky_ex(shifted)
        if not bool(failed):
            return lower
    raise NumericalError(
        "columns of the kernel matrix are so alike that they make no preconditioner; look for structures that occur "
        "twice, or use model.solver = 'direct'"
    )


def _drawn(z_mdr: Tensor, columns: int) -> Tensor:
    """(M, columns) displacements of each geometry, at random, more of those that change the descriptor much."""
    generator = torch.Generator().manual_seed(0)
    chances_mr = z_mdr.square().sum(dim=1) ** 0.25
    return torch.multinomial(chances_mr, columns, generator=generator)


def _residual(system: System, product: matern.Product, weights: Tensor) -> float:
    left = system.labels - product(weights) - system.ridge * weights
    return float(left.norm() / system.labels.norm())
