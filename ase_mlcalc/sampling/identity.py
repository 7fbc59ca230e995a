"""What a sampling is, kept in its folder: the same command goes on with it, other dynamics are refused.

Temperatures, densities, seeds and structures may be added or left out, and how many structures are chosen may change:
none of that changes a run that is there.
"""

import json
from pathlib import Path
from typing import Any

from ase_mlcalc.config import changed_keys
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import write_text
from ase_mlcalc.identities import JOB_FILE, contents
from ase_mlcalc.sampling.config import SampleJob


def claim(job: SampleJob) -> None:
    """Put a sampling's identity into its folder, or make sure that it continues what is there.

    Raises
    ------
    ConfigError
        The folder holds another sampling; the message says what differs.
    DataError
        A file that is not there.
    """
    path = job.sample.output / JOB_FILE
    new = _identity(job)
    old = _read(path)
    known = old["structures"].keys() & new["structures"].keys()
    changes = (
        changed_keys(
            {"forces": old["forces"], "md": old["md"], "structures": {name: old["structures"][name] for name in known}},
            {"forces": new["forces"], "md": new["md"], "structures": {name: new["structures"][name] for name in known}},
        )
        if old["md"]
        else []
    )
    if changes:
        raise ConfigError(
            f"{job.sample.output} holds another sampling: {'; '.join(changes)}; undo the change to go on with it, or "
            "choose another output folder"
        )
    new["structures"] = {**old["structures"], **new["structures"]}
    if new != old:
        write_text(path, json.dumps(new, indent=1, ensure_ascii=False) + "\n")


def _identity(job: SampleJob) -> dict[str, Any]:
    raw = job.model_dump(mode="json")
    if job.forces.model is not None:
        raw["forces"]["model"] = contents(job.forces.model, "forces.model")
    structures = {
        name: {"file": contents(source.file, f"sample.structures.{name}"), "index": source.index}
        for name, source in job.sample.structures.items()
    }
    return {"forces": raw["forces"], "md": raw["md"], "structures": structures}


def _read(path: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: dict(stored[key]) for key in ("forces", "md", "structures")}
    except FileNotFoundError:
        return {"forces": {}, "md": {}, "structures": {}}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}); choose another output folder") from error
