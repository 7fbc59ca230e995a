"""One ``.safetensors`` file per potential: weights and a JSON header.  Nothing is ever unpickled.

The file of an ensemble holds the weights of all members, their names preceded by ``member-1.``, ``member-2.`` and so
on, and a header that lists the members.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ase_mlcalc.ensemble import Ensemble, derived_members
from ase_mlcalc.errors import CheckpointError, ConfigError, ModelError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.model import Model, lookup
from ase_mlcalc.potential import Baseline, Derived

HEADER_KEY = "ase_mlcalc"
DIGEST_KEY = "ase_mlcalc_sha256"
"""Of the header; not checked where it is not there."""
FORMAT_VERSION = 1
"""Of the file of one model."""
ENSEMBLE_FORMAT_VERSION = 2
"""Of the file of an ensemble, which versions that know no ensembles refuse as too new."""
UNITS = {"length": "Å", "energy": "eV", "stress": "eV/Å³, positive under tension"}


class MemberHeader(BaseModel):
    """What makes a model one potential: its name, its configuration and its baseline."""

    model_config = ConfigDict(extra="forbid")

    model: str
    config: dict[str, Any]
    baseline: dict[str, Any]


class Header(MemberHeader):
    """What the JSON header of a checkpoint of one model says."""

    format_version: int
    package_version: str
    units: dict[str, str]
    provenance: dict[str, Any]
    weights_sha256: str | None = None
    """Of the weights, because one flipped bit can go unnoticed in results; ``None`` is not checked."""


class EnsembleHeader(BaseModel):
    """What the JSON header of a checkpoint of an ensemble says."""

    model_config = ConfigDict(extra="forbid")

    format_version: int
    package_version: str
    members: list[MemberHeader] = Field(min_length=2)
    uncertainty_scale: dict[str, float]
    units: dict[str, str]
    provenance: dict[str, Any]
    weights_sha256: str


def without_references(model: Model) -> Derived:
    """A copy of a model as a potential whose energies are those of the model, without reference energies."""
    return Derived(copy.deepcopy(model))


def save(potential: Derived | Ensemble | Model, path: Path | str, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a potential; an existing file is replaced only when the new one is complete.

    Parameters
    ----------
    potential : Derived, Ensemble or Model
        Members of an ensemble have to be models with their baselines; a model is taken without reference energies.
    path : path
    provenance : mapping, optional
        What it was trained on and how; anything that JSON can hold.

    Raises
    ------
    ConfigError
        None of these, or a member of the ensemble is no model with its baseline.
    MLCalcError
        The file cannot be written.
    """
    if isinstance(potential, Model):
        potential = without_references(potential)
    if not isinstance(potential, Derived | Ensemble):
        raise ConfigError(
            f"expected a model, a model with its baseline (Derived) or an Ensemble to save, got "
            f"{type(potential).__name__}"
        )
    header: Header | EnsembleHeader
    written = {"written": datetime.now(UTC).isoformat(timespec="seconds"), **(provenance or {})}
    if isinstance(potential, Ensemble):
        members = derived_members(potential)
        weights = {
            _prefix(number) + name: tensor.clone()  # a file cannot hold one tensor twice
            for number, member in enumerate(members, 1)
            for name, tensor in _weights(member).items()
        }
        header = EnsembleHeader(
            format_version=ENSEMBLE_FORMAT_VERSION,
            package_version=package_version(),
            members=[_description(member) for member in members],
            uncertainty_scale=dict(potential.uncertainty_scale),
            units=UNITS,
            provenance=written,
            weights_sha256=_sha256(weights),
        )
    else:
        weights = _weights(potential)
        header = Header(
            **_description(potential).model_dump(),
            format_version=FORMAT_VERSION,
            package_version=package_version(),
            units=UNITS,
            provenance=written,
            weights_sha256=_sha256(weights),
        )
    text = header.model_dump_json()
    with atomic_path(Path(path)) as part:
        try:
            save_file(weights, part, metadata={HEADER_KEY: text, DIGEST_KEY: _sha256_of(text)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def fingerprint(potential: Derived | Ensemble) -> str:
    """SHA-256 of what makes a potential: its weights, its model with configuration, and its baseline."""
    members = derived_members(potential) if isinstance(potential, Ensemble) else [potential]
    digest = hashlib.sha256()
    for member in members:
        digest.update(_description(member).model_dump_json().encode())
        digest.update(_sha256(_weights(member)).encode())
    return digest.hexdigest()


def _weights(potential: Derived) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in potential.model.state_dict().items()}


def _description(potential: Derived) -> MemberHeader:
    model, baseline = potential.model, potential.baseline
    return MemberHeader(
        model=model.name,
        config=model.config.model_dump(mode="json"),
        baseline={
            "species_energy": {str(number): energy for number, energy in baseline.species_energy.items()},
            "energy_scale": baseline.energy_scale,
            "force_scale": baseline.force_scale,
            "stress_scale": baseline.stress_scale,
        },
    )


def _prefix(number: int) -> str:
    """Before the names of the weights of a member, counted from 1."""
    return f"member-{number}."


def load(path: Path | str) -> Derived | Ensemble:
    """Read a potential: a model with its baseline, or an ensemble of such; see `read_header` for the errors."""
    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    potential = _potential(path, header, weights)  # before the checksum: what does not fit says more than that
    if header.weights_sha256 not in (None, _sha256(weights)):
        raise CheckpointError(f"{path} is corrupt: its weights are not those that were written; copy it again")
    return potential


def _potential(path: Path | str, header: Header | EnsembleHeader, weights: Mapping[str, Tensor]) -> Derived | Ensemble:
    if isinstance(header, Header):
        return _restore(path, header, weights)
    members, foreign = [], set(weights)
    for number, member in enumerate(header.members, 1):
        prefix = _prefix(number)
        names = [name for name in weights if name.startswith(prefix)]
        own = {name.removeprefix(prefix): weights[name] for name in names}
        members.append(_restore(f"{path}, member {number}", member, own))
        foreign -= set(names)
    if foreign:
        raise CheckpointError(f"{path}: the weights {', '.join(sorted(foreign)[:3])} belong to no member of its header")
    try:
        return Ensemble(members, header.uncertainty_scale)
    except ConfigError as error:
        raise CheckpointError(f"{path}: the members in it are no ensemble: {error}") from error


def _restore(path: Path | str, header: MemberHeader, weights: Mapping[str, Tensor]) -> Derived:
    """One model with its weights and its baseline."""
    model_class = lookup(header.model)
    try:
        config = model_class.Config.model_validate(header.config)
        baseline = Baseline(
            species_energy={int(number): float(energy) for number, energy in header.baseline["species_energy"].items()},
            energy_scale=float(header.baseline["energy_scale"]),
            force_scale=float(header.baseline["force_scale"]),
            stress_scale=float(header.baseline["stress_scale"]),
        )
    except (ValidationError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: the header does not fit model {header.model!r}: {reason}") from error
    with torch.random.fork_rng(devices=[]):  # the constructor's random weights are replaced below
        model = model_class(config)
    dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    if not dtypes <= {torch.float32, torch.float64}:
        raise CheckpointError(f"{path}: weights of {', '.join(map(str, dtypes))}; expected float32 or float64")
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: the weights do not fit model {header.model!r}: {reason}") from error
    return Derived(model, baseline)


def read_header(path: Path | str) -> Header | EnsembleHeader:
    """The JSON header of a checkpoint, without its weights.

    Raises
    ------
    CheckpointError
        No such file; a pickle (never read); a truncated, corrupt, foreign or newer file.
    ModelError
        The model, or that of a member, is not registered here.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {path}; expected a .safetensors file that `ase-mlcalc train` wrote{_hint(path)}"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        if path.suffix == ".compiled":
            raise CheckpointError(f"{path} is compiled code; what is asked for takes the checkpoint itself") from error
        # asked only now: a good file begins with the length of its header, whose bytes may look like a pickle's
        if _looks_like_a_pickle(path):
            raise CheckpointError(
                f"{path} is a pickle (a torch.save file), which could run any code and is never read; "
                "expected a .safetensors file that `ase-mlcalc train` wrote"
            ) from error
        raise CheckpointError(
            f"{path} is corrupt, truncated or not a safetensors file ({error}); copy it again or train anew"
        ) from error
    header = _parsed(path, metadata)
    try:
        for member in header.members if isinstance(header, EnsembleHeader) else [header]:
            lookup(member.model)
    except ModelError as error:
        raise ModelError(f"{path} holds a model of another package: {error}") from error
    return header


def _parsed(path: Path, metadata: Mapping[str, str]) -> Header | EnsembleHeader:
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file of another program: it has no {HEADER_KEY!r} header")
    if metadata.get(DIGEST_KEY) not in (None, _sha256_of(metadata[HEADER_KEY])):
        raise CheckpointError(f"{path} is corrupt: its header is not the one that was written; copy it again")
    try:
        raw = json.loads(metadata[HEADER_KEY])
        written_in = int(raw["format_version"])
        if written_in > ENSEMBLE_FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format {written_in}, this version reads up to {ENSEMBLE_FORMAT_VERSION}: "
                "upgrade ase-mlcalc"
            )
        kind = EnsembleHeader if "members" in raw else Header
        header: Header | EnsembleHeader = kind.model_validate(raw)
    except (json.JSONDecodeError, ValidationError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: unreadable header: {reason}") from error
    if header.units != UNITS:
        raise CheckpointError(f"{path} is in other units: {header.units}; expected {UNITS}")
    return header


def definitions_of_labels(path: Path | str) -> list[str]:
    """How the per-atom stresses that a checkpoint learned were split over atoms, as far as its data said."""
    found: Any = read_header(path).provenance
    for key in ("labels", "stresses", "definition"):
        found = found.get(key) if isinstance(found, dict) else None
    return [str(definition) for definition in found] if isinstance(found, list) else []


def calculator_below(path: Path | str) -> str | None:
    """The calculator that a checkpoint is the correction to, if it is no potential of its own."""
    base = read_header(path).provenance.get("base")
    return base.get("calculator") if isinstance(base, dict) else None


def _sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _hint(path: Path) -> str:
    """What a folder that is given in place of a checkpoint may have been meant for."""
    if (path / "model.safetensors").is_file():
        return f"; did you mean {path / 'model.safetensors'}?"
    if (path / "input.nn").is_file():
        return "; `ase_mlcalc.save(read_n2p2(folder), path)` makes one of a potential of n2p2 or RuNNer"
    return ""


def _looks_like_a_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"


def package_version() -> str:
    """Of this package, as installed."""
    try:
        return version("ase-mlcalc")
    except PackageNotFoundError:
        return "unknown (not installed)"
