"""Δ-learning: a model of the difference between two levels, on top of a potential or calculator of the lower one.

What is learned is labels minus predictions of a fixed base, which vary less and are smoother than the labels
(R. Ramakrishnan, P. O. Dral, M. Rupp and O. A. von Lilienfeld, J. Chem. Theory Comput. 11, 2087 (2015)).  On top of a
potential of this package the result is one potential, the sum of both; on top of any other calculator it is the
correction alone, and `corrected` makes one calculator of the two.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, PropertyNotImplementedError
from ase.calculators.mixing import SumCalculator
from ase.stress import voigt_6_to_full_3x3_stress

from ase_mlcalc import accelerate, checkpoint
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.data.frames import Frame, to_sample
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError, NumericalError
from ase_mlcalc.foreign import make_foreign, potential_energy
from ase_mlcalc.graph import has_volume
from ase_mlcalc.model import Model, check_species
from ase_mlcalc.potential import Derived
from ase_mlcalc.properties import Properties
from ase_mlcalc.sums import add
from ase_mlcalc.training.config import BaseConfig, DataConfig
from ase_mlcalc.training.dataset import DataSet

DIFFERENCES = ("energy", "forces", "stress")
"""Labels that differences are taken of.  How energies and stress are split over atoms is different in each program."""


def relative(frames: Sequence[Frame], config: BaseConfig) -> list[Frame]:
    """The same structures with labels relative to what a base predicts for them.

    Per-atom labels, and labels of what the base does not predict, are left out.

    Raises
    ------
    ConfigError, CheckpointError
        A base that cannot be made.
    SpeciesError, StructureError, NumericalError
        A structure that it cannot be evaluated on.
    """
    predict = _of_calculator(config) if config.model is None else _of_model(config.model)
    known: dict[int, Frame] = {}  # a bootstrap sample repeats itself
    for frame in frames:
        if id(frame) not in known:
            known[id(frame)] = frame._replace(labels=_difference(frame.labels, predict(frame)))
    return [known[id(frame)] for frame in frames]


def learned(data: DataSet, config: DataConfig) -> DataSet:
    """Training and validation structures with the labels that the model itself has to give."""
    if config.base is None:
        return data
    return data._replace(train=relative(data.train, config.base), validation=relative(data.validation, config.base))


def measured(frames: Sequence[Frame], config: DataConfig) -> list[Frame]:
    """Structures with the labels that a finished potential is compared with.

    On top of a model it gives the labels themselves; on top of a calculator it stays a correction.
    """
    if config.base is None or config.base.calculator is None:
        return list(frames)
    return relative(frames, config.base)


def fingerprint(data: DataSet, config: DataConfig) -> str:
    """A hash of all structures and labels, and of the model that the labels are taken relative to."""
    if config.base is None or config.base.model is None:
        return data.fingerprint()
    of_base = checkpoint.fingerprint(read_base(config.base.model))
    return hashlib.sha256((data.fingerprint() + of_base).encode()).hexdigest()


def completed(potential: Derived, config: DataConfig) -> Derived:
    """What was learned together with the model that it was learned on top of, if there is one."""
    if config.base is None or config.base.model is None:
        return potential
    return add([read_base(config.base.model), potential])


def try_out(model: Model, config: DataConfig) -> None:
    """Raise `ConfigError` now if what is going to be learned cannot be added to the base in the end."""
    completed(Derived(copy.deepcopy(model)), config)


def read_base(path: Path) -> Derived | Ensemble:
    """The model that another one is learned on top of."""
    return checkpoint.load(path)


def corrected(path: Path | str) -> BaseCalculator:
    """A calculator of the base and of what was learned on top of it, from a checkpoint of the correction alone.

    Parameters
    ----------
    path : path
        Checkpoint of a training with ``data.base.calculator``.

    Returns
    -------
    SumCalculator
        Of ASE; it gives what both give: energy, forces, and stress if the base has it.

    Raises
    ------
    ConfigError
        The checkpoint is a potential of its own; a base that cannot be made.
    """
    if checkpoint.calculator_below(path) is None:
        raise ConfigError(f"{path} is no correction to a calculator; MLCalculator takes it as it is")
    config = BaseConfig.model_validate(checkpoint.read_header(path).provenance["base"])
    return SumCalculator([_calculator(config), MLCalculator(checkpoint.load(path))])


def _calculator(config: BaseConfig) -> Calculator:
    return make_foreign(
        config.calculator or "", config.arguments, named=("data.base.calculator", "data.base.arguments")
    )


def _of_model(path: Path) -> Callable[[Frame], Properties]:
    potential = accelerate.with_kernels(read_base(path))
    if "energy" not in potential.properties:
        given = ", ".join(sorted(potential.properties))
        raise ConfigError(f"data.base.model = {path} predicts {given} and no energy; choose another base")

    def predict(frame: Frame) -> Properties:
        check_species(np.unique(frame.atoms.numbers).tolist(), potential.species, f"data.base.model = {path}")
        return potential(to_sample(frame, potential.cutoff).graph)

    return predict


def _of_calculator(config: BaseConfig) -> Callable[[Frame], Properties]:
    calculator = _calculator(config)

    def predict(frame: Frame) -> Properties:
        atoms = frame.atoms.copy()
        atoms.set_constraint()  # labels are of all forces
        atoms.calc = calculator
        wanted = frame.labels.given()
        try:
            return Properties(
                energy=_tensor(potential_energy(atoms)).reshape(1) if "energy" in wanted else None,
                forces=_tensor(atoms.get_forces()) if "forces" in wanted else None,
                stress=_stress(atoms) if "stress" in wanted else None,
            )
        except Exception as error:  # calculators raise anything
            raise NumericalError(
                f"data.base.calculator = {config.calculator} fails on {frame.source} ({type(error).__name__}: "
                f"{error}); leave the structure out, or change the arguments of the calculator"
            ) from error

    return predict


def _stress(atoms: Atoms) -> torch.Tensor | None:
    """(1, 3, 3) eV/Å³; ``None`` where there is no volume, or none from this calculator."""
    if not has_volume(atoms):
        return None
    try:
        return _tensor(voigt_6_to_full_3x3_stress(atoms.get_stress()))[None]
    except PropertyNotImplementedError:
        return None


def _tensor(values: object) -> torch.Tensor:
    found = torch.from_numpy(np.array(values, dtype=np.float64))
    if not bool(found.isfinite().all()):
        raise ValueError("NaN or Inf")
    return found


def _difference(labels: Properties, predicted: Properties) -> Properties:
    differences = {}
    for name in DIFFERENCES:
        label, value = getattr(labels, name), getattr(predicted, name)
        if label is not None and value is not None:
            differences[name] = label - value.detach().cpu().double()
    return Properties(**differences)
