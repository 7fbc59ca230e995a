"""Graph attention: each atom weighs its neighbours and itself, and the weights sum to one."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ase_mlcalc.graph import Graph
from ase_mlcalc.nn.gather import of_neighbors


class GraphAttention(nn.Module):
    r"""Multi-head graph attention layer.

    .. math::

        h_i' = \sum_{j \in N_i \cup \{i\}} \alpha_{ij} (W h_j + z_{ij}), \qquad
        \alpha_{ij} = \frac{u_{ij} \exp(e_{ij})}{\sum_k u_{ik} \exp(e_{ik})}, \qquad
        e_{ij} = \mathrm{LeakyReLU}\big( a \cdot [W h_i \,\|\, W h_j] + a' \cdot z_{ij} \big)

    for each head, heads side by side.  Reference: Veličković, Cucurull, Casanova, Romero, Liò and Bengio, ICLR 2018,
    eqs. 1 to 5, where u = 1 and z = 0.  Added here: features z of edges, and weights u that take a neighbour
    smoothly away at the cutoff; the atom itself has u = 1 and z = 0.

    Parameters
    ----------
    n_in, n_out : int
        Features of atoms before and after; `n_out` is a multiple of `heads`.
    heads : int
    edges : bool
        Whether there are features z of edges.
    """

    SLOPE = 0.2

    def __init__(self, n_in: int, n_out: int, heads: int, *, edges: bool) -> None:
        super().__init__()

        def attention_vector() -> nn.Parameter:
            return nn.Parameter((heads / n_out) ** 0.5 * torch.randn(heads, n_out // heads))

        self.heads = heads
        self.weight = nn.Linear(n_in, n_out, bias=False)
        self.of_center, self.of_neighbor = attention_vector(), attention_vector()
        self.of_edge = attention_vector() if edges else None
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, graph: Graph, x_nf: Tensor, u_p: Tensor, z_pf: Tensor | None) -> Tensor:
        """(N, n_in) features, (E,) weights and (E, n_out) features of edges to (N, n_out)."""
        h_nhf = self.weight(x_nf).unflatten(1, (self.heads, -1))
        own_nh, far_nh = (h_nhf * self.of_center).sum(dim=2), (h_nhf * self.of_neighbor).sum(dim=2)
        m_phf = of_neighbors(h_nhf, graph)
        logit_ph = own_nh.index_select(0, graph.centers) + of_neighbors(far_nh, graph)
        if z_pf is not None and self.of_edge is not None:
            z_phf = z_pf.unflatten(1, (self.heads, -1))
            m_phf = m_phf + z_phf
            logit_ph = logit_ph + (z_phf * self.of_edge).sum(dim=2)
        logit_ph = leaky_relu(logit_ph, self.SLOPE)
        self_nh = leaky_relu(own_nh + far_nh, self.SLOPE)
        # the largest logit of each atom is taken out before exponentials, which changes nothing but rounding
        rows_ph = graph.centers[:, None].expand_as(logit_ph)
        top_nh = self_nh.detach().scatter_reduce(0, rows_ph, logit_ph.detach(), "amax")
        weight_ph = u_p[:, None] * torch.exp(logit_ph - top_nh.index_select(0, graph.centers))
        weight_nh = torch.exp(self_nh - top_nh)
        sum_nhf = (weight_nh[:, :, None] * h_nhf).index_add(0, graph.centers, weight_ph[:, :, None] * m_phf)
        norm_nh = weight_nh.index_add(0, graph.centers, weight_ph)
        return (sum_nhf / norm_nh[:, :, None]).flatten(1) + self.bias
