"""What the contract of a model promises: its construction, its outputs, no side effects, and its checkpoint."""

import builtins
import io
import socket
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pydantic import ValidationError
from torch import Tensor

from ase_mlcalc import checkpoint
from ase_mlcalc.graph import Graph
from ase_mlcalc.potential import Baseline, Derived, derive
from ase_mlcalc.properties import SPECS
from ase_mlcalc.testing.comparison import identical
from ase_mlcalc.testing.outcome import Judge
from ase_mlcalc.testing.subject import ModelSubject


def check_constructs(subject: ModelSubject, judge: Judge) -> None:
    """The defaults make a model, without files or network, and an unknown key is refused."""

    def forbidden(*_: Any, **__: Any) -> Any:
        judge.fail("the constructor opens files or connections; a model is built from its configuration alone")

    with (
        mock.patch.object(builtins, "open", forbidden),
        mock.patch.object(io, "open", forbidden),
        mock.patch.object(socket.socket, "connect", forbidden),
    ):
        model = subject.model_class(subject.model_class.Config())
    judge.require(model.name in repr(model).lower() or type(model).__name__ in repr(model), "repr does not name it")
    try:
        subject.model_class.Config.model_validate({"no_such_key": 1})
    except ValidationError:
        return
    judge.fail("Config takes an unknown key")


def check_outputs(subject: ModelSubject, judge: Judge) -> None:
    """The declared fields and no others, with their shapes, in the precision of the model, without NaN."""
    for dtype in (torch.float64, torch.float32):
        model = subject.model(dtype)
        judge.require(model.dtype in (dtype, torch.float64), "precision of the model", model.dtype, dtype)
        graph = _in(subject.graph(*subject.everything().values()), model.dtype)
        raw = model(graph)
        judge.require(raw.given() == subject.outputs, "fields returned", sorted(raw.given()))
        for name in raw.given():
            value: Tensor = getattr(raw, name)
            expected = _shape(name, graph)
            judge.require(tuple(value.shape) == expected, f"shape of {name}", tuple(value.shape), expected)
            judge.require(value.dtype == model.dtype, f"dtype of {name}", value.dtype, model.dtype)
            judge.require(torch.isfinite(value).all(), f"{name} has NaN or Inf on a check structure")


def check_inputs_untouched(subject: ModelSubject, judge: Judge) -> None:
    """Evaluation changes neither the graph nor the parameters, and a second call gives the same bits."""
    model = subject.model()
    graph = subject.graph(subject.crystal, subject.water)
    before = [field.clone() if isinstance(field, torch.Tensor) else None for field in graph]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    first = derive(model, graph, Baseline())
    with torch.no_grad():
        model(graph)  # the tensors of `graph` themselves: derive hands over copies of some
    second = derive(model, graph, Baseline())
    for name, was, now in zip(Graph._fields, before, graph, strict=True):
        if was is not None:
            judge.identical(f"graph.{name} after evaluation", now, was)
    for name, value in model.state_dict().items():
        judge.identical(f"model parameter {name} after evaluation", value, state[name])
    identical(judge, "second call", second, first)


def check_sees_only_vectors(subject: ModelSubject, judge: Judge) -> None:
    """Geometry enters through ``graph.vectors`` alone, or else through what is declared; for energies never.

    Otherwise forces and stress would miss a part.
    """
    model, graph = subject.model(), subject.graph(subject.crystal, subject.water)
    if subject.gives_energy:
        judge.require(model.reads == {"vectors"}, "an energy may be read from `vectors` alone", sorted(model.reads))
    others = {
        "positions": graph.positions,
        "cell": graph.cell,
        "shifts": graph.vectors,
        "velocities": graph.positions,
        "masses": graph.positions[:, 0],
    }
    hidden = {name: value for name, value in others.items() if name not in model.reads}
    nonsense: dict[str, Any] = {name: torch.full_like(value, torch.nan) for name, value in hidden.items()}
    with torch.no_grad():
        changed = model(graph._replace(**nonsense))
        identical(judge, f"outputs with other {', '.join(nonsense)}", changed, model(graph))


def check_save_load(subject: ModelSubject, judge: Judge) -> None:
    """A checkpoint gives back the same bits, in either precision."""
    for dtype in (torch.float64, torch.float32):
        saved = Derived(subject.model(dtype), Baseline({z: -0.1 * z for z in subject.config.species}, 0.7, 1.1, 1.3))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            checkpoint.save(saved, path)
            loaded = checkpoint.load(path)
        assert isinstance(loaded, Derived)
        judge.require(loaded.dtype == saved.dtype, "dtype after loading", loaded.dtype, saved.dtype)
        judge.require(loaded.model.config == saved.model.config, "configuration after loading", loaded.model.config)
        graph = subject.graph(subject.crystal, subject.ethanol)
        identical(judge, f"saved and loaded in {dtype}", loaded(graph), saved(graph))


def _shape(name: str, graph: Graph) -> tuple[int, ...]:
    if name == "edge_forces":
        return (len(graph.vectors), 3)
    return (graph.n_atoms if SPECS[name].per == "atom" else graph.n_structures, *SPECS[name].components)


def _in(graph: Graph, dtype: torch.dtype) -> Graph:
    return graph._replace(vectors=graph.vectors.to(dtype))
