"""Every network after the same time of training on the same structures, by the tools of its own program."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase_mlcalc.files import write_text
from peers.contenders import CUTOFF_ANGSTROM, Contender
from peers.remote import Worker

RESULT = "result.json"
PATIENCE = 3.0
"""How many times the minutes of training a program may take before it is given up."""
START_S = 900.0
"""On top of that, for starting, compiling and pilot runs."""


def asked_of(contender: Contender, minutes: float, *, device: str, threads: int) -> dict[str, Any]:
    """What a result belongs to; a stored one that was asked for otherwise is made anew."""
    asked: dict[str, Any] = {
        "program": contender.program,
        "network": contender.network,
        "cutoff": CUTOFF_ANGSTROM,
        "minutes": minutes,
        "device": device,
        "threads": threads,
    }
    if contender.ours:
        asked["defaults"] = _defaults(contender.network["name"])
    return asked


def _defaults(name: str) -> dict[str, Any]:
    """What the network and its training are when nothing is said: they change as the package does."""
    from ase_mlcalc.model import lookup
    from ase_mlcalc.training.config import TrainConfig

    model = lookup(name).Config(species=[1])
    return {"model": model.model_dump(mode="json"), "train": TrainConfig(max_minutes=1).model_dump(mode="json")}


def finished(folder: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The stored result of this training, if there is one."""
    file = folder / RESULT
    if not file.exists():
        return None
    stored: dict[str, Any] = json.loads(file.read_text())
    return stored if stored["asked"] == json.loads(json.dumps(asked)) else None


def train(
    contender: Contender,
    python: Path,
    data: Path,
    species: Sequence[str],
    folder: Path,
    asked: dict[str, Any],
) -> dict[str, Any]:
    """Train one network and evaluate it on the test structures; written as ``result.json`` when all is done.

    Raises
    ------
    WorkerError
        The program failed.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed, or was asked for otherwise
    folder.mkdir(parents=True)
    job = {"network": contender.network, "data": str(data.absolute()), "species": list(species)}
    job |= {"cutoff": CUTOFF_ANGSTROM, "out": str(folder.absolute())}
    job |= {key: asked[key] for key in ("minutes", "device", "threads")}
    limit_s = 60 * PATIENCE * asked["minutes"] + START_S
    with Worker(python, contender.program, asked["threads"], folder / "worker.log") as worker:
        versions = worker.ask("versions")
        trained = worker.ask("train", timeout_s=limit_s, **job)
        worker.ask("open", network=trained["network"], run={}, device=asked["device"], threads=asked["threads"])
        errors = worker.ask("errors", timeout_s=limit_s, file=str((data / "test.extxyz").absolute()))
    result = {"asked": asked, "versions": versions, **trained, **errors}
    write_text(folder / RESULT, json.dumps(result, indent=1))
    return result
