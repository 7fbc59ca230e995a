"""Layers of a tensor field network: the convolution with every coupling, and the nonlinearity of norms.

Arrays of irreps are those of `ase_mlcalc.nn.irreps`.  Reference: Thomas, Smidt, Kearnes, Yang, Li, Kohlhoff and Riley,
arXiv:1802.08219 (2018), section 4.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ase_mlcalc.graph import Graph
from ase_mlcalc.nn.constant import Constant
from ase_mlcalc.nn.gather import of_neighbors
from ase_mlcalc.nn.irreps import degree_of_components
from ase_mlcalc.nn.wigner import wigner_3j

SQUARED_NORM_FLOOR = 1e-6
"""Added to squared norms, so that their roots are differentiable at zero."""


class RadialFunctions(nn.Module):
    """Functions of the distance that end smoothly at the cutoff: a basis, or functions that a layer makes of it."""

    def __init__(self, n_basis: int, n_hidden: int) -> None:
        super().__init__()
        self.n_functions = n_hidden or n_basis
        self.hidden = nn.Linear(n_basis, n_hidden) if n_hidden else None

    def forward(self, basis_pk: Tensor, u_p: Tensor) -> Tensor:
        """(E, n_basis) and the envelope (E,) to (E, n_functions)."""
        functions = basis_pk if self.hidden is None else silu(self.hidden(basis_pk))
        return functions * u_p[:, None]


class Convolution(nn.Module):
    r"""Sum over neighbours of filters coupled with features, each channel by itself.

    .. math::
        y_{ic}^{(l)} = \frac{1}{\sqrt{\bar n}} \sum_{j} \sum_{l_f l_i} R_c^{(l_f l_i l)}(d_{ij}) \,
        \big[ Y^{(l_f)}(u_{ij}) \otimes x_{jc}^{(l_i)} \big]^{(l)}

    with radial functions R that are linear in given ones and Clebsch-Gordan coefficients in the brackets.

    Parameters
    ----------
    channels : int
    l_max : int
        Of filters, features and results.
    n_radial : int
        Radial functions given.
    full : bool
        Also couplings in which neither l_f nor l_i is 0.  They cost several times the others.
    degrees : collection of int
        Degrees l of the result that are used by what follows; only for these are such couplings made.
    mean_neighbors : float
    """

    def __init__(
        self, *, channels: int, l_max: int, n_radial: int, full: bool, degrees: Collection[int], mean_neighbors: float
    ) -> None:
        super().__init__()
        self.l_max = l_max
        self.channels = channels
        self.scale = mean_neighbors**-0.5
        self.weights = nn.Linear(n_radial, (2 * l_max + 1) * channels, bias=False)
        paths = _paths_without_scalars(l_max, degrees) if full else []
        self.turned = _TurnedFeatures(paths, channels, l_max, n_radial) if paths else None
        self.register_buffer("degree", degree_of_components(l_max), persistent=False)

    def forward(self, graph: Graph, x: Tensor, b_pr: Tensor, y_pk: Tensor) -> Tensor:
        """((l_max + 1)², N, channels) to the same shape, with radial functions (E, R) and harmonics (E, (l_max + 1)²).

        Edges only scale and sum.  (l, 0) -> l passes on where a neighbour is, (0, l) -> l how it is turned.
        """
        degree = self.get_buffer("degree")
        h = x.transpose(0, 1).contiguous()  # atoms first: rows are gathered and summed
        h_p = of_neighbors(h, graph)
        weights = self.weights(b_pr).view(-1, 2 * self.l_max + 1, self.channels)
        of_place = weights[:, : self.l_max + 1].index_select(1, degree) * y_pk[:, :, None] * h_p[:, :1]
        of_turn = weights[:, self.l_max + 1 :].index_select(1, degree[1:] - 1) * h_p[:, 1:]
        messages = torch.cat([of_place[:, :1], of_place[:, 1:] + of_turn], dim=1)
        if self.turned is not None:
            messages = messages + self.turned(h_p, b_pr, y_pk)
        summed = torch.zeros_like(h).index_add(0, graph.centers, messages)
        return summed.transpose(0, 1) * self.scale


def _paths_without_scalars(l_max: int, degrees: Collection[int]) -> list[tuple[int, int, int]]:
    """(l_f, l_i, l) of natural parity in which filter and feature both have a direction."""
    return [
        (filter_, feature, out)
        for out in sorted(degrees)
        for filter_ in range(1, l_max + 1)
        for feature in range(1, l_max + 1)
        if abs(filter_ - feature) <= out <= filter_ + feature and (filter_ + feature + out) % 2 == 0
    ]


class _TurnedFeatures(nn.Module):
    """Couplings of the harmonics of an edge with vectors and higher tensors of the neighbour.

    For each edge the harmonics and the coefficients make one matrix that acts on the components of all channels alike.
    """

    def __init__(self, paths: list[tuple[int, int, int]], channels: int, l_max: int, n_radial: int) -> None:
        super().__init__()
        size = (l_max + 1) ** 2
        rows = []
        for filter_, feature, out in paths:
            row = torch.zeros(2 * out + 1, size - 1, size, dtype=torch.float64)  # scalar features are left out
            coefficients = wigner_3j(filter_, feature, out) * (2 * out + 1) ** 0.5
            of_feature = slice(feature**2 - 1, (feature + 1) ** 2 - 1)
            row[:, of_feature, filter_**2 : (filter_ + 1) ** 2] = coefficients.permute(2, 1, 0)
            rows.append(row)
        self.coupling = Constant(torch.cat(rows).flatten(0, 1).mT)
        components = [torch.arange(out**2, (out + 1) ** 2) for _, _, out in paths]
        path_of_row = [torch.full_like(row, k) for k, row in enumerate(components)]
        self.register_buffer("component", torch.cat(components), persistent=False)
        self.register_buffer("path", torch.cat(path_of_row), persistent=False)
        self.n_paths = len(paths)
        self.weights = nn.Linear(n_radial, self.n_paths * channels, bias=False)

    def forward(self, h_p: Tensor, b_pr: Tensor, y_pk: Tensor) -> Tensor:
        """(E, (l_max + 1)², channels) features of neighbours to messages of that shape."""
        path, component = self.get_buffer("path"), self.get_buffer("component")
        n_edges, size, channels = h_p.shape
        matrix_p = (y_pk @ self.coupling(y_pk)).view(n_edges, len(path), size - 1)
        weights = self.weights(b_pr).view(n_edges, self.n_paths, channels).index_select(1, path)
        return torch.zeros_like(h_p).index_add(1, component, weights * (matrix_p @ h_p[:, 1:]))


class NormNonlinearity(nn.Module):
    """Scalars through a function of their value, vectors and higher tensors scaled by one of their norm.

    Reference: Thomas et al., section 4.3, with smooth functions (SiLU and the logistic function).
    """

    def __init__(self, channels: int, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        # a table of biases, no map between features: the optimisers step it like other biases
        self.bias = nn.Embedding(l_max + 1, channels)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor) -> Tensor:
        """((l_max + 1)², N, channels) to the same shape."""
        scalar_bias, *biases = self.bias.weight.unbind()
        parts = [silu(x[:1] + scalar_bias)]
        for l, bias in enumerate(biases, start=1):
            tensors = x[l * l : (l + 1) ** 2]
            norm = (tensors.square().sum(dim=0) + SQUARED_NORM_FLOOR).sqrt()
            parts.append(tensors * torch.sigmoid(norm + bias))
        return torch.cat(parts)
