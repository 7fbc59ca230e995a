"""Calculators that a process makes once and uses for many tasks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from ase.calculators.calculator import Calculator

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.foreign import forget
from ase_mlcalc.md.config import JobFiles
from ase_mlcalc.md.job import make_calculator

OF_A_RUN = {"structure", "index", "reference", "equilibration", "output", "overwrite"}
"""Keys of a job that have nothing to do with its calculator."""

_kept: dict[str, Calculator] = {}


@contextmanager
def kept_calculator(files: JobFiles) -> Iterator[Calculator]:
    """The calculator of a job, made when it is first asked for and kept by this process.

    It is forgotten when it fails with anything but an error of this package, for it may be left in any state.

    Raises
    ------
    ConfigError, CheckpointError
        It cannot be made.
    """
    key = json.dumps(files.model_dump(mode="json", exclude=OF_A_RUN))
    try:
        if key not in _kept:
            _kept[key] = make_calculator(files)
        forget(_kept[key])
        yield _kept[key]
    except MLCalcError:
        raise
    except Exception:
        _kept.pop(key, None)
        raise
