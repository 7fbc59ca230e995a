"""A folder in the format of n2p2 typed by hand, a water molecule, and plain arithmetic with the formulas of the paper.

Nothing here goes through what writes such folders or computes symmetry functions in the package: the folder is text,
the functions are written out after Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 4, 6, 8 and 9, and the network is
three lines.
"""

from math import cos, exp, pi, tanh
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from numpy.testing import assert_allclose

from ase_mlcalc import MLCalculator
from ase_mlcalc.models.behler_parrinello import read_n2p2

BOHR_A, HARTREE_EV = units.Bohr, units.Hartree
CUTOFF = 6.0  # bohr
ANGULAR_CUTOFF = 5.0
E0 = {"H": -0.4, "O": -74.5}  # hartree
MEAN_ENERGY, CONV_ENERGY, CONV_LENGTH = -0.3, 12.5, 1.75

# Not in the order in which networks take them: n2p2 sorts by kind, cutoff, eta, shift, zeta, lambda, elements.
INPUT_NN = f"""
# potential of a test, typed by hand
mean_energy {MEAN_ENERGY}
conv_energy {CONV_ENERGY}
conv_length {CONV_LENGTH}
number_of_elements 2
elements O H          # in any order
atom_energy O {E0["O"]}
atom_energy H {E0["H"]}
cutoff_type 1
scale_symmetry_functions
scale_min_short -1.0
scale_max_short 1.0
global_hidden_layers_short 1
global_nodes_short 2
global_activation_short t l

symfunction_short O 9 H H 0.02 1.0 2.0 {ANGULAR_CUTOFF}
symfunction_short O 3 H H 0.03 -1.0 1.0 {ANGULAR_CUTOFF}
symfunction_short O 2 H 0.50 1.2 {CUTOFF}
symfunction_short O 2 H 0.05 0.0 {CUTOFF}
symfunction_short H 2 O 0.10 0.0 {CUTOFF}
symfunction_short H 2 H 0.10 0.0 {CUTOFF}
symfunction_short H 3 H O 0.01 1.0 4.0 {CUTOFF}
"""
# element (in order of atomic number), function, minimum, maximum, mean, sigma
SCALING = {
    "H": [(0.0, 0.9, 0.3, 0.1), (0.1, 1.7, 0.5, 0.2), (0.0, 0.4, 0.2, 0.1)],
    "O": [(0.1, 2.1, 0.9, 0.3), (0.2, 1.9, 0.8, 0.2), (0.0, 0.6, 0.1, 0.1), (0.05, 1.1, 0.4, 0.2)],
}
NUMBER = {"H": 1, "O": 8}
# One line for each weight, ordered by the node it starts from; the biases of a layer after its weights.
WEIGHTS = {
    "H": [0.3, -0.7, 1.1, 0.2, -0.5, 0.9, 0.15, -0.25, 0.8, -1.3, 0.05],
    "O": [-0.4, 0.6, 0.7, 0.1, -0.9, 0.35, 0.45, -0.15, -0.05, 0.3, 1.2, 0.65, -0.35],
}


def fc(r: float, cutoff: float) -> float:
    """Eq. 4: the cosine cutoff."""
    return 0.5 * (cos(pi * r / cutoff) + 1) if r < cutoff else 0.0


def g2(r: float | np.floating[Any], eta: float, shift: float = 0.0) -> float:
    """A term of eq. 6."""
    return exp(-eta * (float(r) - shift) ** 2) * fc(float(r), CUTOFF)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def g4(a: np.ndarray, b: np.ndarray, eta: float, lam: float, zeta: float, cutoff: float) -> float:
    """A triplet of eq. 8, each once: a and b point from the centre to its two neighbours."""
    sides = [float(np.linalg.norm(v)) for v in (a, b, b - a)]
    angle = 2 ** (1 - zeta) * (1 + lam * cosine(a, b)) ** zeta
    return angle * exp(-eta * sum(r * r for r in sides)) * float(np.prod([fc(r, cutoff) for r in sides]))


def g5(a: np.ndarray, b: np.ndarray, eta: float, lam: float, zeta: float, cutoff: float) -> float:
    """A triplet of eq. 9: without the third side."""
    sides = [float(np.linalg.norm(v)) for v in (a, b)]
    angle = 2 ** (1 - zeta) * (1 + lam * cosine(a, b)) ** zeta
    return angle * exp(-eta * sum(r * r for r in sides)) * float(np.prod([fc(r, cutoff) for r in sides]))


def network(element: str, functions: list[float]) -> float:
    """Scaled to [-1, 1] between minimum and maximum, two nodes of tanh, one linear node."""
    x = [-1 + 2 * (g - low) / (high - low) for g, (low, high, _, _) in zip(functions, SCALING[element], strict=True)]
    w, n = WEIGHTS[element], len(functions)
    hidden = [tanh(sum(w[2 * k + node] * x[k] for k in range(n)) + w[2 * n + node]) for node in (0, 1)]
    return w[2 * n + 2] * hidden[0] + w[2 * n + 3] * hidden[1] + w[2 * n + 4]


def oxygen(to_h1: np.ndarray, to_h2: np.ndarray) -> float:
    r1, r2 = np.linalg.norm(to_h1), np.linalg.norm(to_h2)
    return network(
        "O",
        [
            g2(r1, 0.05) + g2(r2, 0.05),
            g2(r1, 0.5, 1.2) + g2(r2, 0.5, 1.2),
            g4(to_h1, to_h2, 0.03, -1.0, 1.0, ANGULAR_CUTOFF),
            g5(to_h1, to_h2, 0.02, 1.0, 2.0, ANGULAR_CUTOFF),
        ],
    )


def hydrogen(to_h: np.ndarray, to_o: np.ndarray) -> float:
    return network(
        "H",
        [g2(np.linalg.norm(to_h), 0.1), g2(np.linalg.norm(to_o), 0.1), g4(to_h, to_o, 0.01, 1.0, 4.0, CUTOFF)],
    )


def energy_eV(positions_bohr: np.ndarray) -> float:
    o, h1, h2 = positions_bohr
    networks = oxygen(h1 - o, h2 - o) + hydrogen(h2 - h1, o - h1) + hydrogen(h1 - h2, o - h2)
    return HARTREE_EV * (networks / CONV_ENERGY + 3 * MEAN_ENERGY + E0["O"] + 2 * E0["H"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "input.nn").write_text(INPUT_NN)
    rows = ["# e_index sf_index sf_min sf_max sf_mean sf_sigma"]
    for index, element in enumerate(("H", "O"), start=1):
        rows += [f"{index} {k} {a:.8E} {b:.8E} {c:.8E} {d:.8E}" for k, (a, b, c, d) in enumerate(SCALING[element], 1)]
    (tmp_path / "scaling.data").write_text("\n".join(rows) + "\n")
    for element, number in NUMBER.items():
        lines = ["# connection value, kind, index", *(f"{w:.16E} a 1 0 1 1 1" for w in WEIGHTS[element])]
        (tmp_path / f"weights.{number:03d}.data").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_water_molecule(folder: Path) -> None:
    bohr = np.array([[0.1, 0.2, -0.1], [1.9, 0.3, 0.1], [-0.3, 1.8, 0.6]])
    water = Atoms("OHH", bohr * BOHR_A)
    water.calc = MLCalculator(read_n2p2(folder), dtype="float64")
    assert_allclose(water.get_potential_energy(), energy_eV(bohr), rtol=1e-13)
    h = 1e-4
    gradient = np.zeros((3, 3))
    for i in range(3):
        for c in range(3):
            step = np.zeros((3, 3))
            step[i, c] = h
            gradient[i, c] = (energy_eV(bohr + step) - energy_eV(bohr - step)) / (2 * h * BOHR_A)
    assert np.abs(gradient).max() > 0.1  # eV/Å: large beside the tolerance
    assert_allclose(water.get_forces(), -gradient, atol=2e-6)


def test_dimer_and_atom(folder: Path) -> None:
    """One neighbour: no triplets.  None: all functions zero, which is not zero after scaling."""
    calculator = MLCalculator(read_n2p2(folder), dtype="float64")
    r = 1.8
    oh = Atoms("OH", [[0, 0, 0], [0, 0, r * BOHR_A]], calculator=calculator)
    networks = network("O", [g2(r, 0.05), g2(r, 0.5, 1.2), 0, 0]) + network("H", [0, g2(r, 0.1), 0])
    expected = HARTREE_EV * (networks / CONV_ENERGY + 2 * MEAN_ENERGY + E0["O"] + E0["H"])
    assert_allclose(oh.get_potential_energy(), expected, rtol=1e-13)
    alone = Atoms("O", calculator=calculator)
    expected = HARTREE_EV * (network("O", [0, 0, 0, 0]) / CONV_ENERGY + MEAN_ENERGY + E0["O"])
    assert_allclose(alone.get_potential_energy(), expected, rtol=1e-13)
