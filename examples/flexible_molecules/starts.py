"""The molecules of this study, built from scratch and relaxed, and the coordinates that they are flexible along."""

from collections.abc import Iterator
from itertools import islice, product

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS

from ase_mlcalc.sampling import Coordinate

CC, CH, NN, CN, CNN_DEGREES = 1.395, 1.085, 1.25, 1.42, 115.0
"""Bond lengths in Å and an angle, to begin with."""
N1, N2, FIRST_C, SECOND_C = 0, 1, 2, 13
SECOND_PHENYL = tuple(range(13, 24))
ROTATION = Coordinate((FIRST_C, N1, N2, SECOND_C), SECOND_PHENYL)
"""C-N=N-C: 180 degrees in trans, near 0 in cis."""
INVERSION = Coordinate((N1, N2, SECOND_C), SECOND_PHENYL)
"""N=N-C: through the straight line from trans to the other side."""
SAME_CONFORMER_EV = 2e-3


def azobenzene(calculator: Calculator) -> Atoms:
    """Trans-azobenzene: N1, N2, then C6H5 of each."""
    angle = np.radians(CNN_DEGREES)
    away = np.array([np.cos(angle), np.sin(angle), 0.0])
    n1, n2 = np.zeros(3), np.array([NN, 0.0, 0.0])
    symbols, positions = ["N", "N"], [n1, n2]
    for nitrogen, direction in ((n1, away), (n2, -away)):
        ipso = nitrogen + CN * direction
        center = ipso + CC * direction
        spokes = [_turned(-direction, 60.0 * k) for k in range(6)]
        positions += [center + CC * spoke for spoke in spokes]
        positions += [center + (CC + CH) * spoke for spoke in spokes[1:]]
        symbols += ["C"] * 6 + ["H"] * 5
    return relaxed(Atoms(symbols, positions), calculator)


def _turned(vector: np.ndarray, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned: np.ndarray = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ vector
    return turned


def glycine_conformers(calculator: Calculator, n_tried: int | None = None) -> list[Atoms]:
    """Minima of NH2-CH2-COOH by energy, each once (mirror images count once)."""
    found: list[Atoms] = []
    for atoms in islice(_turned_glycines(), n_tried):
        try:
            minimum = relaxed(atoms, calculator)
        except RuntimeError:
            continue
        energies = [other.info["energy"] for other in found]
        if all(abs(minimum.info["energy"] - energy) > SAME_CONFORMER_EV for energy in energies):
            found.append(minimum)
    return sorted(found, key=lambda one: one.info["energy"])


def _turned_glycines() -> Iterator[Atoms]:
    """Acetic acid with an amino group in place of a hydrogen of its methyl group, about its three single bonds."""
    acid = molecule("CH3COOH")
    distances = acid.get_all_distances()
    carbons = [k for k in range(len(acid)) if acid.symbols[k] == "C"]
    hydrogens = [k for k in range(len(acid)) if acid.symbols[k] == "H"]
    methyl = max(carbons, key=lambda c: sum(distances[c, h] < 1.2 for h in hydrogens))
    carboxyl = next(c for c in carbons if c != methyl)
    taken = next(h for h in hydrogens if distances[methyl, h] < 1.2)
    oxygens = [k for k in range(len(acid)) if acid.symbols[k] == "O"]
    hydroxyl = next(o for o in oxygens if any(distances[o, h] < 1.1 for h in hydrogens))
    proton = next(h for h in hydrogens if distances[hydroxyl, h] < 1.1)
    away = acid.positions[taken] - acid.positions[methyl]
    acid.symbols[taken] = "N"
    acid.positions[taken] = acid.positions[methyl] + 1.45 * away / np.linalg.norm(away)
    amine = acid + Atoms("H2", [acid.positions[taken]] * 2)
    one, two = len(acid), len(acid) + 1
    for index, dihedral in ((one, 60.0), (two, -60.0)):
        amine.positions[index] += _bond(amine, carboxyl, methyl, taken, dihedral)
    around_c = [k for k in range(len(amine)) if k not in (*oxygens, proton, carboxyl)]
    for skeleton, acidic, amino in product((0.0, 180.0), (0.0, 180.0), (60.0, 180.0, 300.0)):
        turned = amine.copy()
        turned.set_dihedral(hydroxyl, carboxyl, methyl, taken, skeleton, indices=around_c)
        turned.set_dihedral(methyl, carboxyl, hydroxyl, proton, acidic, indices=[proton])
        turned.set_dihedral(carboxyl, methyl, taken, one, amino, indices=[one, two])
        turned.rattle(0.02, seed=1)  # off the planes of symmetry
        yield turned


def _bond(atoms: Atoms, a: int, b: int, c: int, dihedral_deg: float, length: float = 1.01) -> np.ndarray:
    """A bond from c at a tetrahedral angle to c-b, turned about b-c from a."""
    axis = atoms.positions[c] - atoms.positions[b]
    axis /= np.linalg.norm(axis)
    across = atoms.positions[a] - atoms.positions[b]
    across -= (across @ axis) * axis
    across /= np.linalg.norm(across)
    turn = np.radians(dihedral_deg)
    radial = np.cos(turn) * across + np.sin(turn) * np.cross(axis, across)
    tilt = np.radians(180 - 109.5)
    bond: np.ndarray = length * (np.cos(tilt) * axis + np.sin(tilt) * radial)
    return bond


def relaxed(atoms: Atoms, calculator: Calculator) -> Atoms:
    """A minimum, with its energy in ``info``."""
    atoms = atoms.copy()
    atoms.calc = calculator
    if not BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.02, steps=300):
        raise RuntimeError(f"{atoms.symbols} was not relaxed in 300 steps")
    return Atoms(atoms.numbers, atoms.positions, info={"energy": float(atoms.get_potential_energy())})
