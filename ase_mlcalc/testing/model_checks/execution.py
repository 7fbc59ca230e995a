"""The same numbers however a model is executed: in single precision, compiled, exported."""

import warnings

import torch

from ase_mlcalc.potential import Derived
from ase_mlcalc.testing import outcome
from ase_mlcalc.testing.comparison import close
from ase_mlcalc.testing.outcome import Judge
from ase_mlcalc.testing.subject import ModelSubject


def check_float32(subject: ModelSubject, judge: Judge) -> None:
    """Single precision agrees with double precision."""
    graph = subject.graph(subject.crystal, subject.ethanol)
    single, double = Derived(subject.model().to(torch.float32))(graph), subject.potential(graph)
    judge.require(
        single.energy is None or single.energy.dtype == torch.float64, "energy is summed in less than float64"
    )
    close(judge, "float32 against float64", single, double, outcome.SINGLE_PRECISION)


def check_compile(subject: ModelSubject, judge: Judge) -> None:
    """``torch.compile`` (graph capture of forward and backward) gives the same numbers, for other sizes too."""
    model = subject.model()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    for atoms in (subject.crystal, subject.ethanol):
        graph = subject.graph(atoms)
        results = []
        for run in (model, compiled):
            vectors = graph.vectors.clone().requires_grad_()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's own, where it breaks a graph in two
                raw = run(graph._replace(vectors=vectors))
            total = torch.stack([getattr(raw, name).sum() for name in sorted(raw.given())]).sum()
            results.append((total, *torch.autograd.grad(total, vectors, materialize_grads=True)))
        for what, eager, captured in zip(("outputs", "gradient"), *results, strict=True):
            judge.close(f"{what}, compiled", captured, eager, outcome.COMPILED)


def check_export(subject: ModelSubject, judge: Judge) -> None:
    """``torch.export`` gives the same numbers."""
    model = subject.model().requires_grad_(False)
    graph = subject.graph(subject.crystal, subject.ethanol)
    exported = torch.export.export(model, (graph,), strict=False).module()
    with torch.no_grad():
        close(judge, "exported", exported(graph), model(graph), outcome.COMPILED)
