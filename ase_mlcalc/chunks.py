"""Large graphs in pieces: what a few atoms' energies depend on is a graph of its own.

After ``depth`` layers an atom has heard of atoms ``depth`` edges away and of no others.  The energies of some atoms,
and their gradient, are therefore exact in the graph of these atoms and all that lies so many edges around; sums over
pieces are exact, too, and need the memory of one piece at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_mlcalc.graph import SMALLEST_VOLUME_A3, Graph


class Piece(NamedTuple):
    """A part of a graph that some of its atoms' energies depend on."""

    graph: Graph
    core: Tensor
    """(n,) rows in the piece of the atoms that the piece is for."""
    atoms: Tensor
    """(n,) their indices in the whole graph."""
    edges: Tensor
    """(e,) indices in the whole graph of the edges of the piece."""


def pieces(graph: Graph, depth: int, atoms_at_once: int) -> Iterator[Piece]:
    """Pieces whose cores hold every atom of a graph once.

    Parameters
    ----------
    graph : Graph
        On the CPU.
    depth : int
        Of the model, see `Model.depth`.
    atoms_at_once : int
        Atoms in the core of a piece at most.
    """
    centers, neighbors = graph.centers.numpy(), graph.neighbors.numpy()
    n_atoms = graph.n_atoms
    first_edge = np.searchsorted(centers, np.arange(n_atoms + 1))
    for core in _compact(_in_cell(graph), atoms_at_once):
        here = np.zeros(n_atoms, dtype=bool)  # atoms that receive messages
        here[core] = True
        for _ in range(depth - 1):
            here[neighbors[_edges_of(here, first_edge)]] = True
        edges = _edges_of(here, first_edge)
        here[neighbors[edges]] = True
        kept = np.flatnonzero(here)
        row = np.zeros(n_atoms, dtype=np.int64)
        row[kept] = np.arange(len(kept))
        yield Piece(
            _part(graph, torch.from_numpy(kept), torch.from_numpy(edges), torch.from_numpy(row)),
            torch.from_numpy(row[core]),
            torch.from_numpy(core),
            torch.from_numpy(edges),
        )


def _part(graph: Graph, atoms: Tensor, edges: Tensor, row: Tensor) -> Graph:
    return graph._replace(
        numbers=graph.numbers[atoms],
        positions=graph.positions[atoms],
        system=graph.system[atoms],
        centers=row[graph.centers[edges]],
        neighbors=row[graph.neighbors[edges]],
        shifts=None if graph.shifts is None else graph.shifts[edges],
        vectors=graph.vectors[edges],
        velocities=None if graph.velocities is None else graph.velocities[atoms],
        masses=None if graph.masses is None else graph.masses[atoms],
    )


def _edges_of(atoms: NDArray[np.bool_], first_edge: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges whose centres are among the atoms, ascending."""
    return np.flatnonzero(np.repeat(atoms, np.diff(first_edge)))


def _in_cell(graph: Graph) -> NDArray[np.float64]:
    """(N, 3) positions wrapped into the cells that have a volume: near atoms should be near in numbers."""
    positions = graph.positions.numpy().copy()
    for b, cell in enumerate(graph.cell.numpy()):
        if abs(np.linalg.det(cell)) > SMALLEST_VOLUME_A3:
            mine = graph.system.numpy() == b
            fractional = positions[mine] @ np.linalg.inv(cell)
            positions[mine] = (fractional - np.floor(fractional)) @ cell
    return positions


def _compact(positions: NDArray[np.float64], at_most: int) -> list[NDArray[np.int64]]:
    """Atoms in groups that are compact: halved along their longest side until they are small enough."""
    waiting, done = [np.arange(len(positions))], []
    while waiting:
        group = waiting.pop()
        if len(group) <= at_most:
            done.append(np.sort(group))
            continue
        extent = np.ptp(positions[group], axis=0)
        order = np.argsort(positions[group, int(extent.argmax())], kind="stable")
        middle = len(group) // 2
        waiting += [group[order[:middle]], group[order[middle:]]]
    return done
