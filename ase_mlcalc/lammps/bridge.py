"""A potential inside LAMMPS: the function that LAMMPS calls for forces, by its ``fix external``."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from ase_mlcalc.errors import ConfigError, NumericalError, SpeciesError, StructureError
from ase_mlcalc.graph import OVERLAP_ANGSTROM
from ase_mlcalc.lammps.halo import Ownership
from ase_mlcalc.lammps.share import EdgesOfShare, evaluation
from ase_mlcalc.model import check_species
from ase_mlcalc.potential import Potential

FIX = "ase_mlcalc"
UNITS = "metal"
FROM_VOIGT = [0, 1, 2, 5, 4, 3]
"""LAMMPS has xx yy zz xy xz yz."""
SKIN_ANGSTROM = 0.5
"""Of the list of edges, which has nothing to do with the skin of LAMMPS: that says when ghosts are chosen anew."""
SAME_MASS = 0.005
"""Relative; closer, a mass is taken for that of an element."""


class Bridge:
    """What a potential needs of a running LAMMPS, and gives to it.

    Parameters
    ----------
    lmp : lammps.lammps
    comm : mpi4py.MPI.Comm
        Of the same processes, for this alone.
    potential : Potential
    stop : callable
        Takes what went wrong in a call from LAMMPS and ends all processes; LAMMPS lets no exception through.
    """

    def __init__(self, lmp: Any, comm: Any, potential: Potential, stop: Callable[[BaseException], None]) -> None:
        self._lmp, self._comm, self._stop = lmp, comm, stop
        self.potential = potential
        self._evaluate = evaluation(potential)
        self._number_of_type = np.empty(0, dtype=np.int64)
        self._ownership: Ownership | None = None
        self._edges: EdgesOfShare | None = None
        self._numbers = np.empty(0, dtype=np.int64)

    def attach(self, symbols: Sequence[str]) -> list[str]:
        """Let LAMMPS call the potential from now on; returns what looks wrong about the input, one line each.

        Parameters
        ----------
        symbols : sequence of str
            Element of each type of atom.

        Raises
        ------
        ConfigError, SpeciesError
            Another unit style; elements that do not fit the types, their masses, or the model.
        """
        self._check(symbols)
        self._number_of_type = np.array([0, *(atomic_numbers[symbol] for symbol in symbols)])
        early = [name for name in self._lmp.available_ids("fix") if name != FIX]
        self.detach()
        self._lmp.command(f"fix {FIX} all external pf/callback 1 1")
        self._lmp.command(f"fix_modify {FIX} energy yes virial yes")
        self._lmp.set_fix_external_callback(FIX, self._called, None)
        return [
            f"fix {name} comes before pair_coeff, and so before the forces of the model: what it does to forces (as "
            "setforce does) is not done to them; move it behind pair_coeff"
            for name in early
        ]

    def detach(self) -> None:
        """Let LAMMPS go on without the potential."""
        if self._lmp.has_id("fix", FIX):
            self._lmp.command(f"unfix {FIX}")
        self._ownership = None

    def _check(self, symbols: Sequence[str]) -> None:
        units = self._lmp.extract_global("units")
        if units != UNITS:
            raise ConfigError(f"the model has eV and Å, which are LAMMPS' `units {UNITS}`; the input has `{units}`")
        n_types = self._lmp.extract_setting("ntypes")
        if len(symbols) != n_types:
            got = " ".join(symbols) or "none"
            raise ConfigError(f"pair_coeff names an element for each of the {n_types} types of atoms, got {got}")
        for symbol in symbols:
            if atomic_numbers.get(symbol, 0) == 0:
                raise SpeciesError(f"pair_coeff names elements by their symbols, got {symbol!r}")
        numbers = [atomic_numbers[symbol] for symbol in symbols]
        check_species(numbers, self.potential.species, "the model")
        masses = self._lmp.numpy.extract_atom("mass")
        if masses is None:  # each atom has its own
            return
        known = atomic_masses[list(self.potential.species)]
        for k, (number, mass) in enumerate(zip(numbers, np.ravel(masses)[1:], strict=False), 1):
            if abs(mass / atomic_masses[number] - 1) < SAME_MASS:
                continue
            for other in np.flatnonzero(abs(mass / known - 1) < SAME_MASS):
                name = chemical_symbols[self.potential.species[other]]
                raise ConfigError(
                    f"pair_coeff says that type {k} is {chemical_symbols[number]}, and its mass of {mass:g} is that of "
                    f"{name}; give the elements in the order of the types"
                )

    def _called(self, _: Any, step: int, n_owned: int, _tags: Any, _x: Any, f: NDArray[np.float64]) -> None:
        try:
            self._compute(step, n_owned, f)
        except BaseException as error:  # noqa: BLE001  (LAMMPS would go on without forces)
            self._stop(error)

    def _compute(self, step: int, n_owned: int, f: NDArray[np.float64]) -> None:
        lmp = self._lmp
        n_seen = n_owned + lmp.extract_setting("nghost")
        positions = lmp.numpy.extract_atom("x", nelem=n_seen, dim=3)
        if self._ownership is None or lmp.extract_setting("neigh_ago") == 0:
            self._hand_out(positions, n_owned, n_seen)
        ownership, edges_of = self._ownership, self._edges
        assert ownership is not None
        assert edges_of is not None
        edges, shortest = edges_of(positions)
        if shortest >= 0 and (distance := float(np.linalg.norm(edges.vectors[shortest]))) < OVERLAP_ANGSTROM:
            raise StructureError(f"two atoms are {distance:.1e} Å apart; is one there twice?")
        energies, forces, virials = self._evaluate(self._numbers, edges, ownership)
        per_atom = lmp.extract_global("vflag_atom") == step
        sums = np.concatenate([[energies.sum()], virials.sum(axis=0)])
        if per_atom:
            both = np.concatenate([forces, virials], axis=1)
            ownership.give_back(both)
            forces, virials = both[:, :3], both[:, 3:]
        else:
            ownership.give_back(forces)
        f[:n_owned] = forces[:n_owned]
        total = np.empty_like(sums)
        self._comm.Allreduce(sums, total)
        if not np.isfinite(total).all():
            raise NumericalError(f"the model gave NaN or Inf in step {step}; is the structure far from its data?")
        lmp.fix_external_set_energy_global(FIX, total[0])
        lmp.fix_external_set_virial_global(FIX, -total[1:][FROM_VOIGT])
        if lmp.extract_global("eflag_atom") == step:
            _set_energies(lmp, energies)
        if per_atom:
            _set_virials(lmp, -virials[:n_owned, FROM_VOIGT])

    def _hand_out(self, positions: NDArray[np.float64], n_owned: int, n_seen: int) -> None:
        """LAMMPS has divided atoms among processes anew."""
        lmp = self._lmp
        if lmp.extract_global("respa_levels"):
            raise ConfigError("the model has one time step for all of its forces; use `run_style verlet`, not respa")
        if lmp.find_pair_neighlist("zero", exact=False) < 0:
            raise ConfigError(
                "the pair style was changed behind pair_style ase_mlcalc, so that atoms have no neighbours"
            )
        ownership = Ownership(self._comm, lmp.numpy.extract_atom("id", nelem=n_seen), n_owned)
        types = lmp.numpy.extract_atom("type", nelem=n_seen)
        numbers = np.empty(ownership.n_rows, dtype=np.int64)
        numbers[ownership.row_of] = self._number_of_type[types]
        self._ownership, self._numbers = ownership, numbers
        self._edges = EdgesOfShare(ownership, positions, self.potential.cutoff, SKIN_ANGSTROM)


def _set_energies(lmp: Any, energies: NDArray[np.float64]) -> None:
    """As the function of LAMMPS' module does, without a Python number for each atom."""
    values = np.ascontiguousarray(energies)
    lmp.lib.lammps_fix_external_set_energy_peratom(
        lmp.lmp, FIX.encode(), values.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    )


def _set_virials(lmp: Any, virials: NDArray[np.float64]) -> None:
    values = np.ascontiguousarray(virials)
    rows = values.ctypes.data + values.strides[0] * np.arange(len(values), dtype=np.uintp)
    pointers = rows.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_double)))
    lmp.lib.lammps_fix_external_set_virial_peratom(lmp.lmp, FIX.encode(), pointers)
