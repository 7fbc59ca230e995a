"""`EnsembleCalculator`: the mean of any ASE calculators, of this package or not, with standard deviations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from numpy.typing import NDArray

from ase_mlcalc.errors import ConfigError, NumericalError, StructureError
from ase_mlcalc.foreign import forget


class EnsembleCalculator(Calculator):
    """A committee of ASE calculators: results are the mean of theirs.

    Only what is asked for is asked of the members.  Their sample standard deviations (divided by M - 1 for M members)
    are in `extras`, as ``energy_std``, ``forces_std`` and so on, with the shapes and units of the results;
    ``forces_spread`` (N,) eV/Å is the root of the summed squares of the three components.

    Parameters
    ----------
    calculators : sequence of Calculator
        Two or more.  What all of them implement is implemented.

    Raises
    ------
    ConfigError
        Fewer than two, one twice, or nothing that all implement.
    NumericalError
        A member gives NaN or Inf, or a result of another shape.
    """

    # read from instances by ASE: what can be given depends on the members
    implemented_properties: list[str] = []  # noqa: RUF012

    def __init__(self, calculators: Sequence[Calculator]) -> None:
        super().__init__()
        self.extras: dict[str, Any] = {}
        """Standard deviations that belong to the results."""
        self.calculators = tuple(calculators)
        if len(self.calculators) < 2:
            raise ConfigError(
                f"an ensemble takes at least two calculators, got {len(self.calculators)}; use one alone as it is"
            )
        for number, calculator in enumerate(self.calculators, 1):
            if not isinstance(calculator, Calculator):
                raise ConfigError(f"member {number} is a {type(calculator).__name__}, expected an ASE Calculator")
        if len({id(calculator) for calculator in self.calculators}) < len(self.calculators):
            raise ConfigError("one calculator is in the ensemble twice, which tells nothing about its error; remove it")
        first, *others = (calculator.implemented_properties for calculator in self.calculators)
        self.implemented_properties = [name for name in first if all(name in each for each in others)]
        if not self.implemented_properties:
            raise ConfigError("the calculators implement no property in common; choose others")

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As in ASE; a property that some member lacks is refused with its number."""
        without = [
            f"member {number} ({type(calculator).__name__})"
            for number, calculator in enumerate(self.calculators, 1)
            if name not in calculator.implemented_properties
        ]
        if without:
            raise PropertyNotImplementedError(
                f"no {name}: {', '.join(without)} does not give it; these calculators have in common "
                f"{', '.join(self.implemented_properties)}"
            )
        return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Ask every member for the properties."""
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise StructureError("the calculator has not seen a structure; set atoms.calc and ask the atoms")
        if system_changes:
            self.results, self.extras = {}, {}
        for name in properties or self.implemented_properties[:1]:
            values_k = self._ask(name, self.atoms)
            mean, std = values_k.mean(axis=0), values_k.std(axis=0, ddof=1)
            scalar = mean.ndim == 0
            self.extras[f"{name}_std"] = float(std) if scalar else std
            if name == "forces":
                self.extras["forces_spread"] = np.linalg.norm(std, axis=1)
            self.results[name] = float(mean) if scalar else mean

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last evaluation, for this calculator or any member (which may look at momenta)."""
        changes: list[str] = super().check_state(atoms, tol)
        for calculator in self.calculators:
            changes += [change for change in calculator.check_state(atoms, tol) if change not in changes]
        return changes

    def reset(self) -> None:
        """Forget all results, those of the members too."""
        super().reset()
        self.extras = {}
        for calculator in self.calculators:
            forget(calculator)

    def _ask(self, name: str, atoms: Atoms) -> NDArray[np.float64]:
        """(M, ...) the property as each member has it."""
        values = [np.asarray(calculator.get_property(name, atoms), dtype=float) for calculator in self.calculators]
        for number, value in enumerate(values, 1):
            if value.shape != values[0].shape or not np.isfinite(value).all():
                what = (
                    "NaN or Inf" if value.shape == values[0].shape else f"shape {value.shape}, not {values[0].shape},"
                )
                raise NumericalError(f"member {number} of the ensemble gave {what} for {name}; look at it alone")
        return np.stack(values)
