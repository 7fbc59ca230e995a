"""Sums of messages over the neighbours of each atom, a block of edges at a time.

Nearly all memory of an evaluation is in the arrays of its message layers, which have a row for each edge.  Blocks of
edges need no room for steps in between and for gradients of all edges at once, and their arrays fit into the cache.
What the gradient needs of a block is kept as long as memory allows; beyond, blocks are computed a second time (Chen,
Xu, Zhang and Guestrin, arXiv:1604.06174), and that memory no longer grows with the structure.

Messages are summed in the order of the edges either way.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ase_mlcalc.graph import Graph
from ase_mlcalc.memory import available_bytes
from ase_mlcalc.nn.gather import gauge_of_edges, of_neighbors, with_those_of_others

BLOCK_BYTES = 2 * 1024**2
"""Of the features that a block of edges gathers; a dozen such arrays fit into the cache of a processor."""
KEPT_SHARE = 0.25
"""Of the memory that is free: what a layer keeps of all its blocks for the gradient takes no more."""


class MessageLayer(nn.Module, ABC):
    """A layer in which neighbours send messages along edges that are summed at centres."""

    @abstractmethod
    def message(self, h_p: Tensor, *per_edge: Tensor) -> Tensor:
        """What features of neighbours (E, ...) become on their way, each edge for itself: (E, ...)."""

    def sum_messages(self, graph: Graph, h: Tensor, *per_edge: Tensor) -> Tensor:
        """Messages from all neighbours of each atom.

        Parameters
        ----------
        graph : Graph
        h : (N, ...)
            Features of atoms.
        per_edge : (E, ...), each
            What `message` takes beside the features of the neighbour.

        Returns
        -------
        (N, ...)
        """
        h, graph = with_those_of_others(h, graph)
        in_blocks = (
            not torch.compiler.is_compiling()  # first: sizes stay open
            and h.device.type == "cpu"
            and torch.is_grad_enabled()
            and any(values.requires_grad for values in (h, *per_edge))
            and len(graph.centers) > _edges_per_block(h)
            # what the gradient of the parameters needs stays in one piece: batches in training are small
            and not any(parameter.requires_grad for parameter in self.parameters())
        )
        if in_blocks:
            total: Tensor = _InBlocks.apply(self, graph, h, *per_edge)
            return total
        return at_once(self, graph, h, *per_edge)


def at_once(layer: MessageLayer, graph: Graph, h: Tensor, *per_edge: Tensor) -> Tensor:
    """`MessageLayer.sum_messages` in one piece."""
    m_p = layer.message(of_neighbors(h, graph), *per_edge)
    return m_p.new_zeros(graph.n_atoms, *m_p.shape[1:]).index_add(0, graph.centers, m_p)


class _InBlocks(torch.autograd.Function):
    """`MessageLayer.sum_messages` for fixed parameters."""

    @staticmethod
    def forward(ctx: Any, layer: MessageLayer, graph: Graph, h: Tensor, *per_edge: Tensor) -> Tensor:
        ctx.layer, ctx.graph = layer, graph
        ctx.save_for_backward(h, *per_edge)
        ctx.kept = {}
        blocks = list(_blocks(graph, h))
        keep = True
        total = None
        for k, block in enumerate(blocks):
            inputs = _inputs(graph, block, h, per_edge, differentiable=keep)
            with torch.set_grad_enabled(keep):
                if k == 0:
                    m_p, n_bytes = _with_bytes_kept(layer, inputs)
                    keep = len(blocks) * n_bytes < KEPT_SHARE * available_bytes()
                else:
                    m_p = layer.message(*inputs)
            if keep:
                ctx.kept[k] = inputs, m_p
            if total is None:
                total = m_p.new_zeros(graph.n_atoms, *m_p.shape[1:])
            total.index_add_(0, graph.centers[block], m_p.detach())
        assert total is not None  # there are at least two blocks
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        layer, graph = ctx.layer, ctx.graph
        h, *per_edge = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient of the gradient
            # by aliases, because features of this layer may themselves depend on what comes with the edges
            inputs = [values.view_as(values).requires_grad_() for values in (h, *per_edge)]
            whole = at_once(layer, graph, *inputs)
            return None, None, *torch.autograd.grad(whole, inputs, upstream, create_graph=True)
        gauge_p = gauge_of_edges(graph, h.dtype)
        slope_h = torch.zeros_like(h)
        slopes_per_edge = [torch.empty_like(values) for values in per_edge]
        for k, block in enumerate(_blocks(graph, h)):
            inputs, m_p = ctx.kept.pop(k, (None, None))
            if inputs is None:
                inputs = _inputs(graph, block, h, per_edge, differentiable=True)
                with torch.enable_grad():
                    m_p = layer.message(*inputs)
            of_h, *of_edges = torch.autograd.grad(m_p, inputs, upstream.index_select(0, graph.centers[block]))
            if gauge_p is not None:  # as in of_neighbors
                of_h = of_h - of_h * gauge_p[block].view(-1, *[1] * (of_h.ndim - 1))
            slope_h.index_add_(0, graph.neighbors[block], of_h)
            for slope, part in zip(slopes_per_edge, of_edges, strict=True):
                slope[block] = part
        return None, None, slope_h, *slopes_per_edge


def _edges_per_block(h: Tensor) -> int:
    return max(1, BLOCK_BYTES // max(1, h[:1].nbytes))


def _blocks(graph: Graph, h: Tensor) -> Iterator[slice]:
    step, n_edges = _edges_per_block(h), len(graph.centers)
    return (slice(first, min(first + step, n_edges)) for first in range(0, n_edges, step))


def _inputs(graph: Graph, block: slice, h: Tensor, per_edge: Sequence[Tensor], *, differentiable: bool) -> list[Tensor]:
    """What `MessageLayer.message` takes of a block; leaves of a graph of their own where they are differentiable."""
    parts = [h.detach().index_select(0, graph.neighbors[block]), *(values.detach()[block] for values in per_edge)]
    return [part.requires_grad_() for part in parts] if differentiable else parts


def _with_bytes_kept(layer: MessageLayer, inputs: list[Tensor]) -> tuple[Tensor, int]:
    """The messages of a block, and how much memory autograd keeps for their gradient."""
    sizes: list[int] = []

    def count(kept: Tensor) -> Tensor:
        sizes.append(kept.nbytes)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(count, lambda kept: kept):
        m_p = layer.message(*inputs)
    return m_p, sum(sizes)
