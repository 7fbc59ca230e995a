r"""Functions of a distance as tables: cubic pieces on an even grid.

A model that sees distances only through networks of its own spends most of its time in them.  Between two points of a
grid, each function is the cubic that has its values and slopes at both (Hermite), so that a table has a continuous
derivative, which is what forces take: energy stays conserved, whatever the table is worth.  For functions with four
bounded derivatives and a spacing h the error is of order :math:`h^4` in values and :math:`h^3` in slopes; the grid is
refined until slopes, measured between its points, are as good as asked.

Tables are made in float64 and cast once.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ase_mlcalc.errors import ModelError
from ase_mlcalc.graph import OVERLAP_ANGSTROM
from ase_mlcalc.model import Model, Tabulable

DEFAULT_TOLERANCE = 1e-5
"""Of slopes, relative to their root mean square over the distances at which atoms are found."""
CLOSEST_ANGSTROM = 0.5
"""Atoms of molecules and solids are not closer; here tables have to be good.  They reach down to overlaps."""
FEWEST_POINTS, MOST_POINTS = 64, 16384
PLACES = 8
"""Between two points of the grid, where slopes are compared."""


class Tabulated(nn.Module):
    """F functions of the distance by cubic interpolation.

    Parameters
    ----------
    coefficients : (P, 4, F)
        Of 1, t, t² and t³ on each of P pieces, along which t runs from 0 to 1.
    start, spacing : float, Å
        Where the first piece begins, and how long each is.
    error : float
        Of slopes, as measured; see `table_of`.
    """

    coefficients: Tensor

    def __init__(self, coefficients: Tensor, start: float, spacing: float, error: float) -> None:
        super().__init__()
        self.register_buffer("coefficients", coefficients)
        self.start, self.spacing, self.error = start, spacing, error

    def forward(self, d_p: Tensor) -> Tensor:
        """(E,) Å to (E, F); below its start the first piece goes on, beyond its end the last value."""
        value: Tensor = _Interpolation.apply(d_p, self.coefficients, self.start, 1.0 / self.spacing)
        return value


class _Interpolation(torch.autograd.Function):
    """Horner's scheme; the gradient is that of the same pieces, in one sum over functions."""

    @staticmethod
    def forward(ctx: Any, d_p: Tensor, coefficients: Tensor, start: float, per_spacing: float) -> Tensor:
        ctx.save_for_backward(d_p, coefficients)
        ctx.start, ctx.per_spacing = start, per_spacing
        piece_p, t_p = _place(d_p, len(coefficients), start, per_spacing)
        c_0, c_1, c_2, c_3 = coefficients.index_select(0, piece_p).unbind(dim=1)
        return c_0 + t_p * (c_1 + t_p * (c_2 + t_p * c_3))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        d_p, coefficients = ctx.saved_tensors
        piece_p, t_p = _place(d_p, len(coefficients), ctx.start, ctx.per_spacing)
        _, c_1, c_2, c_3 = coefficients.index_select(0, piece_p).unbind(dim=1)
        slope_pf = c_1 + t_p * (2 * c_2 + t_p * (3 * c_3))
        return (upstream * slope_pf).sum(dim=1) * ctx.per_spacing, None, None, None


def _place(d_p: Tensor, n_pieces: int, start: float, per_spacing: float) -> tuple[Tensor, Tensor]:
    """The piece of each distance (E,), and how far along it (E, 1)."""
    x_p = (d_p - start) * per_spacing
    piece_p = x_p.detach().long().clamp(0, n_pieces - 1)
    return piece_p, (x_p - piece_p.to(x_p.dtype))[:, None]


def tabulate(model: Model, tolerance: float = DEFAULT_TOLERANCE) -> Model:
    """A copy of a model with tables in place of its functions of the distance.

    Parameters
    ----------
    model : Model
        One that implements `Tabulable`; it is not modified.
    tolerance : float
        Of the slopes of each function; see `table_of`.

    Raises
    ------
    ModelError
        The model has no functions of the distance that tables could replace.
    """
    if not isinstance(model, Tabulable):
        raise ModelError(f"model {model.name!r} has no tables: its edges are more than functions of the distance")
    exact = copy.deepcopy(model).double().eval().requires_grad_(False)
    assert isinstance(exact, Tabulable)
    exact.tabulate(lambda function, cutoff: table_of(function, cutoff, tolerance))
    return exact.to(model.dtype)


def table_of(function: Callable[[Tensor], Tensor], cutoff: float, tolerance: float = DEFAULT_TOLERANCE) -> Tabulated:
    """A table of functions of the distance, fine enough.

    Parameters
    ----------
    function : callable
        (E,) Å to (E, F), each row for itself, in float64 and twice differentiable.
    cutoff : float, Å
        From here on the table keeps its value.
    tolerance : float
        How far any slope may be off between two points of the grid, measured at eight places of each piece, relative
        to the root mean square of that function's slopes; both over distances above `CLOSEST_ANGSTROM`.

    Raises
    ------
    ModelError
        No grid is fine enough: the function is not smooth.
    """
    points = FEWEST_POINTS
    while True:
        table = _table_with(function, cutoff, points)
        if table.error <= tolerance:
            return table
        if points >= MOST_POINTS:
            raise ModelError(
                f"a table of {points} points is off by {table.error:.1e} in slopes, more than {tolerance:.1e}; the "
                "function of the distance is not smooth: use the model without tables, or a larger tolerance"
            )
        # slopes are off by the third power of the spacing
        points = min(MOST_POINTS, max(points + points // 8, int(1.1 * points * (table.error / tolerance) ** (1 / 3))))


def _table_with(function: Callable[[Tensor], Tensor], cutoff: float, points: int) -> Tabulated:
    d_k = torch.linspace(OVERLAP_ANGSTROM, cutoff, points, dtype=torch.float64)
    spacing = float(d_k[1] - d_k[0])
    value_kf, slope_kf = _value_and_slope(function, d_k)
    slope_kf = slope_kf * spacing
    v_0, v_1, s_0, s_1 = value_kf[:-1], value_kf[1:], slope_kf[:-1], slope_kf[1:]
    pieces = torch.stack([v_0, s_0, 3 * (v_1 - v_0) - 2 * s_0 - s_1, 2 * (v_0 - v_1) + s_0 + s_1], dim=1)
    # what is beyond the cutoff stays what it is there
    end = torch.stack([value_kf[-1:], *[torch.zeros_like(value_kf[-1:])] * 3], dim=1)
    table = Tabulated(torch.cat([pieces, end]), OVERLAP_ANGSTROM, spacing, 0.0)
    nearest = min(CLOSEST_ANGSTROM, 0.5 * cutoff)
    between = torch.linspace(nearest, cutoff, PLACES * points + 1, dtype=torch.float64)[:-1]
    expected, found = (_value_and_slope(each, between)[1] for each in (function, table))
    size_f = expected.square().mean(dim=0).sqrt()
    off_f = (found - expected).abs().amax(dim=0)
    table.error = float((off_f[size_f > 0] / size_f[size_f > 0]).amax()) if bool((size_f > 0).any()) else 0.0
    return table


def _value_and_slope(function: Callable[[Tensor], Tensor], d_k: Tensor) -> tuple[Tensor, Tensor]:
    """(K, F) values and derivatives; each row depends on its own distance only."""
    d_k = d_k.clone().requires_grad_()
    with torch.enable_grad():
        value_kf = function(d_k)
        # all columns at once: the gradient is linear in what is sent back, with the slopes as coefficients
        sent_kf = torch.ones_like(value_kf, requires_grad=True)
        (sum_k,) = torch.autograd.grad(value_kf, d_k, sent_kf, create_graph=True)
        (slope_kf,) = torch.autograd.grad(sum_k, sent_kf, torch.ones_like(sum_k))
    return value_kf.detach(), slope_kf
