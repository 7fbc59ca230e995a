"""Which trainings a scan is made of, and whether each of them is possible."""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ase_mlcalc.campaigns.config import Range, ScanJob
from ase_mlcalc.campaigns.trainings import Training
from ase_mlcalc.config import toml_value, validate
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.model import lookup
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.dataset import DataSet, divide, read_files
from ase_mlcalc.training.start import resolve

LONGEST_NAME = 120
"""Characters of the name of a folder."""
_OF_THE_SPLIT = {"n_train", "n_validation", "n_test", "seed", "draw_seed", "bootstrap_seed", "isolated_energy_eV"}
"""Keys of ``[data]`` that change nothing about what is read."""


class ScanPoint(NamedTuple):
    """Values of the scanned keys, and the trainings with them, one for each seed."""

    name: str
    values: dict[str, Any]
    trainings: list[Training]


class Possible(NamedTuple):
    """What is known before anything is trained."""

    n_measured: int
    """Structures that errors belong to."""
    typical: Frame
    """A structure of median size, for the time of a call."""


def point(job: ScanJob, name: str, values: Mapping[str, Any]) -> ScanPoint:
    """A point of a scan.

    Raises
    ------
    ConfigError
        A key or a value that training does not have.
    """
    trainings = []
    for seed in job.scan.seeds:
        raw = job.model_dump(exclude={"scan", "executor"}, exclude_unset=True)
        for key, value in values.items():
            _put(raw, key, value)
        folder = f"trainings/{name}/seed-{seed}"
        raw["output"] = job.output / folder
        _put(raw, "data.draw_seed", seed or job.data.draw_seed)
        _put(raw, "train.seed", job.train.seed + seed)
        trainings.append(Training(folder, validate(TrainJob, raw, f"[scan] {in_words(values)}")))
    return ScanPoint(name, dict(values), trainings)


def grid(job: ScanJob) -> list[ScanPoint]:
    """All points of a grid, or of lists that stand beside each other."""
    keys = list(job.scan.values)
    lists = [value for value in job.scan.values.values() if isinstance(value, list)]
    combined = zip(*lists, strict=True) if job.scan.method == "zip" else itertools.product(*lists)
    found = [dict(zip(keys, values, strict=True)) for values in combined]
    return [point(job, folder_name(values), values) for values in found]


def corners(job: ScanJob) -> list[ScanPoint]:
    """Points that show whether a search is possible: every listed value and both ends of each range once."""
    ends = {
        key: [value.low, value.high] if isinstance(value, Range) else value for key, value in job.scan.values.items()
    }
    first = {key: values[0] for key, values in ends.items()}
    return [point(job, "", first | {key: value}) for key, values in ends.items() for value in values]


def check(points: Sequence[ScanPoint]) -> Possible:
    """Make sure that all points can be trained; reads the data once for each way in which they are read.

    Raises
    ------
    ConfigError
        A key that a model does not have.
    DataError, ModelError, SpeciesError
        Data or a model that cannot be used.
    """
    for each in points:
        table = each.trainings[0].job.model
        if "name" not in table:  # that of train.start_from
            continue
        keys = {key: value for key, value in table.items() if key != "name"}
        validate(lookup(table["name"]).Config, keys, f"[scan] {in_words(each.values)}: [model] of {table['name']!r}")
    divided = dict(_divided(points))
    seen = set()
    for each in points:
        job = each.trainings[0].job
        name = job.model.get("name")
        if name not in seen:
            seen.add(name)
            data = divided[job.data.model_dump_json()]
            resolve(job, [*data.train, *data.validation])
    data = next(iter(divided.values()))
    held_back = sorted(data.validation, key=lambda frame: len(frame.atoms))
    return Possible(len(data.validation), held_back[len(held_back) // 2])


def _divided(points: Sequence[ScanPoint]) -> Iterator[tuple[str, DataSet]]:
    """Configuration of the data to the structures of each training that differs in it."""
    files, seen = {}, set()
    for each in points:
        for training in each.trainings:
            data = training.job.data
            name, source = data.model_dump_json(), data.model_dump_json(exclude=_OF_THE_SPLIT)
            if name in seen:
                continue
            seen.add(name)
            if source not in files:
                files[source] = read_files(data)
            try:
                yield name, divide(data, files[source])
            except MLCalcError as error:
                raise type(error)(f"[scan] {in_words(each.values)}: {error}") from error


def in_words(values: Mapping[str, Any]) -> str:
    """``model.cutoff = 4.0, train.learning_rate = 0.01``."""
    return ", ".join(f"{key} = {toml_value(value)}" for key, value in values.items())


def folder_name(values: Mapping[str, Any]) -> str:
    """A name for values that stays the same where others are added: ``cutoff=4.0,learning_rate=0.01``."""
    short = [key.rpartition(".")[2] for key in values]
    keys = [name if short.count(name) == 1 else key for name, key in zip(short, values, strict=True)]
    exact = ",".join(f"{key}={toml_value(value)}" for key, value in zip(keys, values.values(), strict=True))
    name = re.sub(r"[^A-Za-z0-9_.+,=-]", "", exact.replace("/", "-"))
    # quotes and brackets are not missed, but what else is lost could make two points one
    same = name == re.sub(r'["\[\] ]', "", exact) and len(name) <= LONGEST_NAME
    return name if same else f"{name[:LONGEST_NAME]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, in tables that are copied on the way."""
    *tables, last = key.split(".")
    for name in tables:
        raw[name] = dict(raw.get(name) or {})
        raw = raw[name]
    raw[last] = value
