"""i-PI, the real program: path integrals whose forces our clients compute."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import ase.io
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.calculators.socketio import actualunixsocketname
from ase.constraints import FixAtoms
from typer.testing import CliRunner

from ase_mlcalc import Baseline, Derived, MLCalculator, checkpoint, ipi
from ase_mlcalc.cli.app import app
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.ipi import Server, serve
from ase_mlcalc.model import lookup

I_PI = shutil.which("i-pi") or shutil.which("i-pi", path=str(Path(sys.executable).parent))
needs_ipi = pytest.mark.skipif(I_PI is None, reason='needs i-PI: pip install "ase-mlcalc[ipi]"')
EXAMPLE = Path(__file__).parents[1] / "examples" / "engines" / "ipi.xml"
BEADS = 8

INPUT = """
<simulation verbosity='low' floatformat='%24.16e'>
  <output prefix='out'>
    <properties stride='1' filename='out'> [ step, potential, conserved, {potentials} ] </properties>
  </output>
  <total_steps> {steps} </total_steps>
  <prng><seed> 1 </seed></prng>
  <ffsocket mode='{mode}' name='driver' pbc='False'>
    <address> {address} </address> {port} <latency> 1e-4 </latency> {batch}
  </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='ase'> start.extxyz </file>
      <velocities mode='thermal' units='kelvin'> 40 </velocities>
    </initialize>
    <forces> <force forcefield='driver'/> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 2.0 </timestep> </dynamics>
    </motion>
    <ensemble> <temperature units='kelvin'> 40 </temperature> </ensemble>
  </system>
</simulation>
"""


def argon():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def argon_potential():
    cls = lookup("lennard_jones")
    return Derived(cls(cls.Config(sigma=3.4, epsilon=0.0104, cutoff=6.0)))


def begun(folder, atoms, *, beads=BEADS, steps=6, batch=None, port=None):
    """A simulation by i-PI that waits for clients, and where they find it."""
    ase.io.write(folder / "start.extxyz", atoms)
    address = f"t{os.getpid()}-{folder.name}"[-60:]
    text = INPUT.format(
        mode="unix" if port is None else "inet",
        address=address if port is None else "localhost",
        port="" if port is None else f"<port> {port} </port>",
        beads=beads,
        steps=steps,
        batch="" if batch is None else f"<batch_size> {batch} </batch_size>",
        potentials=", ".join(f"pot_component_raw(0;{k})" for k in range(beads)),
    )
    (folder / "input.xml").write_text(text)
    return started(folder), Server(unix=address) if port is None else Server(host="localhost", port=port)


def started(folder):
    with open(folder / "log.txt", "w") as log:
        return subprocess.Popen([I_PI, "input.xml"], cwd=folder, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603


def finished(process, folder):
    try:
        assert process.wait(120) == 0, (folder / "log.txt").read_text()[-2000:]
    finally:
        process.kill()


def last_beads(folder):
    """Positions (beads, N, 3) in Å of the last step, and the energies (beads,) in eV that i-PI got for them."""
    beads = ET.parse(folder / "RESTART").find("system/beads")  # noqa: S314  (i-PI has written it just now)
    numbers = np.array(beads.find("q").text.strip(" []\n").split(","), dtype=float)
    energies = np.loadtxt(folder / "out.out")
    return units.Bohr * numbers.reshape(int(beads.get("nbeads")), -1, 3), units.Ha * energies[-1, 3:]


@needs_ipi
@pytest.mark.parametrize("batch", [None, 4])
def test_energies_of_beads_are_those_of_ase(tmp_path, batch):
    """Eight beads, two clients on a unix socket; one bead after another, and four of them at once."""
    pot, atoms = argon_potential(), argon()
    process, server = begun(tmp_path, atoms, batch=batch)
    counts = [0, 0]

    def client(k):
        own = atoms.copy()
        own.calc = MLCalculator(pot)
        counts[k] = serve(own, server)

    clients = [threading.Thread(target=client, args=(k,)) for k in range(2)]
    for thread in clients:
        thread.start()
    finished(process, tmp_path)
    for thread in clients:
        thread.join(20)
        assert not thread.is_alive(), "a client ends with i-PI"
    assert sum(counts) >= 7 * BEADS
    assert min(counts) > 0
    beads, energies = last_beads(tmp_path)
    assert np.ptp(beads, axis=0).max() > 0.01, "beads are apart"
    assert np.ptp(energies) > 1e-4
    calculator = MLCalculator(pot)
    for positions, energy in zip(beads, energies, strict=True):
        atoms.positions = positions
        assert calculator.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)
    conserved = units.Ha * np.loadtxt(tmp_path / "out.out")[:, 2]
    assert np.ptp(conserved) < 1e-3 * BEADS


@needs_ipi
def test_clients_of_the_command_line_reach_a_port(tmp_path):
    """A molecule with a network in double precision; the server begins last, as it may on a cluster."""
    torch.manual_seed(0)
    cls = lookup("schnet")
    tiny = cls.Config(species=(1, 6), cutoff=4.0, features=8, n_interactions=1, n_gaussians=6)
    path, atoms = tmp_path / "model.safetensors", molecule("CH4", vacuum=3.0)
    checkpoint.save(Derived(cls(tiny).double(), Baseline({6: -1000.0})), path)
    ase.io.write(tmp_path / "start.extxyz", atoms)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    said = []

    def client():
        command = ["ipi-client", str(path), str(tmp_path / "start.extxyz"), "--host", "localhost", "--port", str(port)]
        said.append(CliRunner().invoke(app, command))

    thread = threading.Thread(target=client)
    thread.start()
    time.sleep(0.3)
    process, _ = begun(tmp_path, atoms, beads=1, steps=3, port=port)
    finished(process, tmp_path)
    thread.join(20)
    assert said[0].exit_code == 0, said[0].output
    assert "i-PI ended; " in said[0].output
    (positions,), energies = last_beads(tmp_path)
    atoms.positions = positions
    assert MLCalculator(path).get_potential_energy(atoms) == pytest.approx(energies[0], abs=1e-9)


@needs_ipi
def test_the_example_runs(tmp_path):
    """Path integrals of water, as the page on engines shows them."""
    torch.manual_seed(0)
    cls = lookup("schnet")
    tiny = cls.Config(species=(1, 8), cutoff=4.0, features=8, n_interactions=1, n_gaussians=6)
    atoms = molecule("H2O", cell=[6.0, 6.0, 6.0], pbc=True)
    ase.io.write(tmp_path / "start.extxyz", atoms)
    name = f"w{os.getpid()}"
    text = EXAMPLE.read_text().replace("<address> water", f"<address> {name}").replace("2000 </total", "20 </total")
    (tmp_path / "input.xml").write_text(text)
    process = started(tmp_path)
    atoms.calc = MLCalculator(Derived(cls(tiny).double()))
    assert serve(atoms, Server(unix=name)) >= 21 * BEADS
    finished(process, tmp_path)
    assert len(np.loadtxt(tmp_path / "water.out")) >= 2
    assert len(list(tmp_path.glob("water.positions_*"))) == BEADS


# ----- what goes wrong -----


class Scripted:
    """A server that says what it is told to, to the first client."""

    def __init__(self, tmp_path, *messages):
        self.server = Server(unix=f"s{os.getpid()}-{tmp_path.name}"[-60:])
        self._listening = socket.socket(socket.AF_UNIX)
        self._path = Path(actualunixsocketname(self.server.unix))
        self._listening.bind(str(self._path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._talk, args=(messages,))
        self._thread.start()

    def _talk(self, messages):
        connection, _ = self._listening.accept()
        with connection:
            for message in messages:
                connection.sendall(message)
            time.sleep(0.2)

    def close(self):
        self._thread.join(20)
        self._listening.close()
        self._path.unlink()


def message(text):
    return text.encode().ljust(12)


def structure(n_atoms):
    numbers = np.random.default_rng(0).uniform(0, 20, (n_atoms, 3))
    return message("POSDATA") + np.eye(3).tobytes() * 2 + np.int32(n_atoms).tobytes() + numbers.tobytes()


@pytest.mark.parametrize(
    ("messages", "error", "words"),
    [
        ([message("STATUS"), structure(7)], ConfigError, "i-PI sends 7 atoms and the structure given here has 4"),
        ([message("POSDATA") + b"half of it"], MLCalcError, "broke after 0 structures"),
        ([message("HELLO")], MLCalcError, "'HELLO', which this client does not know"),
        ([message("GETFORCE")], MLCalcError, "before it has sent positions"),
        ([structure(4)[:-96] + 96 * b"\xff"], MLCalcError, "broke after 0 structures"),
    ],
)
def test_a_strange_server_is_an_error_in_words(tmp_path, messages, error, words):
    atoms = argon()
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0)
    scripted = Scripted(tmp_path, *messages)
    try:
        with pytest.raises(error, match=words) as found:
            serve(atoms, scripted.server)
    finally:
        scripted.close()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("messages", [[message("EXIT")], [message("STATUS")], []])
def test_the_end_of_the_server_is_that_of_the_client(tmp_path, messages):
    atoms = argon()
    atoms.calc = LennardJones()
    scripted = Scripted(tmp_path, *messages)
    assert serve(atoms, scripted.server) == 0
    scripted.close()


def test_no_server_is_told(tmp_path):
    atoms = argon()
    with pytest.raises(ConfigError, match="no calculator"):
        serve(atoms, Server(unix="nobody"))
    atoms.calc = LennardJones()
    with pytest.raises(ConfigError, match=r"no i-PI server at unix socket 'nobody' within 0\.1 s"):
        serve(atoms, Server(unix="nobody"), wait_s=0.1)
    with pytest.raises(ConfigError, match="no i-PI server at localhost:1 within 0 s"):
        serve(atoms, Server(port=1), wait_s=0)
    ase.io.write(tmp_path / "a.extxyz", argon())
    for places in ([], ["--unix", "a", "--host", "b"]):
        found = CliRunner().invoke(
            app, ["ipi-client", "ase.calculators.lj:LennardJones", str(tmp_path / "a.extxyz"), *places]
        )
        assert isinstance(found.exception, ConfigError)
        assert "--unix NAME" in str(found.exception)


def test_virials_are_those_of_the_stress_one_by_one_and_in_a_batch():
    atoms = argon()
    atoms.calc = MLCalculator(argon_potential())
    evaluate = ipi._Evaluation(atoms)
    cells = np.array([atoms.cell.array, 1.02 * atoms.cell.array])
    positions = np.array([atoms.positions, 1.02 * atoms.positions])
    together = evaluate(cells, positions)
    alone = [evaluate(cell[None], each[None])[0] for cell, each in zip(cells, positions, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-12)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-12)
        np.testing.assert_allclose(one.virial, other.virial, atol=1e-12)
    atoms.set_cell(cells[1])
    atoms.positions = positions[1]
    expected = -atoms.get_volume() * atoms.get_stress(voigt=False)
    np.testing.assert_allclose(alone[1].virial, expected, atol=1e-12)
    assert np.abs(expected).max() > 0.01


@pytest.mark.parametrize("beads", [1, 2])
def test_forces_are_those_without_constraints(beads):
    """i-PI holds atoms fixed itself, and its thermostats and estimators need the forces on them."""
    free, held = argon(), argon()
    held.set_constraint(FixAtoms([0, 1]))
    held.calc = free.calc = MLCalculator(argon_potential())
    found = ipi._Evaluation(held)(np.array([held.cell.array] * beads), np.array([held.positions] * beads))
    for one in found:
        np.testing.assert_allclose(one.forces, free.get_forces(), atol=1e-12)
    assert np.abs(free.get_forces()[:2]).max() > 1e-3
    assert held.constraints  # the structure of the user is left alone
