"""From structures to tensors: the only place that knows i, j and S."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from ase_mlcalc.errors import StructureError
from ase_mlcalc.neighbors import NeighborList, Selection, cell_volume

OVERLAP_ANGSTROM = 1e-3
"""Two atoms closer than this are taken as one atom entered twice."""
SMALLEST_VOLUME_A3 = 1e-9
"""A cell that spans less has no volume, and a structure in it no stress."""


class Halo(Protocol):
    """Where several processes share a structure, the atoms that others own; see `nn.gather.of_neighbors`.

    All processes have to come to these functions equally often and in the same order.
    """

    n_owned: int
    """Atoms of this process; those behind them in a graph stand for atoms of others, and have no edges."""

    def exchange(self, x: Tensor, dim: int) -> Tensor:
        """Features with those of atoms behind `n_owned`, along dimension `dim`, as their owners have them.

        Gradients by these flow back to their owners.
        """

    def fill(self, rows: NDArray[Any]) -> None:
        """The same for an array (N, width) in place, and without gradients."""


class Graph(NamedTuple):
    """One or several structures as one disconnected graph (inputs only, never labels).

    N atoms, E directed edges (both directions present), B structures.  Geometry is float64; `potential.derive`
    casts edge vectors to the precision of the model.
    """

    numbers: Tensor
    """(N,) atomic numbers."""
    positions: Tensor
    """(N, 3) Å."""
    cell: Tensor
    """(B, 3, 3) Å, rows are lattice vectors; zeros where there is none."""
    system: Tensor
    """(N,) index of the structure that each atom belongs to, ascending."""
    centers: Tensor
    """(E,) i, ascending: messages are summed here."""
    neighbors: Tensor
    """(E,) j."""
    vectors: Tensor
    """(E, 3) Å, r_ij = r_j + S @ cell - r_i."""
    shifts: Tensor | None = None
    """(E, 3) S, whole cells crossed; ``None`` where nobody asked for them."""
    velocities: Tensor | None = None
    """(N, 3) Å per ASE time unit, so that m v² is in eV; ``None`` where no structure has momenta, NaN where one has
    none."""
    masses: Tensor | None = None
    """(N,) u; given with `velocities`."""
    gauge: Tensor | None = None
    """(3,) 1/Å; not physics but bookkeeping of gradients, see `nn.gather.of_neighbors`.  ``None`` in structures."""
    halo: Halo | None = None
    """Where several processes share a structure; ``None`` where all of it is here."""

    @property
    def n_atoms(self) -> int:
        """N."""
        return self.numbers.shape[0]  # shapes, not len: graphs are traced with sizes that stay open

    @property
    def n_structures(self) -> int:
        """B."""
        return self.cell.shape[0]

    def to(self, device: torch.device | str) -> Self:
        """The same graph on another device."""
        fields = self._asdict().items()
        moved: dict[str, Any] = {name: field.to(device) for name, field in fields if isinstance(field, Tensor)}
        return self._replace(**moved)


def from_atoms(
    atoms: Atoms, cutoff: float, neighbors: NeighborList | None = None, *, wanted: frozenset[str] | None = None
) -> Graph:
    """The graph of one structure.

    Parameters
    ----------
    atoms : ase.Atoms
        With any cell and any mix of periodic directions; not modified.
    cutoff : float, Å
    neighbors : NeighborList, optional
        A list with a skin that is kept between calls; its cutoff must be `cutoff`.
    wanted : set of str, optional
        Of ``velocities`` and ``shifts``, those that are looked at; default both.  The others are ``None``.

    Raises
    ------
    StructureError
        Empty structure, positions that are not finite, two atoms on one spot.
    """
    search = neighbors if neighbors is not None else NeighborList(cutoff)
    if search.cutoff != float(cutoff):
        raise ValueError(f"the neighbour list was made for a cutoff of {search.cutoff} Å, not {cutoff} Å")
    cell = atoms.cell.array
    shifts = wanted is None or "shifts" in wanted
    found = search(atoms.positions, cell, atoms.pbc, shifts=shifts)
    refuse_overlaps(found)
    pairs = found.pairs
    moving = (wanted is None or "velocities" in wanted) and atoms.has("momenta")
    return Graph(
        numbers=torch.from_numpy(atoms.numbers.astype(np.int64)),
        positions=torch.from_numpy(np.array(atoms.positions, dtype=np.float64)),
        cell=torch.from_numpy(cell[None].copy()),
        system=torch.zeros(len(atoms), dtype=torch.int64, device="cpu"),
        centers=torch.from_numpy(pairs.centers),
        neighbors=torch.from_numpy(pairs.neighbors),
        shifts=torch.from_numpy(pairs.shifts.astype(np.float64)) if shifts else None,
        vectors=torch.from_numpy(found.vectors),
        velocities=torch.from_numpy(atoms.get_velocities()) if moving else None,
        masses=torch.from_numpy(atoms.get_masses()) if moving else None,
    )


def has_volume(atoms: Atoms) -> bool:
    """Whether the three cell vectors of a structure are independent, without which there is no stress."""
    return cell_volume(atoms.cell.array) > SMALLEST_VOLUME_A3


def describe_flat_cell(atoms: Atoms) -> str:
    """What is wrong with the cell of a structure without a volume, for messages."""
    cell = atoms.cell.array
    return f"this one has rank {np.linalg.matrix_rank(cell)} and spans {cell_volume(cell):.1g} Å³"


def refuse_overlaps(found: Selection) -> None:
    """Two atoms on one spot are a mistake and not a structure.

    Raises
    ------
    StructureError
        There are such.
    """
    if found.shortest < 0:
        return
    distance = math.hypot(*found.vectors[found.shortest].tolist())
    if distance < OVERLAP_ANGSTROM:
        i, j = found.pairs.centers[found.shortest], found.pairs.neighbors[found.shortest]
        raise StructureError(
            f"atoms {i} and {j} are {distance:.1e} Å apart; remove the duplicate atom (or the doubled periodic image)"
        )


def collate(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one; structures keep their order."""
    if not graphs:
        raise StructureError("cannot collate an empty list of structures")
    if len(graphs) == 1:
        return graphs[0]
    atoms = np.cumsum([0] + [g.n_atoms for g in graphs[:-1]]).tolist()
    structures = np.cumsum([0] + [g.n_structures for g in graphs[:-1]]).tolist()
    return Graph(
        numbers=torch.cat([g.numbers for g in graphs]),
        positions=torch.cat([g.positions for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        system=torch.cat([g.system + b for g, b in zip(graphs, structures, strict=True)]),
        centers=torch.cat([g.centers + n for g, n in zip(graphs, atoms, strict=True)]),
        neighbors=torch.cat([g.neighbors + n for g, n in zip(graphs, atoms, strict=True)]),
        shifts=_all_or_none([g.shifts for g in graphs]),
        vectors=torch.cat([g.vectors for g in graphs]),
        velocities=_joined([g.velocities for g in graphs], [g.positions for g in graphs]),
        masses=_joined([g.masses for g in graphs], [g.positions[:, 0] for g in graphs]),
    )


def _all_or_none(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if len(given) == len(parts) else None


def _joined(parts: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor | None:
    """One array for all structures, NaN for those that have none; ``None`` if none has."""
    if all(part is None for part in parts):
        return None
    return torch.cat([torch.full_like(n, torch.nan) if p is None else p for p, n in zip(parts, like, strict=True)])


def within(graph: Graph, cutoff: float) -> Graph:
    """The same structures with the edges that are shorter than a smaller cutoff, in their order."""
    short = torch.nonzero(graph.vectors.square().sum(dim=1) < cutoff**2)[:, 0]
    return graph._replace(
        centers=graph.centers[short],
        neighbors=graph.neighbors[short],
        shifts=None if graph.shifts is None else graph.shifts[short],
        vectors=graph.vectors.index_select(0, short),
    )


def isolated_atoms(species: Sequence[int], device: torch.device | str = "cpu") -> Graph:
    """One structure per species, each a single atom without edges or cell."""
    count = len(species)
    no_edges = torch.zeros(0, dtype=torch.int64, device=device)
    no_vectors = torch.zeros(0, 3, dtype=torch.float64, device=device)
    return Graph(
        numbers=torch.tensor(list(species), dtype=torch.int64, device=device),
        positions=torch.zeros(count, 3, dtype=torch.float64, device=device),
        cell=torch.zeros(count, 3, 3, dtype=torch.float64, device=device),
        system=torch.arange(count, device=device),
        centers=no_edges,
        neighbors=no_edges,
        shifts=no_vectors,
        vectors=no_vectors,
    )
