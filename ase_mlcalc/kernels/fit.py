"""From geometries and forces to the weights of the kernel model, with the length of the kernel that predicts best."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ase_mlcalc.errors import NumericalError
from ase_mlcalc.kernels import inverse_distances, matern, solvers
from ase_mlcalc.kernels.matern import Geometries

SCREENED_UNKNOWNS = 4000
"""All lengths are first compared on so few geometries that the linear system has no more unknowns than this."""

Report = Callable[[str], None]


class Molecules(NamedTuple):
    """Geometries of one molecule with its forces, float64."""

    vectors_mdc: Tensor
    """(M, D, 3) Å, R_b - R_a of each pair."""
    forces_mk: Tensor
    """(M, 3 N) of order one."""

    def chosen(self, most: int) -> "Molecules":
        """At most so many of them, evenly."""
        index = torch.linspace(0, len(self.forces_mk) - 1, min(most, len(self.forces_mk))).long()
        return Molecules(self.vectors_mdc[index], self.forces_mk[index])


class Settings(NamedTuple):
    """How the weights are determined."""

    permutations: Tensor
    """(S, N) of the molecule, a group."""
    ridge: float
    method: Literal["auto", "direct", "iterative"]
    limit_bytes: int
    tolerance: float
    max_iterations: int


class Fit(NamedTuple):
    """A solved kernel model."""

    origin_d: Tensor
    """(D,) 1/Å, taken out of all descriptors so that squared distances lose no digits."""
    points_md: Tensor
    """(M, D) 1/Å, descriptors less the origin."""
    weights_md: Tensor
    """(M, D)"""
    sigma: float


def best_fit(
    train: Molecules, validation: Molecules, sigmas: Sequence[float], settings: Settings, report: Report
) -> Fit:
    """The fit with the smallest error of validation forces; says so if the best length is at an end of those given."""
    if len(sigmas) == 1:
        return fit(train, sigmas[0], settings, report)
    best = _best_of_several(train, validation, sigmas, settings, report)
    if best.sigma in (min(sigmas), max(sigmas)):
        end, beyond = ("smallest", "smaller") if best.sigma == min(sigmas) else ("largest", "larger")
        report(f"sigma {best.sigma:g} is the {end} that was tried: {beyond} ones in model.sigma may be better")
    return best


def _best_of_several(
    train: Molecules, validation: Molecules, sigmas: Sequence[float], settings: Settings, report: Report
) -> Fit:
    """All lengths are compared on few geometries first.

    The error has one minimum that moves little with their number: on all geometries it is found downhill from there,
    which takes three fits as a rule.
    """
    unknowns_each = max(1, 3 * settings.permutations.shape[1] - 6)
    few = train.chosen(max(1, SCREENED_UNKNOWNS // unknowns_each))
    report(f"comparing {len(sigmas)} kernel lengths on {len(few.forces_mk)} structures")
    tried = [fit(few, sigma, settings) for sigma in sigmas]
    errors = [_error(each, validation, settings) for each in tried]
    place = errors.index(min(errors))
    if len(few.forces_mk) == len(train.forces_mk):
        report(f"sigma {sigmas[place]:g}: error of validation forces {errors[place]:.4g} of their size")
        return tried[place]

    def on_all(k: int) -> tuple[float, Fit]:
        found = fit(train, sigmas[k], settings, report)
        error = _error(found, validation, settings)
        report(f"sigma {sigmas[k]:g}: error of validation forces {error:.4g} of their size")
        return error, found

    best = on_all(place)
    for step in (-1, 1):  # more geometries ask for shorter lengths, if for others
        start = place
        while 0 <= place + step < len(sigmas):
            other = on_all(place + step)
            if other[0] >= best[0]:
                break
            best, place = other, place + step
        if place != start:
            break
    return best[1]


def fit(train: Molecules, sigma: float, settings: Settings, report: Report = lambda _: None) -> Fit:
    """The weights for one length of the kernel.

    Raises
    ------
    ConfigError
        Not enough memory; see `solvers.make_plan`.
    NumericalError
        A singular matrix, or conjugate gradients that do not converge.
    """
    n_atoms = settings.permutations.shape[1]
    order_sd = inverse_distances.permutations_of_pairs(settings.permutations)
    x_md = descriptors(train.vectors_mdc)
    origin_d = x_md.mean(dim=0)[order_sd].mean(dim=0)  # the same for permuted molecules
    jacobians_mdk = inverse_distances.jacobians(train.vectors_mdc, n_atoms)
    internal_mkr = matern.internal(jacobians_mdk)
    points = Geometries(x_md - origin_d, jacobians_mdk @ internal_mkr, order_sd)
    labels = torch.einsum("mkr,mk->mr", internal_mkr, train.forces_mk).flatten()
    del jacobians_mdk, internal_mkr
    system = solvers.System(points, labels, sigma, settings.ridge)
    report(f"sigma {sigma:g}: {len(x_md)} structures, {len(order_sd)} permutations, {points.size} unknowns")
    solution = _solution(system, settings, report)
    weights_md = torch.einsum("mdr,mr->md", points.z_mdr, solution.weights.reshape(len(x_md), -1))
    return Fit(origin_d, points.x_md, weights_md, sigma)


def _solution(system: solvers.System, settings: Settings, report: Report) -> solvers.Solution:
    plan = solvers.make_plan(system.points, settings.limit_bytes, settings.method)
    report(f"{plan}")
    if plan.method == "direct":
        return solvers.solve_directly(system)
    try:
        return solvers.solve_iteratively(
            system,
            plan.columns,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            keep_bytes=max(0, settings.limit_bytes - plan.n_bytes),
            report=report,
        )
    except NumericalError as error:
        if settings.method != "auto" or solvers.direct_bytes(system.points) > settings.limit_bytes:
            raise
        report(f"{error}: using the direct solver")
        return solvers.solve_directly(system)


def descriptors(vectors_mdc: Tensor) -> Tensor:
    """(M, D, 3) to (M, D)."""
    return 1.0 / torch.linalg.vector_norm(vectors_mdc, dim=2)


def predict(found: Fit, molecules: Molecules, permutations: Tensor) -> Tensor:
    """(M, 3 N) forces, by the formula of the kernel."""
    order_sd = inverse_distances.permutations_of_pairs(permutations)
    points = Geometries(found.points_md, found.points_md[:, :, None], order_sd)
    u_md = descriptors(molecules.vectors_mdc) - found.origin_d
    f_md = matern.gradients(u_md, points, found.weights_md, found.sigma)
    # positions of atom a of a pair have the slope of jacobians(), those of b its opposite
    slope_mdc = molecules.vectors_mdc * (f_md / torch.linalg.vector_norm(molecules.vectors_mdc, dim=2) ** 3)[..., None]
    a_d, b_d = inverse_distances.pairs_of(permutations.shape[1])
    forces_mnc = slope_mdc.new_zeros(len(u_md), permutations.shape[1], 3)
    return forces_mnc.index_add(1, a_d, slope_mdc).index_add(1, b_d, -slope_mdc).flatten(1)


def _error(found: Fit, validation: Molecules, settings: Settings) -> float:
    """Root mean square error of forces, by the root mean square force."""
    error_mk = predict(found, validation, settings.permutations) - validation.forces_mk
    return float(error_mk.norm() / validation.forces_mk.norm())
