"""How far predictions are from labels, overall, per element and per group of structures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase.data import chemical_symbols
from ase.units import GPa
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ase_mlcalc.data.frames import Frame, Sample, collate, elements, to_sample
from ase_mlcalc.errors import DataError, NumericalError, StructureError
from ase_mlcalc.files import write_text
from ase_mlcalc.model import check_species
from ase_mlcalc.potential import Potential
from ase_mlcalc.properties import SPECS, VOIGT, Properties
from ase_mlcalc.training.processes import ALONE, Processes

MEV = 1e-3
VOIGT_NAMES = tuple("xyz"[a] + "xyz"[b] for a, b in VOIGT)
SMALLEST_SPREAD = 1e-9
"""Labels of a component that vary less than this, by their size, are all the same; then there is no R²."""


class ElementMetrics(BaseModel):
    """Force errors on the atoms of one element."""

    model_config = ConfigDict(frozen=True)

    n_atoms: int
    force_mae_meV_per_A: float | None = None
    force_rmse_meV_per_A: float | None = None


class ComponentErrors(BaseModel):
    """Errors of one component of per-atom stress, relative to the standard deviation of its labels."""

    model_config = ConfigDict(frozen=True)

    r2: float
    mse_standardised: float
    mae_standardised: float


class Errors(BaseModel):
    """Errors over a set of structures; ``None`` where it has no such label or the potential no such property.

    Force errors are over components, stress errors over the nine components of the tensor (shear ones count twice, so
    that the RMSE does not depend on the axes); energy errors are divided by the number of atoms of the structure.
    Per-atom stresses are compared as they are stored, divided by the total volume.  For their coefficient of
    determination R² and the standardised errors, each of the six components is divided by the standard deviation that
    its labels have in the set; then it is averaged over components, of which xx, yy, zz are called normal and yz, xz,
    xy shear.
    """

    model_config = ConfigDict(frozen=True)

    n_structures: int
    n_atoms: int
    force_mae_meV_per_A: float | None = None
    force_rmse_meV_per_A: float | None = None
    energy_mae_meV_per_atom: float | None = None
    energy_rmse_meV_per_atom: float | None = None
    stress_mae_GPa: float | None = None
    stress_rmse_GPa: float | None = None
    stresses_mae_GPa: float | None = None
    stresses_rmse_GPa: float | None = None
    stresses_r2: float | None = None
    stresses_normal_r2: float | None = None
    stresses_shear_r2: float | None = None
    stresses_mse_standardised: float | None = None
    stresses_mae_standardised: float | None = None
    stresses_components: dict[str, ComponentErrors] | None = None
    """Of xx, yy, zz, yz, xz and xy."""


class Metrics(Errors):
    """Errors over all structures, per element and per group."""

    elements: dict[str, ElementMetrics] = Field(default_factory=dict)
    groups: dict[str, Errors] = Field(default_factory=dict)

    def write(self, path: Path, **more: object) -> None:
        """Write as JSON, with further entries."""
        write_text(path, json.dumps({**self.model_dump(mode="json"), **more}, indent=2, ensure_ascii=False) + "\n")


class Comparison(NamedTuple):
    """Predictions and labels of B structures with N atoms, float64 on the CPU; NaN where there is no label."""

    numbers: Tensor
    """(N,)"""
    system: Tensor
    """(N,) structure of each atom."""
    groups: tuple[str, ...]
    """(B,) group of each structure."""
    prediction: Properties
    labels: Properties

    def of(self, chosen_b: Tensor) -> "Comparison":
        """Only the structures that a (B,) mask chooses."""
        chosen_n = chosen_b[self.system]
        renumbered = torch.cumsum(chosen_b, 0) - 1

        def cut(properties: Properties) -> Properties:
            kept = {
                name: None if value is None else value[chosen_b if SPECS[name].per == "structure" else chosen_n]
                for name, value in properties._asdict().items()
            }
            return Properties(**kept)

        groups = tuple(group for group, keep in zip(self.groups, chosen_b.tolist(), strict=True) if keep)
        system = renumbered[self.system[chosen_n]]
        return Comparison(self.numbers[chosen_n], system, groups, cut(self.prediction), cut(self.labels))


def evaluate(potential: Potential, frames: Sequence[Frame], batch_size: int = 16) -> Metrics:
    """Errors of a potential on labelled structures.

    Parameters
    ----------
    potential : Potential
    frames : sequence of Frame
    batch_size : int
        Structures that are evaluated at once; the result does not depend on it.

    Raises
    ------
    DataError
        No structures.
    SpeciesError
        An element that the potential does not know.
    NumericalError
        A prediction is NaN or Inf where there is a label.
    """
    return measure(compare_frames(potential, frames, batch_size))


def compare_frames(potential: Potential, frames: Sequence[Frame], batch_size: int = 16) -> Comparison:
    """Predictions beside labels; see `evaluate`."""
    samples, groups = samples_for(potential, frames, "the potential")
    try:
        return compare(potential, samples, groups, batch_size)
    except (DataError, StructureError):
        _name_refused(potential, frames, samples)
        raise


def _name_refused(potential: Potential, frames: Sequence[Frame], samples: Sequence[Sample]) -> None:
    """Say which structure it is that a potential refuses; in a batch it does not know."""
    for frame, sample in zip(frames, samples, strict=True):
        try:
            potential(sample.graph.to(potential.device))
        except (DataError, StructureError) as error:
            raise type(error)(f"{frame.source}: {error}") from error


def samples_for(potential: Potential, frames: Sequence[Frame], called: str) -> tuple[list[Sample], list[str]]:
    """Graphs and labels of structures that a potential, which is `called` so, can be evaluated on; their groups."""
    if not frames:
        raise DataError("no structures to evaluate; give at least one")
    check_species(elements(frames), potential.species, called)
    return [to_sample(frame, potential.cutoff) for frame in frames], [frame.group for frame in frames]


def compare(
    potential: Potential,
    samples: Sequence[Sample],
    groups: Sequence[str],
    batch_size: int,
    processes: Processes = ALONE,
) -> Comparison:
    """Predictions beside labels for structures whose graphs are at hand, on any device.

    Several `processes` that all ask share the work and get the same.
    """
    # of similar size together, so that one large structure does not make a whole batch large
    order = sorted(range(len(samples)), key=lambda b: samples[b].graph.n_atoms)
    predicted = [Properties()] * len(samples)
    if processes.size > 1:
        predicted = [_zeros(potential, sample.graph.n_atoms) for sample in samples]
    for first in processes.share(range(0, len(order), batch_size)):
        members = order[first : first + batch_size]
        graph = collate([samples[b] for b in members]).graph.to(potential.device)
        result = Properties(*(None if v is None else v.cpu().double() for v in potential(graph)))
        counts = [samples[b].graph.n_atoms for b in members]
        for b, one in zip(members, _apart(result, counts), strict=True):
            predicted[b] = one
    graphs = [sample.graph for sample in samples]
    sizes = torch.tensor([graph.n_atoms for graph in graphs])
    labels = [Properties(*(None if v is None else v.cpu() for v in sample.labels)) for sample in samples]
    prediction = _together(predicted, sizes.tolist())
    processes.add([value for value in prediction if value is not None])
    return Comparison(
        numbers=torch.cat([graph.numbers for graph in graphs]).cpu(),
        system=torch.repeat_interleave(torch.arange(len(samples)), sizes),
        groups=tuple(groups),
        prediction=prediction,
        labels=_together(labels, sizes.tolist()),
    )


def _zeros(potential: Potential, n_atoms: int) -> Properties:
    """What another process adds its result to."""
    rows = {name: 1 if SPECS[name].per == "structure" else n_atoms for name in potential.properties & SPECS.keys()}
    zeros = {name: torch.zeros(n, *SPECS[name].components, dtype=torch.float64) for name, n in rows.items()}
    return Properties(**zeros)


def _apart(properties: Properties, counts: list[int]) -> list[Properties]:
    """One `Properties` per structure of a batch."""
    pieces = {
        name: value.split(1 if SPECS[name].per == "structure" else counts)
        for name, value in properties._asdict().items()
        if value is not None
    }
    return [Properties(**{name: piece[b] for name, piece in pieces.items()}) for b in range(len(counts))]


def _together(several: Sequence[Properties], counts: list[int]) -> Properties:
    """Properties of all structures, NaN where one has none; ``None`` where none has."""
    joined: dict[str, Tensor | None] = {}
    for name, spec in SPECS.items():
        values = [getattr(one, name) for one in several]
        if all(value is None for value in values):
            continue
        joined[name] = torch.cat(
            [
                torch.full((1 if spec.per == "structure" else count, *spec.components), torch.nan, dtype=torch.float64)
                if value is None
                else value
                for value, count in zip(values, counts, strict=True)
            ]
        )
    return Properties(**joined)


def measure(comparison: Comparison) -> Metrics:
    """Errors of predictions that are at hand.

    Raises
    ------
    NumericalError
        A prediction is NaN or Inf where there is a label.
    """
    overall = _errors(comparison)
    names = sorted(set(comparison.groups))
    groups = {}
    if len(names) > 1:
        for name in names:
            chosen_b = torch.tensor([group == name for group in comparison.groups])
            groups[name or "(none)"] = Errors(**_errors(comparison.of(chosen_b)))
    return Metrics(**overall, elements=_per_element(comparison), groups=groups)


def _errors(comparison: Comparison) -> dict[str, Any]:
    n_atoms_b = torch.bincount(comparison.system, minlength=len(comparison.groups))
    force = _labelled_errors(comparison, "forces")
    energy = _labelled_errors(comparison, "energy", per=n_atoms_b)
    stress = _labelled_errors(comparison, "stress")
    stresses = _labelled_errors(comparison, "stresses")
    return {
        "n_structures": len(comparison.groups),
        "n_atoms": len(comparison.numbers),
        "force_mae_meV_per_A": _mae(force, MEV),
        "force_rmse_meV_per_A": _rmse(force, MEV),
        "energy_mae_meV_per_atom": _mae(energy, MEV),
        "energy_rmse_meV_per_atom": _rmse(energy, MEV),
        "stress_mae_GPa": _mae(stress, GPa),
        "stress_rmse_GPa": _rmse(stress, GPa),
        "stresses_mae_GPa": _mae(stresses, GPa),
        "stresses_rmse_GPa": _rmse(stresses, GPa),
        **_standardised(comparison),
    }


def _standardised(comparison: Comparison) -> dict[str, Any]:
    """Errors of per-atom stress relative to the spread of its labels, component by component."""
    prediction, label = comparison.prediction.stresses, comparison.labels.stresses
    if prediction is None or label is None:
        return {}
    labelled_n = ~label.isnan().any(dim=(1, 2))
    rows, columns = zip(*VOIGT, strict=True)
    label_nk, error_nk = (x[labelled_n][:, rows, columns] for x in (label, prediction - label))
    if len(label_nk) < 2:
        return {}
    spread_k = label_nk.std(dim=0, correction=0)
    if not bool((spread_k > SMALLEST_SPREAD * label_nk.abs().max()).all()):  # a component that is the same everywhere
        return {}
    z_nk = error_nk / spread_k
    mse_k, mae_k = z_nk.square().mean(dim=0), z_nk.abs().mean(dim=0)
    r2_k = 1 - mse_k
    components = zip(VOIGT_NAMES, r2_k.tolist(), mse_k.tolist(), mae_k.tolist(), strict=True)
    return {
        "stresses_r2": r2_k.mean().item(),
        "stresses_normal_r2": r2_k[:3].mean().item(),
        "stresses_shear_r2": r2_k[3:].mean().item(),
        "stresses_mse_standardised": mse_k.mean().item(),
        "stresses_mae_standardised": mae_k.mean().item(),
        "stresses_components": {
            name: ComponentErrors(r2=r2, mse_standardised=mse, mae_standardised=mae)
            for name, r2, mse, mae in components
        },
    }


def _per_element(comparison: Comparison) -> dict[str, ElementMetrics]:
    elements = {}
    for number in comparison.numbers.unique().tolist():
        chosen_n = comparison.numbers == number
        force = _labelled_errors(comparison, "forces", only=chosen_n)
        elements[chemical_symbols[number]] = ElementMetrics(
            n_atoms=int(chosen_n.sum()),
            force_mae_meV_per_A=_mae(force, MEV),
            force_rmse_meV_per_A=_rmse(force, MEV),
        )
    return elements


def _labelled_errors(
    comparison: Comparison, name: str, *, per: Tensor | None = None, only: Tensor | None = None
) -> Tensor | None:
    """Prediction - label of all labelled components, flat; ``None`` if there are none."""
    prediction, label = getattr(comparison.prediction, name), getattr(comparison.labels, name)
    if prediction is None or label is None:
        return None
    error = prediction - label
    if per is not None:
        error = error / per
    chosen = ~label.isnan()
    if only is not None:
        chosen &= only.reshape(-1, *[1] * (label.ndim - 1))
    error = error[chosen]
    if not error.isfinite().all():
        raise NumericalError(
            f"the potential gave NaN or Inf for {name} of {int((~error.isfinite()).sum())} labelled components; "
            "are there structures far from its training data, or stress labels of structures without a cell?"
        )
    return error if len(error) else None


def _mae(error: Tensor | None, unit: float) -> float | None:
    return None if error is None else error.abs().mean().item() / unit


def _rmse(error: Tensor | None, unit: float) -> float | None:
    return None if error is None else error.square().mean().sqrt().item() / unit
