"""Features that turn with the structure: spherical harmonics, linear maps and products of irreps up to l_max.

An array of irreps has shape ((l_max + 1)², N, C): the first axis runs over l = 0 ... l_max and m = -l ... l in the
order and sign conventions of e3nn, the last over channels.  Components come first because then all that belongs to
one degree is contiguous, and mixing its channels is one matrix product.  Only natural parity (-1)^l is kept, so that
this is e3nn's ``C x 0e + C x 1o + C x 2e + ...``.
"""

import torch
from torch import Tensor, nn

from ase_mlcalc.nn.constant import Constant
from ase_mlcalc.nn.wigner import spherical_harmonics, wigner_3j


def degree_of_components(l_max: int) -> Tensor:
    """((l_max + 1)²,) the degree l of each component."""
    return torch.tensor([l for l in range(l_max + 1) for _ in range(2 * l + 1)])


class SphericalHarmonics(nn.Module):
    r"""Real spherical harmonics of unit vectors, each degree of squared norm 2 l + 1.

    Built up from the coupling of the degree below with the vector itself,

    .. math:: Y_l(u) \propto \sum_{m m'} C^{l}_{l-1, m; 1, m'} \, Y_{l-1, m}(u) \, Y_{1, m'}(u),

    which takes two operations per degree; equal to `e3nn.o3.spherical_harmonics` with ``normalization="component"``.
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        couplings = []
        z_axis = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
        for l in range(2, l_max + 1):
            coupling = wigner_3j(l - 1, 1, l)
            below, vector, here = (spherical_harmonics(k, z_axis) for k in (l - 1, 1, l))
            raw = torch.einsum("ni,nj,ijk->nk", below, vector, coupling)
            scale = (here * raw).sum() / (raw * raw).sum()
            couplings.append(Constant((coupling * scale).reshape(-1, 2 * l + 1)))
        self.couplings = nn.ModuleList(couplings)

    def forward(self, u_pc: Tensor) -> Tensor:
        """(E, 3) unit vectors to (E, (l_max + 1)²)."""
        degrees = [torch.ones_like(u_pc[:, :1])]
        if self.l_max >= 1:
            degrees.append(3**0.5 * u_pc)  # e3nn's components of l = 1 are x, y, z
        for coupling in self.couplings:
            pairs = (degrees[-1][:, :, None] * degrees[1][:, None, :]).flatten(1)
            degrees.append(pairs @ coupling(u_pc))
        return torch.cat(degrees, dim=1)


class IrrepsLinear(nn.Module):
    """Mixes channels of each degree; the only linear maps that commute with rotations (Schur's lemma)."""

    def __init__(self, channels_in: int, channels_out: int, l_max: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(l_max + 1, channels_in, channels_out) / channels_in**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """((l_max + 1)², N, channels_in) to ((l_max + 1)², N, channels_out)."""
        return torch.cat([x[l * l : (l + 1) ** 2] @ weight for l, weight in enumerate(self.weight.unbind())])


class IrrepsProduct(nn.Module):
    """Channel-wise product of two arrays of irreps, projected on degrees up to l_out, then mixed.

    For each channel all couplings (l1, l2) -> l3 of natural parity are formed at once, as a constant matrix of
    Clebsch-Gordan coefficients times the outer product of the two factors.  It raises the body order of the features;
    on atoms it costs no more than a linear map, whereas on edges it would dominate everything.
    """

    def __init__(self, channels_in: int, channels_out: int, l_max: int, l_out: int) -> None:
        super().__init__()
        matrix, self.n_paths = coupling_matrix(l_max, l_out)
        self.couplings = Constant(matrix)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(n * channels_in, channels_out) / (n * channels_in) ** 0.5) for n in self.n_paths
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two arrays ((l_max + 1)², N, channels_in) to one ((l_out + 1)², N, channels_out)."""
        n_components, n_atoms, channels = x.shape
        outer = (x[:, None] * y[None]).view(n_components**2, n_atoms * channels)
        coupled = (self.couplings(outer) @ outer).view(-1, n_atoms, channels)
        parts = coupled.split([n * (2 * l + 1) for l, n in enumerate(self.n_paths)])
        return torch.cat(
            [
                part.view(2 * l + 1, n, n_atoms, channels).transpose(1, 2).reshape(-1, n_atoms, n * channels) @ weight
                for l, (part, n, weight) in enumerate(zip(parts, self.n_paths, self.weights, strict=True))
            ]
        )


def coupling_matrix(l_max: int, l_out: int) -> tuple[Tensor, list[int]]:
    """Coefficients, and the number of paths to each degree l3.

    Rows run over (l3, m3, path), columns over pairs of components: (sum of (2 l3 + 1) paths, (l_max + 1)⁴).
    """
    size = (l_max + 1) ** 2
    rows, n_paths = [], []
    for l3 in range(l_out + 1):
        paths = [
            (l1, l2)
            for l1 in range(l_max + 1)
            for l2 in range(l_max + 1)
            if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
        ]
        block = torch.zeros(2 * l3 + 1, len(paths), size, size, dtype=torch.float64)
        for k, (l1, l2) in enumerate(paths):
            coefficients = wigner_3j(l1, l2, l3) * (2 * l3 + 1) ** 0.5
            block[:, k, l1 * l1 : (l1 + 1) ** 2, l2 * l2 : (l2 + 1) ** 2] = coefficients.permute(2, 0, 1)
        rows.append(block.reshape(-1, size * size))
        n_paths.append(len(paths))
    return torch.cat(rows), n_paths
