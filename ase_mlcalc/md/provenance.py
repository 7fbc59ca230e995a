"""What made a run: versions, machine and calculator, and what tells one run from another."""

import hashlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import BaseCalculator

from ase_mlcalc import checkpoint
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.config import Section
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.ensemble_calculator import EnsembleCalculator
from ase_mlcalc.potential import Derived

PACKAGES = ("ase-mlcalc", "ase", "torch", "numpy", "scipy", "matscipy")


class Provenance(Section):
    """Where numbers come from."""

    started: str
    """UTC, ISO 8601."""
    command: str
    python: str
    packages: dict[str, str]
    """Versions of what computed."""
    machine: str
    cores: int
    threads: int
    """Of torch."""
    source: str | None = None
    """Checkpoint or import path of the calculator, as it was given."""


def provenance(source: str | None = None, packages: tuple[str, ...] = ()) -> Provenance:
    """Of a run that starts now in this process, and computes with further packages."""
    return Provenance(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),  # noqa: PTH119
        python=platform.python_version(),
        packages={name: _version(name) for name in (*PACKAGES, *packages)},
        machine=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        source=source,
    )


def identify_calculator(calculator: BaseCalculator) -> dict[str, Any]:
    """What a calculator is, as JSON values that are equal for equal calculators as far as that can be told.

    A potential of this package is known by its weights, other calculators by their class and parameters.
    """
    name = f"{type(calculator).__module__}.{type(calculator).__qualname__}"
    if isinstance(calculator, MLCalculator):
        potential = calculator.potential
        weights = checkpoint.fingerprint(potential) if isinstance(potential, Derived | Ensemble) else None
        return {
            "class": name,
            "dtype": str(potential.dtype).removeprefix("torch."),
            "stress_definition": calculator.stress_definition,
            "sha256": weights,
        }
    if isinstance(calculator, EnsembleCalculator):
        return {"class": name, "members": [identify_calculator(each) for each in calculator.calculators]}
    parameters = getattr(calculator, "parameters", None)  # not every calculator has any
    text = json.dumps(dict(parameters or {}), default=_plain, sort_keys=True)
    return {"class": name, "parameters": json.loads(text, parse_constant=str)}  # JSON has no Inf and NaN


def identify_structure(atoms: Atoms) -> str:
    """SHA-256 of elements, masses, geometry, momenta and constraints."""
    digest = hashlib.sha256()
    for values in (atoms.numbers, atoms.get_masses(), atoms.positions, np.asarray(atoms.cell), atoms.pbc):
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(np.ascontiguousarray(atoms.get_momenta()).tobytes())
    digest.update(json.dumps([each.todict() for each in atoms.constraints], default=_plain, sort_keys=True).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """What JSON cannot hold, by its contents for arrays and by its type otherwise (addresses change)."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else type(value).__qualname__


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
