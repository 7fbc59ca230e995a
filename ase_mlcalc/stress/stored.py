"""Per-atom stress that came with the structures, from LAMMPS for example, in place of a potential's."""

from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError


class Stored(Calculator):
    """Stresses that are attached to each structure, as those of a trajectory with labels are.

    For `Binned` stress of labelled structures, beside that of a potential.
    """

    implemented_properties = ["stress", "stresses"]  # noqa: RUF012  (ASE's)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:  # noqa: ARG002
        """What the structure came with.

        Raises
        ------
        PropertyNotImplementedError
            Nothing of this name.
        """
        results = {} if atoms is None or atoms.calc is None else atoms.calc.results
        if name not in results:
            raise PropertyNotImplementedError(f"{name} did not come with the structure; it has {', '.join(results)}")
        return results[name]
