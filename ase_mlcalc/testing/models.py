"""The conformance suite of models: which checks there are, which apply to a model, and running them."""

from collections.abc import Callable
from typing import NamedTuple

from ase_mlcalc.model import Model, ModelConfig, Solvable
from ase_mlcalc.testing.model_checks import (
    atomic_stress,
    composition,
    contract,
    execution,
    learning,
    mechanics,
    symmetry,
)
from ase_mlcalc.testing.outcome import CheckResult, Judge, run_check
from ase_mlcalc.testing.subject import ModelSubject
from ase_mlcalc.virials import available


def _always(_: Model) -> bool:
    return True


def _energy(model: Model) -> bool:
    return bool(model.outputs & {"energy", "energies"})


def _transferable(model: Model) -> bool:
    return model.transferable


def _relative(model: Model) -> bool:
    """Whether geometry enters through relative positions alone."""
    return "positions" not in model.reads


def _atomic_energies(model: Model) -> bool:
    return model.transferable and "energies" in model.outputs


def _of_atoms(model: Model) -> bool:
    """Whether something is predicted for single atoms or edges, from what is near them."""
    return model.transferable and model.local and model.outputs != {"energy"}


def _by_steps(model: Model) -> bool:
    """Whether it is trained along gradients."""
    return model.trainable and not isinstance(model, Solvable)


class ModelCheck(NamedTuple):
    """A check, when it applies, and whether it takes long."""

    function: Callable[[ModelSubject, Judge], None]
    applies: Callable[[Model], bool] = _always
    slow: bool = False

    @property
    def name(self) -> str:
        """The function's name without ``check_``."""
        return self.function.__name__.removeprefix("check_")

    def run(self, subject: ModelSubject) -> CheckResult:
        """How it ended; raises `CheckFailure`, also where the model itself raises."""
        return run_check(self.name, self.function, subject, "the model")


MODEL_CHECKS: tuple[ModelCheck, ...] = (
    ModelCheck(contract.check_constructs),
    ModelCheck(contract.check_outputs),
    ModelCheck(contract.check_inputs_untouched),
    ModelCheck(contract.check_sees_only_vectors),
    ModelCheck(contract.check_save_load),
    ModelCheck(composition.check_batch_equals_single, _transferable),
    ModelCheck(composition.check_no_gradient_across_structures, _transferable),
    ModelCheck(composition.check_nonperiodic_in_batch, _transferable),
    ModelCheck(composition.check_isolated_atom, _atomic_energies),
    ModelCheck(composition.check_no_edges, _atomic_energies),
    ModelCheck(composition.check_far_apart, lambda model: _transferable(model) and model.local),
    ModelCheck(composition.check_declared_not_local, lambda model: _transferable(model) and not model.local),
    ModelCheck(symmetry.check_permutation, _transferable),
    ModelCheck(symmetry.check_translation, _relative),
    ModelCheck(symmetry.check_declared_positions, lambda model: not _relative(model)),
    ModelCheck(symmetry.check_supercell, lambda model: _transferable(model) and _relative(model)),
    ModelCheck(symmetry.check_rotation, lambda model: model.equivariant),
    ModelCheck(symmetry.check_declared_not_equivariant, lambda model: not model.equivariant),
    ModelCheck(mechanics.check_forces, _energy),
    ModelCheck(mechanics.check_smooth_at_cutoff, lambda model: model.smooth),
    ModelCheck(mechanics.check_stress, _energy),
    ModelCheck(mechanics.check_sum_rules),
    ModelCheck(atomic_stress.check_depth, _of_atoms),
    ModelCheck(atomic_stress.check_stress_definitions, lambda model: _transferable(model) and bool(available(model))),
    ModelCheck(atomic_stress.check_site_stress, lambda model: _atomic_energies(model) and model.equivariant),
    ModelCheck(atomic_stress.check_heat_stress, _atomic_energies),
    ModelCheck(execution.check_float32),
    ModelCheck(learning.check_double_backward, _by_steps),
    ModelCheck(learning.check_learns, _by_steps),
    ModelCheck(learning.check_solves, lambda model: isinstance(model, Solvable)),
    ModelCheck(execution.check_compile, slow=True),
    ModelCheck(execution.check_export, slow=True),
    ModelCheck(mechanics.check_energy_conservation, _energy, slow=True),
)


def applicable_checks(
    model_class: type[Model], config: ModelConfig | None = None, *, slow: bool = False
) -> tuple[ModelCheck, ...]:
    """The checks that a model has to pass, by its outputs and declared flags in that configuration."""
    model = ModelSubject(model_class, config).fresh()
    return tuple(check for check in MODEL_CHECKS if check.applies(model) and (slow or not check.slow))


def check_model(
    model_class: type[Model], config: ModelConfig | None = None, *, slow: bool = False
) -> list[CheckResult]:
    """Run the whole suite on a model class.

    Parameters
    ----------
    model_class : type[Model]
        Randomly initialised from a fixed seed; nothing has to be trained.
    config : ModelConfig, optional
        Default: the model's defaults with the elements H, C, O, Na and Cl of the check structures.
    slow : bool
        Also the checks that take up to minutes (compilation, export, dynamics).

    Returns
    -------
    list of CheckResult
        One for each check: passed, or skipped with the reason.

    Raises
    ------
    CheckFailure
        At the first check that fails; ``.name`` says which.
    """
    subject = ModelSubject(model_class, config)
    model = subject.fresh()
    results = []
    for check in MODEL_CHECKS:
        if not check.applies(model):
            results.append(CheckResult(check.name, "skipped", "does not apply to its outputs and declared flags"))
        elif check.slow and not slow:
            results.append(CheckResult(check.name, "skipped", "slow; ask with slow=True"))
        else:
            results.append(check.run(subject))
    return results
