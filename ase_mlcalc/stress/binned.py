r"""Per-atom stress in bins: each atom's stress times volume goes to the bin that the atom is in.

.. math:: \sigma_b = \frac{1}{V_b} \sum_{i \in b} (V \sigma_i - m_i v_i \otimes v_i)

Cheap, for any ASE calculator with ``stresses``, and its mean over all bins is the stress.  But it inherits the
definition of per-atom stress and does not balance momentum: where structure changes over a few Å, as at surfaces and
interfaces, it is wrong, and its values depend on the definition.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.stress.grid import TENSOR, Grid, fractional, kinetic_virials

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Binned:
    """Per-atom stresses of a calculator, summed over the bins of a grid and divided by the volume of a bin."""

    grid: Grid
    name: ClassVar[str] = "bins"
    components: ClassVar[tuple[str, ...]] = TENSOR

    def potential_part(self, calc: Calculator, atoms: Atoms) -> Array:
        """(n_bins, 9) eV/Å³."""
        if "stresses" not in calc.implemented_properties:
            raise ConfigError(
                f"{type(calc).__name__} gives {', '.join(calc.implemented_properties)} but no per-atom stresses; "
                "use a potential with energies, or one that predicts stresses"
            )
        places = fractional(atoms) * self.grid.shape
        stresses = np.asarray(calc.get_property("stresses", atoms))
        full = voigt_6_to_full_3x3_stress(stresses) if stresses.shape[1:] == (6,) else stresses
        return self.grid.gather(self.grid.bins_of(places, atoms.pbc), full.reshape(-1, 9)) * self.grid.n_bins

    def kinetic_part(self, atoms: Atoms) -> Array:
        """(n_bins, 9) eV/Å³."""
        bins = self.grid.bins_of(fractional(atoms) * self.grid.shape, atoms.pbc)
        return self.grid.gather(bins, kinetic_virials(atoms)) * (self.grid.n_bins / atoms.get_volume())
