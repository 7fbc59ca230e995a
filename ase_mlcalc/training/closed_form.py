"""Training in closed form: a model that is solved for instead of stepped towards.

There is nothing to go on from: a run that was killed starts over.
"""

import json
import time
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers

from ase_mlcalc import checkpoint
from ase_mlcalc.config import changed_keys
from ase_mlcalc.data.baseline import fit_baseline
from ase_mlcalc.data.frames import Frame, Sample, sources_of_labels, to_sample
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.data.levels import levels
from ase_mlcalc.errors import ConfigError, ModelError, StructureError
from ase_mlcalc.files import exclusive, make_folder, remove_leftovers, write_text
from ase_mlcalc.model import Model, Solvable, lookup
from ase_mlcalc.potential import Baseline, Derived
from ase_mlcalc.properties import Properties
from ase_mlcalc.training import delta, seen
from ase_mlcalc.training.begin import point_out_problems
from ase_mlcalc.training.config import TrainJob, resolve_model, resolved, to_toml
from ase_mlcalc.training.dataset import DataSet, load
from ase_mlcalc.training.figures import parity
from ase_mlcalc.training.metrics import compare, measure
from ase_mlcalc.training.progress import ProgressReport
from ase_mlcalc.training.result import TrainResult, read_result
from ase_mlcalc.training.state import CHECKPOINT_FILE, STATE_FILE


def wanted(job: TrainJob) -> bool:
    """Whether the model of a job is trained in closed form."""
    return issubclass(lookup(job.model["name"]), Solvable)


def train(job: TrainJob, *, progress: bool = True) -> TrainResult:
    """Solve for a potential, on the CPU and in float64.

    Writes into ``job.output``: ``config.toml`` (every value in use), ``model.safetensors``, ``parity.png`` and last
    ``metrics.json``, all as `loop.train` does.  A finished run is left as it is.  Of ``[train]`` only
    ``evaluation_batch_size`` has a meaning.

    Parameters
    ----------
    job : TrainJob
    progress : bool
        Print what is done.

    Raises
    ------
    ConfigError
        The folder holds another run, or is being written to; a wrong key of the model; not enough memory.
    DataError, StructureError, SpeciesError, ModelError
        Data or model that cannot be used; see `load`, `resolve_model` and ``solve`` of the model.
    NumericalError
        A system that cannot be solved.
    """
    started = time.monotonic()
    _refuse_starts(job)
    make_folder(job.output)
    with exclusive(job.output):
        data = load(job.data)
        model_class, config = resolve_model(job.model, [*data.train, *data.validation])
        job = resolved(job, config)
        fingerprint = delta.fingerprint(data, job.data)
        remove_leftovers(job.output)
        with ProgressReport(f"solving {model_class.name}", shown=progress) as report:
            finished = _finished(job, fingerprint)
            if finished is not None:
                report.say(
                    f"{job.output} holds a finished run ({finished.stopped}); choose another folder to solve anew"
                )
                return finished
            point_out_problems(data, report)
            delta.try_out(model_class(config), job.data)
            data = delta.learned(data, job.data)
            write_text(job.output / "config.toml", to_toml(job))
            potential = _solved(job, data, model_class(config), report)
            return _finish(job, data, fingerprint, potential, started, report)


def _refuse_starts(job: TrainJob) -> None:
    given = [key for key in ("start_from", "learn") if getattr(job.train, key) is not None]
    if given:
        raise ConfigError(
            f"train.{given[0]} is for models that are trained in steps, and {job.model['name']!r} is solved in closed "
            "form; leave it out"
        )


def _solved(job: TrainJob, data: DataSet, model: Model, report: ProgressReport) -> Derived:
    isolated = {atomic_numbers[symbol]: energy for symbol, energy in job.data.isolated_energy_eV.items()}
    baseline = fit_baseline(data.train, isolated)
    if not isinstance(model, Solvable):
        raise ModelError(f"model {model.name!r} cannot be solved for; see `wanted`")
    train, validation = (
        _samples(_with_forces(frames, which, report), model, baseline)
        for frames, which in ((data.train, "training"), (data.validation, "validation"))
    )
    model.solve(train, validation, report.say)
    return Derived(model, baseline)


def _with_forces(frames: list[Frame], which: str, report: ProgressReport) -> list[Frame]:
    """What can be solved on; isolated atoms have said all that they can.

    Where no structure has forces, all are returned, so that ``solve`` says what it lacks.
    """
    bound = [frame for frame in frames if not is_isolated_atom(frame.atoms)]
    labelled = [frame for frame in bound if frame.labels.forces is not None]
    if labelled and len(labelled) < len(bound):
        report.say(f"{len(bound) - len(labelled)} of {len(bound)} {which} structures have no forces and are left out")
    return labelled or bound


def _samples(frames: list[Frame], model: Model, baseline: Baseline) -> list[Sample]:
    """Structures with their labels in the numbers of the model."""
    samples = []
    for frame in frames:
        if frame.atoms.pbc.any() and not model.periodic:
            raise StructureError(
                f"{frame.source} is periodic along {frame.atoms.pbc.tolist()}, and model {model.name!r} is for "
                "molecules alone; set pbc to False, or choose another model"
            )
        graph, labels = to_sample(frame, model.config.cutoff)
        reference = float(baseline.reference_energies(graph.numbers).sum())
        scaled = Properties(
            energy=None if labels.energy is None else (labels.energy - reference) / baseline.energy_scale,
            forces=None if labels.forces is None else labels.forces / baseline.energy_scale,
        )
        samples.append(Sample(graph, scaled))
    return samples


def _finish(
    job: TrainJob, data: DataSet, fingerprint: str, potential: Derived, started: float, report: ProgressReport
) -> TrainResult:
    """Write the checkpoint, and its errors on all validation structures last."""
    folder = job.output
    provenance = {
        "data": [str(path) for path in job.data.train],
        "data_sha256": fingerprint,
        "n_training_structures": len(data.train),
        "labels": sources_of_labels(data.train, ("energy", "forces")),
        seen.KEY: seen.marks([*data.train, *data.validation]),
        "level_of_theory": [level for level in levels(data.train) if level],
        "base": None if job.data.base is None else job.data.base.model_dump(mode="json"),
        "label_keys": job.data.keys.model_dump(mode="json"),
        "job": _identity(job),
    }
    checkpoint.save(delta.completed(potential, job.data), folder / CHECKPOINT_FILE, provenance)
    samples = [to_sample(frame, potential.cutoff) for frame in data.validation]
    groups = [frame.group for frame in data.validation]
    comparison = compare(potential, samples, groups, job.train.evaluation_batch_size)
    metrics = measure(comparison)
    parity(folder / "parity.png", comparison)
    minutes, stopped = (time.monotonic() - started) / 60, "solved"
    metrics.write(folder / "metrics.json", epochs=0.0, best_epoch=0.0, minutes=minutes, stopped=stopped)
    report.say(f"{stopped}; {minutes:.1f} min; wrote {folder / CHECKPOINT_FILE}")
    return TrainResult(folder / CHECKPOINT_FILE, metrics, 0.0, minutes, stopped)


def _identity(job: TrainJob) -> dict[str, Any]:
    """What makes a run this run: all of its configuration but where it is stored and what it is tested on."""
    return job.model_dump(mode="json", exclude={"output": True, "data": {"test"}})


def _finished(job: TrainJob, fingerprint: str) -> TrainResult | None:
    """The result of the same run if it ended earlier; ``None`` if there is none."""
    path: Path = job.output / CHECKPOINT_FILE
    if (job.output / STATE_FILE).exists():
        raise ConfigError(
            f"{job.output} holds the run of a model that is trained in steps; choose another output folder"
        )
    if not path.exists():
        return None
    header = checkpoint.read_header(path)
    earlier = header.provenance.get("job")
    if not isinstance(earlier, dict):
        raise ConfigError(f"{path} was not made by this job; choose another output folder")
    changes = changed_keys(earlier, json.loads(json.dumps(_identity(job))))
    if changes:
        raise ConfigError(
            f"{job.output} holds a run with another configuration: {'; '.join(changes)}; choose another output folder"
        )
    if header.provenance.get("data_sha256") != fingerprint:
        raise ConfigError(
            f"{job.output} holds a run on other data: structures or labels changed since; choose another output folder"
        )
    if not (job.output / "metrics.json").exists():
        return None
    return read_result(job.output)
