r"""The heat flux of atoms: energy that moves with them, and energy that they hand on by force.

.. math::

    J = \frac{1}{V} \Big[ \sum_i E_i v_i - \sum_i \Sigma_i v_i \Big], \qquad
    E_i = U_i + \tfrac12 m_i v_i^2, \qquad
    \Sigma_i = \sum_k (R_i - R_k) \otimes \frac{\partial U_k}{\partial R_i}

:math:`\Sigma_i` is the per-atom virial by the definition ``heat`` (tension positive, not symmetric), the only one
whose sum with velocities is the time derivative of the energy barycenter :math:`\sum_i R_i E_i`: with message passing
the others are wrong here by tens of per cent.

References: Z. Fan et al., Phys. Rev. B 92, 094301 (2015), for many-body potentials; M. F. Langer, F. Knoop,
C. Carbogno, M. Scheffler and M. Rupp, Phys. Rev. B 108, L100302 (2023), for message passing.
"""

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError, StructureError
from ase_mlcalc.graph import has_volume, isolated_atoms
from ase_mlcalc.potential import Potential
from ase_mlcalc.stress.atomic import atomic_virials
from ase_mlcalc.virials import check_definition


def heat_flux(atoms: Atoms) -> NDArray[np.float64]:
    """Heat flux per volume of the present state.

    Energies are counted from isolated atoms at rest, so that reference energies do not flow with the atoms.

    Parameters
    ----------
    atoms : ase.Atoms
        With velocities, a volume and an `MLCalculator` whose model has per-atom energies.

    Returns
    -------
    (3,) eV/Å² per ASE time unit; multiply by ``ase.units.fs`` for eV/(Å² fs).

    Raises
    ------
    ConfigError
        The calculator cannot give the definition ``heat``.
    StructureError
        No volume or no velocities.
    """
    potential = heat_source(atoms)
    if not atoms.has("momenta"):
        raise StructureError("a heat flux needs velocities; set them, for example with atoms.set_velocities")
    velocities = atoms.get_velocities()
    energies = atoms.calc.get_property("energies", atoms) - _isolated_energies(potential, atoms)
    energies = energies + 0.5 * atoms.get_masses() * (velocities**2).sum(axis=1)
    heat = atomic_virials(atoms.calc, atoms, "heat")
    carried = np.einsum("n,na->a", energies, velocities)
    handed_on = -np.einsum("nab,nb->a", heat, velocities)
    return (carried + handed_on) / atoms.get_volume()


def heat_source(atoms: Atoms) -> Potential:
    """The potential of a structure whose heat flux is defined; raises what `heat_flux` raises."""
    calculator = atoms.calc
    if not isinstance(calculator, MLCalculator):
        raise ConfigError(
            "a heat flux needs an MLCalculator, because it is made of the energies of atoms and their virials by the "
            f"definition heat; got {type(calculator).__name__}"
        )
    check_definition(calculator.potential, "heat")
    if not has_volume(atoms):
        raise StructureError("a heat flux needs a cell with three independent vectors; set atoms.cell")
    return calculator.potential


def _isolated_energies(potential: Potential, atoms: Atoms) -> NDArray[np.float64]:
    """(N,) eV, what each atom has far from all others."""
    species = np.unique(atoms.numbers)
    energies = potential(isolated_atoms(species.tolist(), potential.device)).energies
    assert energies is not None  # the definition heat needs them
    return energies.cpu().numpy()[np.searchsorted(species, atoms.numbers)]
