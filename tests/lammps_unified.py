"""The arrays and functions that LAMMPS' ML-IAP hands to an object, made on the stock LAMMPS: each ghost has a row."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from lammps import lammps
from lammps_cases import SMALL
from mpi4py import MPI

from ase_mlcalc.lammps.halo import Ownership
from ase_mlcalc.neighbors import OpenPairs

COMM = MPI.COMM_WORLD


def data_of(ownership: Ownership, numbers: np.ndarray, positions: np.ndarray, unified) -> SimpleNamespace:
    """What an object sees; neighbours of an atom come in no particular order."""
    found = OpenPairs(positions, ownership.n_owned, unified.cutoff + 0.4, 0.0)(positions)
    shuffled = np.random.default_rng(0).permutation(len(found.vectors))
    row_of, n_owned = ownership.row_of, ownership.n_owned
    f, virial = np.zeros_like(positions), np.zeros((3, 3))
    data = SimpleNamespace(
        nlocal=n_owned,
        ntotal=len(positions),
        nlistatoms=n_owned,
        elems=np.searchsorted([1, 8], numbers).astype(np.int32),
        pair_i=found.pairs.centers[shuffled].astype(np.int32),
        pair_j=found.pairs.neighbors[shuffled].astype(np.int32),
        rij=found.vectors[shuffled],
        eatoms=np.zeros(n_owned),
        energy=0.0,
        f=f,
        virial=virial,
    )

    def forward_exchange(given: torch.Tensor, into: torch.Tensor, width: int) -> None:
        rows = np.zeros((ownership.n_rows, width), dtype=given.numpy().dtype)
        rows[:n_owned] = given[:n_owned].numpy()
        ownership.fill(rows)
        into.copy_(torch.from_numpy(rows[row_of]))

    def reverse_exchange(given: torch.Tensor, into: torch.Tensor, width: int) -> None:
        rows = np.zeros((ownership.n_rows, width), dtype=given.numpy().dtype)
        np.add.at(rows, row_of, given.numpy())
        ownership.give_back(rows)
        into.copy_(given)  # as after a real one, rows of ghosts hold anything
        into[:n_owned] = torch.from_numpy(rows[:n_owned])

    def update_pair_forces(g: torch.Tensor | np.ndarray) -> None:
        g = np.asarray(g)
        np.add.at(f, data.pair_i, g)
        np.subtract.at(f, data.pair_j, g)
        virial[:] -= data.rij.T @ g

    data.forward_exchange, data.reverse_exchange = forward_exchange, reverse_exchange
    data.update_pair_forces_gpu = update_pair_forces
    return data


def run_unified(folder: Path) -> None:
    """Energy, forces and virial of the skewed box by the pickles of all models, one array file for each."""
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    lmp.commands_string(
        f"units metal\natom_style atomic\nread_data {folder}/skewed.data\npair_style zero 5.0\npair_coeff * *\n"
        "fix ext all external pf/callback 1 1"
    )
    seen = {}

    def callback(_caller, _step, n_owned, _tag, _x, _f) -> None:
        n = n_owned + lmp.extract_setting("nghost")
        for name, dim in (("x", 3), ("id", 1), ("type", 1)):
            seen[name] = np.array(lmp.numpy.extract_atom(name, nelem=n, dim=dim))
        seen["n_owned"] = n_owned

    lmp.set_fix_external_callback("ext", callback, None)
    lmp.command("run 0")
    ownership = Ownership(COMM.Dup(), seen["id"], seen["n_owned"])
    numbers = np.array([0, 8, 1])[seen["type"]]
    for which in SMALL:
        unified = pickle.loads((folder / f"{which}.pkl").read_bytes())  # noqa: S301  (ours)
        data = data_of(ownership, numbers, seen["x"], unified)
        unified.compute_forces(data)
        rows = np.zeros((ownership.n_rows, 3))
        np.add.at(rows, ownership.row_of, data.f)
        ownership.give_back(rows)
        forces, energies = np.zeros((lmp.get_natoms(), 3)), np.zeros(lmp.get_natoms())
        own = seen["id"][: seen["n_owned"]] - 1
        forces[own], energies[own] = rows[: seen["n_owned"]], data.eatoms
        for each in (forces, energies, data.virial):
            COMM.Allreduce(MPI.IN_PLACE, each)
        energy = COMM.allreduce(data.energy)
        if COMM.rank == 0:
            np.savez(folder / f"{which}.unified.npz", f=forces, e=energies, w=data.virial, energy=energy)
    lmp.close()
