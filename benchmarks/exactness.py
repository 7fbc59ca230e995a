"""How exactly forces and stresses follow from the energy, and analytic models agree with other programs.

Part of ``make bench-accuracy``; takes seconds.  Every model that is registered is differentiated numerically with
random parameters in float64, on a rattled triclinic crystal; Lennard-Jones is compared with ASE's and Stillinger-Weber
with matscipy's.  The test suite asserts the same bounds.
"""

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones as AseLennardJones
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber as MatscipyForms
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si
from rich.console import Console
from rich.table import Table

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.demo import check_physics
from ase_mlcalc.model import lookup, registered
from ase_mlcalc.testing import ModelSubject

ORACLE_AIM = 1e-10


def distorted(atoms: Atoms, seed: int) -> Atoms:
    """Triclinic and rattled, so that nothing vanishes by symmetry."""
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.06 * rng.standard_normal((3, 3))), scale_atoms=True)
    atoms.positions += 0.15 * rng.standard_normal(atoms.positions.shape)
    return atoms


def deviations(atoms: Atoms, ours: Calculator, theirs: Calculator, properties: list[str]) -> dict[str, float]:
    """Largest difference of each property, relative to its largest component."""
    result = {}
    for name in properties:
        expected, got = theirs.get_property(name, atoms), ours.get_property(name, atoms)
        result[name] = float(np.abs(np.subtract(got, expected)).max() / np.abs(expected).max())
    return result


def oracles() -> list[tuple[str, str, float, float]]:
    """Analytic models against ASE and matscipy."""
    lj, sw = lookup("lennard_jones"), lookup("stillinger_weber")
    argon = distorted(bulk("Ar", "fcc", a=5.2, cubic=True) * (2, 2, 1), 1)
    ours = MLCalculator(lj(lj.Config(epsilon=0.4, sigma=3.3, cutoff=8.1, smooth=True, onset_fraction=0.7)))
    ase = AseLennardJones(epsilon=0.4, sigma=3.3, rc=8.1, ro=0.7 * 8.1, smooth=True)
    against_ase = deviations(argon, ours, ase, ["energy", "energies", "forces", "stress", "stresses"])
    silicon = distorted(bulk("Si", cubic=True) * (2, 2, 1), 6)
    # matscipy rounds the tetrahedral cosine to twelve digits
    forms = MatscipyForms(Stillinger_Weber_PRB_31_5262_Si | {"costheta0": 1 / 3})
    against_matscipy = deviations(
        silicon, MLCalculator(sw(sw.Config())), Manybody(**forms), ["energy", "forces", "stress"]
    )
    return [("lennard_jones", f"{name}, ASE", value, ORACLE_AIM) for name, value in against_ase.items()] + [
        ("stillinger_weber", f"{name}, matscipy", value, ORACLE_AIM) for name, value in against_matscipy.items()
    ]


def derivatives() -> list[tuple[str, str, float, float]]:
    """Every registered model that has an energy against central differences."""
    rows = []
    for name, model_class in registered().items():
        subject = ModelSubject(model_class)
        if not subject.gives_energy:
            continue
        for check in check_physics(subject.model(), subject.crystal):
            rows.append((name, check.name, check.error, check.allowed))  # noqa: PERF401
    return rows


def main() -> None:
    """Print everything in one table."""
    table = Table("model", "quantity", "relative deviation", "aim", title="Exactness")
    for model, quantity, value, aim in oracles() + derivatives():
        table.add_row(model, quantity, f"{value:.1e}", f"<= {aim:g}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
