"""One labelled structure, and several of them as one batch for a model."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ase_mlcalc import graph as graphs
from ase_mlcalc.errors import DataError, StructureError
from ase_mlcalc.graph import Graph
from ase_mlcalc.properties import SPECS, Properties

DEFINITION_KEY = "stress_definition"
"""In ``Atoms.info``: how labelled per-atom stress was split over atoms, in words."""
LEVEL_KEY = "level_of_theory"
"""In ``Atoms.info``: what the labels were computed with, in words."""


class Note(NamedTuple):
    """Something that happened to a label while it was read and that its user should know."""

    text: str
    size: float | None = None
    """How large the effect is, if that can be said."""
    unit: str = ""


class Provenance(NamedTuple):
    """Where the labels of a structure came from."""

    origins: Mapping[str, str] = MappingProxyType({})
    """Label name to what it was read from, e.g. ``{"energy": "REF_energy"}``."""
    notes: tuple[Note, ...] = ()


class Frame(NamedTuple):
    """One labelled structure."""

    atoms: Atoms
    """Numbers, positions (Å), cell, pbc and momenta if any; plain entries of ``info``; no calculator."""
    labels: Properties
    """Float64, shaped for one structure: energy (1,), energies (N,), forces (N, 3), stress (1, 3, 3), stresses
    (N, 3, 3), in eV and Å; ``None`` where not labelled."""
    group: str
    """What the data set calls this kind of structure (``config_type`` or similar); "" if nothing."""
    source: str
    """File and index, ``"file.xyz[12]"``."""
    provenance: Provenance = Provenance()
    """Where each label came from."""


class Sample(NamedTuple):
    """What a model is trained on: the graph of one or several structures, and their labels."""

    graph: Graph
    labels: Properties


def elements(frames: Iterable[Frame]) -> list[int]:
    """Atomic numbers in any of the structures, ascending."""
    return sorted({int(z) for frame in frames for z in np.unique(frame.atoms.numbers)})


def sources_of_labels(frames: Sequence[Frame], names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """What was read as which label: ``{"stresses": {"read_from": ["REF_stresses"], "definition": ["..."]}}``.

    How a stress is split over atoms is a definition, which structures tell as ``stress_definition`` in ``info``; the
    list is empty if none does.
    """
    found = {}
    for name in sorted(names):
        labelled = [frame for frame in frames if getattr(frame.labels, name) is not None]
        origins = {frame.provenance.origins[name] for frame in labelled if name in frame.provenance.origins}
        found[name] = {"read_from": sorted(origins)}
        if name == "stresses":
            told = {frame.atoms.info.get(DEFINITION_KEY) for frame in labelled}
            found[name]["definition"] = sorted(str(definition) for definition in told if definition is not None)
    return found


def to_sample(frame: Frame, cutoff: float) -> Sample:
    """The graph of a labelled structure, with its labels.

    Parameters
    ----------
    frame : Frame
    cutoff : float, Å

    Raises
    ------
    StructureError
        A structure without a graph (two atoms on one spot, positions that are not finite); the message names it.
    """
    try:
        graph = graphs.from_atoms(frame.atoms, cutoff)
    except StructureError as error:
        raise StructureError(f"{frame.source}: {error}") from error
    return Sample(graph, frame.labels)


def collate(samples: Sequence[Sample]) -> Sample:
    """Several samples as one batch; structures keep their order.

    A label that only some of the samples have is NaN in the others; one that none has stays ``None``.

    Raises
    ------
    StructureError
        Nothing to collate.
    """
    graph = graphs.collate([sample.graph for sample in samples])
    if len(samples) == 1:
        return samples[0]
    return Sample(graph, Properties(**{name: _joined(name, samples) for name in SPECS}))


def _joined(name: str, samples: Sequence[Sample]) -> Tensor | None:
    if all(getattr(sample.labels, name) is None for sample in samples):
        return None
    values: list[Tensor] = []
    for sample in samples:
        value = getattr(sample.labels, name)
        values.append(_missing(name, sample.graph) if value is None else value)
    return torch.cat(values)


def _missing(name: str, graph: Graph) -> Tensor:
    spec = SPECS[name]
    count = graph.n_structures if spec.per == "structure" else graph.n_atoms
    return torch.full((count, *spec.components), torch.nan, dtype=torch.float64)


def counts(frames: Sequence[Frame]) -> dict[str, int]:
    """How many structures have each label."""
    return {name: sum(getattr(frame.labels, name) is not None for frame in frames) for name in SPECS}


def require(frames: Sequence[Frame], names: set[str] | frozenset[str]) -> None:
    """Refuse data in which a label that is asked for is in no structure.

    Raises
    ------
    DataError
        Names each missing label and says which labels there are, as n of N structures.
    """
    unknown = sorted(set(names) - SPECS.keys())
    if unknown:
        raise DataError(f"unknown labels {unknown} asked for; known are {', '.join(SPECS)}")
    have = counts(frames)
    missing = [name for name in SPECS if name in names and have[name] == 0]
    if missing:
        table = ", ".join(f"{name} in {count}/{len(frames)}" for name, count in have.items())
        raise DataError(
            f"{', '.join(missing)} asked for but in 0/{len(frames)} structures (found {table}); "
            "name the key that holds it, or leave it out of the loss"
        )
