"""A client of i-PI: evaluates the structures that the server sends, one at a time or a batch of them together.

The protocol is that of M. Ceriotti, J. More and D. E. Manolopoulos, Comput. Phys. Commun. 185, 1019 (2014), with the
batches of i-PI 3.3, and ASE's words for it (`ase.calculators.socketio`).  The server decides where and when; a client
may come or go at any time.
"""

import socket
import time
from contextlib import closing
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.socketio import IPIProtocol, SocketClosed, actualunixsocketname
from numpy.typing import NDArray

from ase_mlcalc.batch import Batch
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.foreign import potential_energy

Array = NDArray[np.float64]
DEFAULT_PORT = 31415
BETWEEN_TRIES_S = 0.2


class Server(NamedTuple):
    """Where i-PI listens: on a socket of this machine if `unix` names one, otherwise on a port of a machine."""

    unix: str | None = None
    host: str = "localhost"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"unix socket {self.unix!r}" if self.unix is not None else f"{self.host}:{self.port}"

    def connect(self, wait_s: float) -> socket.socket:
        """Connect, and wait for the server if it is not there yet.

        Raises
        ------
        ConfigError
            It was not there in this time, or the host is not known.
        """
        end = time.monotonic() + wait_s
        while True:
            try:
                return self._connect()
            except socket.gaierror as error:
                raise ConfigError(f"the host {self.host!r} is not known ({error.strerror}); see --host") from error
            except OSError as error:
                if time.monotonic() > end:
                    raise ConfigError(
                        f"no i-PI server at {self} within {wait_s:g} s ({error.strerror or error}); start i-pi, and "
                        "give the <address> (and <port>) of the <ffsocket> in its input"
                    ) from error
            time.sleep(BETWEEN_TRIES_S)

    def _connect(self) -> socket.socket:
        if self.unix is None:
            remote = socket.create_connection((self.host, self.port))
            remote.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the messages are small, and waited for
            return remote
        local = socket.socket(socket.AF_UNIX)
        try:
            local.connect(actualunixsocketname(self.unix))
        except OSError:
            local.close()
            raise
        return local


class Forces(NamedTuple):
    """What i-PI gets back for a structure."""

    energy: float
    """eV"""
    forces: Array
    """(N, 3) eV/Å"""
    virial: Array
    """(3, 3) eV, minus volume times stress; zeros without a volume, for i-PI has no word for what is not known."""


def serve(atoms: Atoms, server: Server, *, wait_s: float = 60.0) -> int:
    """Evaluate what a server sends, until it ends.

    Parameters
    ----------
    atoms : ase.Atoms
        With a calculator; elements in the order of i-PI's structure, and which directions are periodic.  Positions and
        cell come from i-PI.
    server : Server
    wait_s : float
        How long to wait for the server to begin.

    Returns
    -------
    int
        How many structures were evaluated.

    Raises
    ------
    ConfigError
        No server, or one that counts other atoms.
    MLCalcError
        The connection broke in the middle of a message; a structure that the potential refuses.
    """
    evaluate = _Evaluation(atoms)
    with closing(server.connect(wait_s)) as connection:
        try:
            return _Conversation(IPIProtocol(connection), evaluate).hold()
        except (OSError, AssertionError) as error:
            raise MLCalcError(
                f"the connection to i-PI at {server} broke after {evaluate.count} structures ({error}); its own output "
                "says why"
            ) from error


class _Evaluation:
    """Energies, forces and virials of batches of structures that differ in geometry only."""

    def __init__(self, atoms: Atoms) -> None:
        if atoms.calc is None:
            raise ConfigError("the structure has no calculator; set atoms.calc")
        self._calculator: Calculator = atoms.calc
        self._atoms = atoms.copy()
        self._atoms.set_constraint()  # i-PI integrates, and is told what to hold fixed
        self._atoms.calc = self._calculator
        self._batch: Batch | None = None
        self.count = 0
        """How many structures were evaluated."""

    def __call__(self, cells: Array, positions: Array) -> list[Forces]:
        """Of (K, 3, 3) and (K, N, 3) Å."""
        if positions.shape[1] != len(self._atoms):
            raise ConfigError(
                f"i-PI sends {positions.shape[1]} atoms and the structure given here has {len(self._atoms)}; give the "
                "one that i-PI starts from, in the same order"
            )
        several = len(positions) > 1 and isinstance(self._calculator, MLCalculator)
        found = self._together(cells, positions) if several else list(map(self._alone, cells, positions))
        self.count += len(found)
        return found

    def _together(self, cells: Array, positions: Array) -> list[Forces]:
        calculator, copies = self._calculator, len(positions)
        assert isinstance(calculator, MLCalculator)
        if self._batch is None or self._batch.n_structures != copies:
            pbc = np.tile(self._atoms.pbc, (copies, 1))
            self._batch = Batch(calculator.potential, [self._atoms.numbers] * copies, pbc)
        results = self._batch(positions.reshape(-1, 3), cells)
        for _, error in sorted(results.errors.items()):
            raise error
        energy, forces, stress = (
            None if value is None else value.double().cpu().numpy()
            for value in (results.properties.energy, results.properties.forces, results.properties.stress)
        )
        assert energy is not None
        assert forces is not None
        each = forces.reshape(copies, -1, 3)
        return [
            Forces(float(energy[k]), each[k], self._virial(cells[k], None if stress is None else stress[k]))
            for k in range(copies)
        ]

    def _alone(self, cell: Array, positions: Array) -> Forces:
        atoms = self._atoms
        atoms.cell[:] = cell
        atoms.positions[:] = positions
        energy, forces = potential_energy(atoms), np.asarray(atoms.get_forces())
        stress = atoms.get_stress(voigt=False) if self._has_stress else None
        return Forces(energy, forces, self._virial(cell, stress))

    @property
    def _has_stress(self) -> bool:
        return bool(self._atoms.pbc.any()) and "stress" in self._calculator.implemented_properties

    def _virial(self, cell: Array, stress: Array | None) -> Array:
        if stress is None or not self._has_stress:
            return np.zeros((3, 3))
        return -abs(np.linalg.det(cell)) * stress


class _Conversation:
    """Messages of the protocol, from the first to the last."""

    def __init__(self, protocol: IPIProtocol, evaluate: _Evaluation) -> None:
        self._protocol, self._evaluate = protocol, evaluate
        self._state = "NEEDINIT"
        self._copies = 1
        """How many structures come at once, as the server announces."""
        self._found: list[Forces] = []

    def hold(self) -> int:
        """Answer until the server ends, which it does by a word or by closing the connection."""
        answers = {"STATUS": self._status, "INIT": self._init, "POSDATA": self._positions, "GETFORCE": self._forces}
        while True:
            try:
                message = self._protocol.recvmsg()
            except (SocketClosed, ConnectionResetError):
                return self._evaluate.count
            if message == "EXIT":
                return self._evaluate.count
            if message not in answers:
                raise MLCalcError(f"i-PI said {message!r}, which this client does not know; is it i-PI 2 or newer?")
            answers[message]()

    def _status(self) -> None:
        self._protocol.sendmsg(self._state)

    def _init(self) -> None:
        _, words = self._protocol.recvinit()
        told = dict(token.partition(":")[::2] for token in words.tobytes().decode("utf-8", "replace").split(","))
        given = {key.strip(): value.strip() for key, value in told.items()}
        self._copies = int(given.get("batch_size", 1))
        self._state = "READY"

    def _positions(self) -> None:
        protocol = self._protocol
        if self._copies == 1:
            cell, _, positions = protocol.recvposdata()
            cells, every = cell[None], positions[None]
        else:
            n_atoms = int(protocol.recv(1, np.int32)[0])
            boxes = protocol.recv((self._copies, 2, 3, 3), np.float64)  # each with its inverse
            cells = units.Bohr * boxes[:, 0].transpose(0, 2, 1)  # i-PI's vectors are columns
            every = units.Bohr * protocol.recv((self._copies, n_atoms, 3), np.float64)
        self._found = self._evaluate(np.ascontiguousarray(cells), np.ascontiguousarray(every))
        self._state = "HAVEDATA"

    def _forces(self) -> None:
        protocol, found = self._protocol, self._found
        if self._state != "HAVEDATA":
            raise MLCalcError("i-PI asks for forces before it has sent positions; is another client on the same name?")
        if self._copies == 1:
            protocol.sendforce(*found[0])
        else:
            protocol.sendmsg("FORCEREADY")
            protocol.send([each.energy / units.Ha for each in found], np.float64)
            protocol.send([len(found[0].forces)], np.int32)
            protocol.send([each.forces * units.Bohr / units.Ha for each in found], np.float64)
            protocol.send([each.virial.T / units.Ha for each in found], np.float64)
            for _ in found:  # no further words
                protocol.send([0], np.int32)
        self._state = "READY"
