"""Errors of a trained potential on files of labelled structures."""

from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from ase_mlcalc import accelerate
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.read import LabelKeys, read_frames
from ase_mlcalc.files import atomic_path, make_folder
from ase_mlcalc.properties import SPECS
from ase_mlcalc.training.figures import parity
from ase_mlcalc.training.metrics import Comparison, Metrics, compare_frames, measure
from ase_mlcalc.training.seen import n_seen
from ase_mlcalc.training.stress_views import SplitBy, split_as_labels, with_kinetic_part
from ase_mlcalc.virials import definition_at_hand


def evaluate_files(
    model_path: Path | str,
    paths: Sequence[Path | str],
    out: Path | str,
    *,
    keys: LabelKeys = LabelKeys(),  # noqa: B008  (frozen)
    format: str | None = None,  # noqa: A002  (ASE's word)
    index: str = ":",
    batch_size: int = 16,
    predictions: bool = False,
    definition: str | None = None,
    kinetic: bool = False,
) -> Metrics:
    """Errors of a checkpoint on labelled structures, written to a folder.

    Writes ``parity.png``, ``predictions.extxyz`` if asked for, and last ``metrics.json``, which also says how many of
    the structures the potential was trained or validated on.

    Parameters
    ----------
    model_path : path
        A checkpoint, or a ``.compiled`` file.
    paths : sequence of paths
        Files with labelled structures.
    out : path
        Folder for the results.
    keys, format, index
        As in `read_frames`.
    batch_size : int
        Structures that are evaluated at once.
    predictions : bool
        Write structures with predictions as calculator results and labels as ``REF_energy``, ``REF_forces`` and
        ``REF_stress``; always the potential part of stresses.
    definition : str, optional
        How per-atom stress is split over atoms, one of `ase_mlcalc.virials.DEFINITIONS`; default: as the labels say
        theirs is (``stress_definition`` in ``info``), or else as the potential gives it.
    kinetic : bool
        Measure stress and per-atom stress with the kinetic part, which follows from the momenta of the structures.

    Raises
    ------
    CheckpointError, DataError, SpeciesError, NumericalError
        Unreadable checkpoint or data; an element that the potential does not know; NaN predictions; no momenta;
        per-atom stress labelled by several definitions, or by one that the model cannot give.
    ConfigError
        A definition that the model cannot give.
    """
    loaded = accelerate.load(model_path)
    frames = read_frames(paths, keys=keys, format=format, index=index)
    of_labels = accelerate.definitions_of_labels(model_path)
    at_hand = definition_at_hand(loaded, of_labels)
    definition = split_as_labels(loaded, frames, of_labels, definition)
    potential = accelerate.with_kernels(loaded) if definition is None else SplitBy(loaded, definition)
    comparison = compare_frames(potential, frames, batch_size)
    shown = with_kinetic_part(comparison, frames) if kinetic else comparison
    metrics = measure(shown)
    out = Path(out)
    make_folder(out)
    parity(out / "parity.png", shown)
    if predictions:
        write_predictions(out / "predictions.extxyz", frames, comparison, definition or at_hand)
    metrics.write(
        out / "metrics.json",
        model=str(model_path),
        data=[str(path) for path in paths],
        n_seen_in_training=n_seen(model_path, frames),
        stress_definition=definition or at_hand,
        kinetic_part=kinetic,
    )
    return metrics


def write_predictions(path: Path, frames: Sequence[Frame], comparison: Comparison, stress_definition: str) -> None:
    """Write structures with predictions as results and labels as ``REF_*``, in eV, eV/Å and eV/Å³ (Voigt order).

    With per-atom stress, ``info`` says by which definition it is split over atoms.
    """
    images = []
    for b, frame in enumerate(frames):
        atoms = frame.atoms.copy()
        of_structure = (comparison.system == b).numpy()
        results = {}
        for name, spec in SPECS.items():
            predicted: Tensor | None = getattr(comparison.prediction, name)
            if predicted is None:
                continue
            value = predicted[b].numpy() if spec.per == "structure" else predicted.numpy()[of_structure]
            value = full_3x3_to_voigt_6_stress(value) if spec.components == (3, 3) else value
            if np.isfinite(value).all():
                results[name] = float(value) if value.ndim == 0 else value
        for name in ("energy", "forces", "stress"):
            label: Tensor | None = getattr(frame.labels, name)
            if label is None:
                continue
            if name == "forces":
                atoms.set_array("REF_forces", label.numpy())
            else:
                atoms.info[f"REF_{name}"] = label[0].numpy() if label.ndim > 1 else float(label[0])
        if "stresses" in results:
            atoms.info["stress_definition"] = stress_definition
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    with atomic_path(path) as part:
        ase.io.write(part, images, format="extxyz")
