"""Several potentials on the same labelled structures: errors, speed and size beside each other."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from ase import Atoms
from pydantic import BaseModel, ConfigDict

from ase_mlcalc import accelerate
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.read import LabelKeys, read_frames
from ase_mlcalc.ensemble import Ensemble, models_of
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.files import make_folder, write_text
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.neighbors import NeighborList
from ase_mlcalc.potential import Derived, Potential
from ase_mlcalc.training.metrics import Comparison, Metrics, compare_frames, measure
from ase_mlcalc.training.seen import n_seen
from ase_mlcalc.training.side_by_side_plot import Contestant, side_by_side_plot
from ase_mlcalc.training.state import CHECKPOINT_FILE

MOST_TIMING_S = 60.0
"""Timing ends after the round in which this is exceeded."""
FEWEST_ROUNDS = 3
WARM_UP_CALLS = 2
SKIN_ANGSTROM = 0.5
JITTER_ANGSTROM = 0.005
"""By which atoms are displaced between two timed calls, so that nothing can be reused but the neighbour list."""


class Row(BaseModel):
    """One potential in a comparison."""

    model_config = ConfigDict(frozen=True)

    name: str
    path: str
    families: list[str]
    """Names of the models in it, each once."""
    n_members: int
    """1 for a single model."""
    parameters: int
    """Numbers that its models hold, over all members; those of a kernel model grow with its training data."""
    dtype: str
    device: str
    ms_per_call: float
    """Median wall time of neighbours, energy, forces and whatever else it predicts for `n_atoms_timed` atoms."""
    n_atoms_timed: int
    threads: int
    n_seen_in_training: int | None = None
    """Structures that it was trained or validated on; ``None`` if its file does not say."""
    metrics: Metrics


def compare_files(
    models: Sequence[Path | str],
    paths: Sequence[Path | str],
    out: Path | str,
    *,
    keys: LabelKeys = LabelKeys(),  # noqa: B008  (frozen)
    format: str | None = None,  # noqa: A002  (ASE's word)
    index: str = ":",
    batch_size: int = 16,
    repeats: int = 20,
) -> list[Row]:
    """Errors, speed and size of several checkpoints on the same labelled structures.

    Writes ``compare.png``, and last ``compare.json``.

    Parameters
    ----------
    models : sequence of paths
        Checkpoints, or folders that training wrote.
    paths : sequence of paths
        Files with labelled structures.
    out : path
        Folder for the results.
    keys, format, index
        As in `read_frames`.
    batch_size : int
        Structures that are evaluated at once.
    repeats : int
        Timed calls of each potential, interleaved.

    Raises
    ------
    MLCalcError
        What reading or evaluating one of them raises, with its name.
    """
    if not models:
        raise ConfigError("nothing to compare: give at least one checkpoint")
    files = [checkpoint_of(path) for path in models]
    loaded = [accelerate.with_kernels(accelerate.load(file)) for file in files]
    names = short_names(files)
    frames = read_frames(paths, keys=keys, format=format, index=index)
    compared = [_compare(name, one, frames, batch_size) for name, one in zip(names, loaded, strict=True)]
    metrics = [measure(one) for one in compared]
    typical = typical_structure(frames)
    times = time_calls(loaded, typical, repeats)
    rows = [
        Row(
            name=name,
            path=str(file),
            families=sorted({model.name for model in models_of(one)}),
            n_members=len(one.members) if isinstance(one, Ensemble) else 1,
            parameters=sum(model.size for model in models_of(one)),
            dtype=str(one.dtype).removeprefix("torch."),
            device=str(one.device),
            ms_per_call=ms,
            n_atoms_timed=len(typical),
            threads=torch.get_num_threads(),
            n_seen_in_training=n_seen(file, frames),
            metrics=own,
        )
        for name, file, one, ms, own in zip(names, files, loaded, times, metrics, strict=True)
    ]
    out = Path(out)
    make_folder(out)
    contestants = [
        Contestant(row.name, one, row.metrics, row.ms_per_call) for row, one in zip(rows, compared, strict=True)
    ]
    side_by_side_plot(out / "compare.png", contestants, f"{len(typical)} atoms")
    content = {"data": [str(path) for path in paths], "models": [row.model_dump(mode="json") for row in rows]}
    write_text(out / "compare.json", json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return rows


def checkpoint_of(path: Path | str) -> Path:
    """The checkpoint in a folder that training wrote, or the path itself."""
    path = Path(path)
    return path / CHECKPOINT_FILE if path.is_dir() else path


def split_arguments(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Checkpoints (``.safetensors`` and ``.compiled`` files, or folders of training) and files of data, in order.

    Raises
    ------
    ConfigError
        None of one kind.
    """
    suffixes = (".safetensors", accelerate.SUFFIX)
    models = [path for path in paths if path.suffix in suffixes or (path / CHECKPOINT_FILE).is_file()]
    data = [path for path in paths if path not in models]
    for kind, found in (("checkpoint (a .safetensors file, or a folder that training wrote)", models), ("data", data)):
        if not found:
            raise ConfigError(
                f"no {kind} among {', '.join(map(str, paths))}; give checkpoints, then files with labelled structures"
            )
    return models, data


def short_names(files: Sequence[Path]) -> list[str]:
    """A name for each checkpoint: of its file, or of its folder where files are called ``model``; else its path."""
    names = [file.absolute().parent.name if file.name == CHECKPOINT_FILE else file.stem for file in files]
    return [name if names.count(name) == 1 else str(file) for name, file in zip(names, files, strict=True)]


def _compare(name: str, potential: Potential, frames: Sequence[Frame], batch_size: int) -> Comparison:
    try:
        return compare_frames(potential, frames, batch_size)
    except MLCalcError as error:
        raise type(error)(f"{name}: {error}") from error


def typical_structure(frames: Sequence[Frame]) -> Atoms:
    """A structure of median size."""
    by_size = sorted(range(len(frames)), key=lambda k: len(frames[k].atoms))
    return frames[by_size[len(frames) // 2]].atoms


def time_calls(potentials: Sequence[Derived | Ensemble], atoms: Atoms, repeats: int) -> list[float]:
    """Median wall time in ms of a call as in dynamics: neighbours of moved atoms, graph, and evaluation.

    Calls are interleaved, so that a busy machine slows all alike.

    Parameters
    ----------
    potentials : sequence of potentials
    atoms : ase.Atoms
        Not modified.
    repeats : int
        Calls of each, fewer if a minute is over.
    """
    moving, rng = atoms.copy(), np.random.default_rng(0)
    lists = [NeighborList(potential.cutoff, SKIN_ANGSTROM) for potential in potentials]
    times: list[list[float]] = [[] for _ in potentials]
    began = time.monotonic()
    for turn in range(WARM_UP_CALLS + repeats):
        moving.positions = atoms.positions + rng.normal(scale=JITTER_ANGSTROM, size=(len(atoms), 3))
        for potential, neighbors, own in zip(potentials, lists, times, strict=True):
            start = time.perf_counter()
            result = potential(from_atoms(moving, potential.cutoff, neighbors).to(potential.device))
            next(value for value in result if value is not None).cpu()  # waits for a GPU
            if turn >= WARM_UP_CALLS:
                own.append(1e3 * (time.perf_counter() - start))
        if turn >= WARM_UP_CALLS + FEWEST_ROUNDS - 1 and time.monotonic() - began > MOST_TIMING_S:
            break
    return [median(own) for own in times]
