"""Which atoms of a process stand for atoms that another one owns, and the ways that numbers take between them.

LAMMPS divides a box among processes.  Each owns the atoms in its part and has copies, ghosts, of those within a cutoff
around it, whoever owns them.  Here a ghost is an atom again: copies of one atom share one row, and copies of an atom
that the process owns itself are that atom.  So one process alone has nothing to exchange, several exchange what lies
on the faces between them, and no atom twice.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_mlcalc.errors import StructureError

NOT_UNIQUE = "identifiers of atoms are not unique; use `reset_atoms id`, and no `atom_modify id no`"


class Ownership:
    """Rows of the atoms that a process sees: its own in their order, then those of others, grouped by owner.

    It is a `ase_mlcalc.graph.Halo`.  Everything here is done by all processes together.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Of all processes; used for nothing else, so that no message meets one of LAMMPS.
    tags : (own and ghosts,)
        Identifiers, those of own atoms first.
    n_owned : int

    Raises
    ------
    StructureError
        A ghost that no process owns, or identifiers that are not unique.
    """

    def __init__(self, comm: Any, tags: NDArray[np.integer], n_owned: int) -> None:
        self.n_owned = n_owned
        self._comm = comm
        own: NDArray[np.int64] = tags[:n_owned].astype(np.int64)
        seen, copy_of = np.unique(tags[n_owned:].astype(np.int64), return_inverse=True)
        order = np.argsort(own, kind="stable")
        if n_owned and (own[order[0]] < 1 or (np.diff(own[order]) == 0).any()):
            raise StructureError(NOT_UNIQUE)
        place: NDArray[np.int64] = np.asarray(np.searchsorted(own, seen, sorter=order))
        found: NDArray[np.bool_] = np.asarray(place < n_owned)
        found[found] = own[order[place[found]]] == seen[found]
        row_of_seen = np.empty(len(seen), dtype=np.int64)
        row_of_seen[found] = order[place[found]]
        owner, index = _look_up(comm, own, seen[~found])
        by_owner = np.lexsort((index, owner))
        foreign = np.flatnonzero(~found)[by_owner]
        row_of_seen[foreign] = n_owned + np.arange(len(foreign))
        self.row_of = np.concatenate([np.arange(n_owned), row_of_seen[copy_of]])
        """(own and ghosts,) row of each."""
        self.n_rows = n_owned + len(foreign)
        """How many atoms there are."""
        counts = np.bincount(owner, minlength=comm.size)
        ends = n_owned + np.cumsum(counts)
        wanted = [index[by_owner][end - n - n_owned : end - n_owned] for n, end in zip(counts, ends, strict=True)]
        self._from = [(int(r), int(ends[r] - counts[r]), int(ends[r])) for r in np.flatnonzero(counts)]
        """Process, first row and last of what comes from it."""
        self._to = [(r, rows) for r, rows in enumerate(_all_to_all(comm, wanted)) if len(rows)]
        """Process, and rows of what goes to it."""

    def exchange(self, x: Tensor, dim: int) -> Tensor:
        """See `ase_mlcalc.graph.Halo`."""
        exchanged: Tensor = _Exchange.apply(x, self, dim)
        return exchanged

    def fill(self, rows: NDArray[Any]) -> None:
        """Rows of others' atoms in an array (rows, width), as their owners have them."""
        arriving = [self._comm.Irecv(rows[first:last], source) for source, first, last in self._from]
        leaving = [(target, rows.take(mine, axis=0)) for target, mine in self._to]  # kept until they have left
        arriving += [self._comm.Isend(part, target) for target, part in leaving]
        _wait(arriving)

    def give_back(self, rows: NDArray[Any]) -> None:
        """Rows of others' atoms are added to those of their owners, and are zero then; the reverse of `fill`."""
        arriving = [(mine, np.empty((len(mine), *rows.shape[1:]), rows.dtype), source) for source, mine in self._to]
        requests = [self._comm.Irecv(part, source) for _, part, source in arriving]
        requests += [self._comm.Isend(rows[first:last], target) for target, first, last in self._from]
        _wait(requests)
        for mine, part, _ in arriving:  # no row twice in one part
            rows[mine] += part
        rows[self.n_owned :] = 0


class _Exchange(torch.autograd.Function):
    """`Ownership.fill` of features, `Ownership.give_back` of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ownership: Ownership, dim: int) -> Tensor:
        ctx.ownership, ctx.dim = ownership, dim
        return _with_rows(x, dim, ownership.fill)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return _with_rows(slope, ctx.dim, ctx.ownership.give_back), None, None


def _with_rows(x: Tensor, dim: int, change: Callable[[NDArray[Any]], None]) -> Tensor:
    """A copy that was changed as an array of rows."""
    atoms_first = x.detach().movedim(dim, 0).clone(memory_format=torch.contiguous_format)
    n_rows, *others = atoms_first.shape
    change(atoms_first.reshape(n_rows, math.prod(others)).numpy())
    return atoms_first.movedim(0, dim)


def _look_up(
    comm: Any, own: NDArray[np.int64], asked: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Owner of each atom that is asked for, and its row there.

    Each process keeps the part of the directory whose identifiers have its rank as remainder, so that no process
    needs memory for all atoms.
    """
    size = comm.size
    if size == 1:
        if len(asked):
            raise StructureError(f"no process owns the atoms {asked[:3].tolist()}; were atoms lost?")
        return asked, asked
    at_home = [np.flatnonzero(own % size == r) for r in range(size)]
    entries = [np.stack([own[rows], rows], axis=1).ravel() for rows in at_home]
    listed = [part.reshape(-1, 2) for part in _all_to_all(comm, entries)]
    tags = np.concatenate([part[:, 0] for part in listed])
    place = np.concatenate([part[:, 1] for part in listed])
    owner = np.repeat(np.arange(size), [len(part) for part in listed])
    order = np.argsort(tags, kind="stable")
    tags, place, owner = tags[order], place[order], owner[order]
    if (tags[1:] == tags[:-1]).any():
        raise StructureError(NOT_UNIQUE)
    asked_at = [np.flatnonzero(asked % size == r) for r in range(size)]
    answers = []
    for query in _all_to_all(comm, [asked[rows] for rows in asked_at]):
        at = np.searchsorted(tags, query)
        known = at < len(tags)
        known[known] = tags[at[known]] == query[known]
        if not known.all():
            raise StructureError(f"no process owns the atoms {query[~known][:3].tolist()}; were atoms lost?")
        answers.append(np.stack([owner[at], place[at]], axis=1).ravel())
    found = np.empty((len(asked), 2), dtype=np.int64)
    for rows, answer in zip(asked_at, _all_to_all(comm, answers), strict=True):
        found[rows] = answer.reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _all_to_all(comm: Any, parts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """One array for each process to one array from each."""
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    coming = np.empty_like(sizes)
    comm.Alltoall(sizes, coming)
    leaving = np.ascontiguousarray(np.concatenate(parts), dtype=np.int64)
    arrived = np.empty(int(coming.sum()), dtype=np.int64)
    comm.Alltoallv([leaving, sizes.tolist()], [arrived, coming.tolist()])
    return np.split(arrived, np.cumsum(coming)[:-1])


def _wait(requests: list[Any]) -> None:
    if requests:
        requests[0].Waitall(requests)
