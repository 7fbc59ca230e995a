"""The label audit: what a data set holds, where its labels came from, and what looks wrong, before any training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from ase import units
from ase.data import chemical_symbols
from ase.formula import Formula
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ase_mlcalc.data.baseline import SpeciesEnergyFit, fit_species_energy, residuals_per_atom
from ase_mlcalc.data.bonds import bonds_of
from ase_mlcalc.data.checks import CHECKS
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.geometry import G_PER_CM3, is_isolated_atom, volume
from ase_mlcalc.data.levels import levels
from ase_mlcalc.data.problems import Labelled, Problem, root_mean_square
from ase_mlcalc.errors import DataError
from ase_mlcalc.properties import SPECS

__all__ = ["Audit", "LabelCount", "Problem", "Range", "audit", "render_audit"]

STYLES = {"error": "bold red", "warning": "yellow", "not checked": "dim"}


class Range(NamedTuple):
    """Smallest, mean and largest of a quantity over structures."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class LabelCount:
    """In how many structures a label is, and what it was read from."""

    name: str
    unit: str
    n_labelled: int
    n_structures: int
    origins: Mapping[str, int]
    """Where it was read from to the number of structures."""


@dataclass(frozen=True)
class Audit:
    """What a data set holds.  Quantities that it does not have are ``None``."""

    n_structures: int
    n_atoms: int
    files: Mapping[str, int]
    """File to number of structures."""
    elements: Mapping[str, int]
    """Chemical symbol to number of atoms."""
    compositions: Mapping[str, int]
    """Formula to number of structures."""
    groups: Mapping[str, int]
    levels: Mapping[str, int]
    """Level of theory to number of structures, "not stated" where they do not say theirs."""
    periodicity: Mapping[str, int]
    """"molecule", "slab", ... to number of structures."""
    labels: Sequence[LabelCount]
    species_energy: SpeciesEnergyFit
    atoms_per_structure: Range
    volume_A3: Range | None
    density_g_per_cm3: Range | None
    residual_eV_per_atom: Range | None
    """Energy per atom after the reference energies, isolated atoms left out."""
    force_rms_eV_per_A: float | None
    max_force_eV_per_A: Range | None
    pressure_GPa: Range | None
    problems: Sequence[Problem]

    @property
    def errors(self) -> list[Problem]:
        """Problems that have to be solved before training."""
        return [problem for problem in self.problems if problem.severity == "error"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN become ``None``."""
        plain: dict[str, Any] = _plain(asdict(self))
        plain["species_energy"] = _plain(self.species_energy._asdict())
        energies = self.species_energy.species_energy
        plain["species_energy"]["species_energy"] = {chemical_symbols[z]: energy for z, energy in energies.items()}
        plain["problems"] = [problem._asdict() for problem in self.problems]
        return plain

    def table(self) -> Table:
        """The labels as "in n/N structures", with where each was read from."""
        table = Table("label", "in structures", "read from", "unit", title="labels", title_justify="left")
        for label in self.labels:
            origins = ", ".join(
                origin if count == label.n_labelled else f"{origin} ({count})"
                for origin, count in label.origins.items()
            )
            style = "" if label.n_labelled else "dim"
            counts = f"{label.n_labelled}/{label.n_structures}"
            table.add_row(label.name, counts, escape(origins) or "-", label.unit, style=style)
        return table


def audit(frames: Sequence[Frame]) -> Audit:
    """Look through a data set before it is trained on.

    Parameters
    ----------
    frames : sequence of Frame

    Returns
    -------
    Audit
        Counts, ranges, reference energies and `Problem`s: severity "error" for what has to be solved first
        (contradicting labels, wrong units or signs), "warning" for what should be looked at, "not checked" for
        what these structures cannot tell.

    Raises
    ------
    DataError
        No structures.
    """
    if not frames:
        raise DataError("no structures to look at; give at least one labelled structure")
    data = _labelled(frames)
    bound = np.array([not is_isolated_atom(frame.atoms) for frame in frames])
    mass = np.array([frame.atoms.get_masses().sum() for frame in frames])
    n_atoms = np.array([len(frame.atoms) for frame in frames])
    symbols = Counter(symbol for frame in frames for symbol in frame.atoms.symbols)
    sizes = np.where(bound, n_atoms, 0)
    forces = [frame.labels.forces.numpy() for frame in frames if frame.labels.forces is not None]
    return Audit(
        n_structures=len(frames),
        n_atoms=int(n_atoms.sum()),
        files=_counted(frame.source.split("[", 1)[0] for frame in frames),
        elements=dict(sorted(symbols.items(), key=lambda item: chemical_symbols.index(item[0]))),
        compositions=_counted(frame.atoms.get_chemical_formula() for frame in frames),
        groups=_counted(frame.group for frame in frames if frame.group),
        levels={level or "not stated": count for level, count in levels(frames).items()},
        periodicity=_counted(_periodicity(frame) for frame in frames),
        labels=[_label_count(name, frames) for name in SPECS],
        species_energy=data.fit,
        atoms_per_structure=Range(float(n_atoms.min()), float(n_atoms.mean()), float(n_atoms.max())),
        volume_A3=_range(data.volume),
        density_g_per_cm3=_range(np.where(sizes > 0, mass / data.volume, np.nan) * G_PER_CM3),
        residual_eV_per_atom=_range(data.residual),
        force_rms_eV_per_A=root_mean_square(forces) if forces else None,
        max_force_eV_per_A=_range(data.max_force),
        pressure_GPa=_range(data.pressure / units.GPa),
        problems=[problem for check in CHECKS for problem in check(data)],
    )


def _labelled(frames: Sequence[Frame]) -> Labelled:
    fit = fit_species_energy(frames)
    bound = np.array([not is_isolated_atom(frame.atoms) for frame in frames])
    return Labelled(
        frames=frames,
        fit=fit,
        residual=np.where(bound, residuals_per_atom(frames, fit.species_energy), np.nan),
        max_force=np.array([_max_force(frame) for frame in frames]),
        pressure=np.array([_pressure(frame) for frame in frames]),
        volume=np.array([volume(frame.atoms) for frame in frames]),
        composition=[Formula(frame.atoms.get_chemical_formula()).reduce()[0].format("hill") for frame in frames],
        bonds=cache(lambda k: bonds_of(frames[k])),
    )


def _max_force(frame: Frame) -> float:
    forces = frame.labels.forces
    return float("nan") if forces is None else float(forces.norm(dim=1).max())


def _pressure(frame: Frame) -> float:
    stress = frame.labels.stress
    return float("nan") if stress is None else -float(stress[0].trace()) / 3


def _periodicity(frame: Frame) -> str:
    kinds = {0: "molecule", 1: "wire", 2: "slab", 3: "bulk"}
    return "isolated atom" if is_isolated_atom(frame.atoms) else kinds[int(frame.atoms.pbc.sum())]


def _label_count(name: str, frames: Sequence[Frame]) -> LabelCount:
    labelled = [frame for frame in frames if getattr(frame.labels, name) is not None]
    origins = _counted(frame.provenance.origins.get(name, "not stated") for frame in labelled)
    return LabelCount(name, SPECS[name].unit, len(labelled), len(frames), origins)


def _counted(items: Any) -> dict[str, int]:
    return dict(Counter(items).most_common())


def _range(values: NDArray[np.float64]) -> Range | None:
    finite = values[np.isfinite(values)]
    return Range(float(finite.min()), float(finite.mean()), float(finite.max())) if len(finite) else None


def _plain(value: Any) -> Any:
    """Nested values as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def render_audit(result: Audit, console: Console) -> None:
    """Print an audit for people: contents, labels with their sources, ranges, reference energies, problems."""
    console.print(_contents(result))
    console.print(result.table())
    console.print(_ranges(result))
    _render_problems(result.problems, console)


def _contents(result: Audit) -> Table:
    table = Table(title="contents", title_justify="left", show_header=False)
    table.add_row("structures", f"{result.n_structures} with {result.n_atoms} atoms")
    for name, counts in (
        ("files", result.files),
        ("elements (atoms)", result.elements),
        ("compositions", result.compositions),
        ("groups", result.groups),
        ("levels of theory", result.levels),
        ("kinds", result.periodicity),
    ):
        if counts:
            table.add_row(name, escape(_top(counts)))
    return table


def _top(counts: Mapping[str, int], limit: int = 8) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:limit])
    return shown + (f", and {len(counts) - limit} more" if len(counts) > limit else "")


def _ranges(result: Audit) -> Table:
    table = Table("quantity", "lowest", "mean", "highest", "unit", title="ranges", title_justify="left")
    for name, values, unit in (
        ("atoms per structure", result.atoms_per_structure, ""),
        ("volume", result.volume_A3, "Å³"),
        ("density", result.density_g_per_cm3, "g/cm³"),
        ("energy - E0", result.residual_eV_per_atom, "eV/atom"),
        ("largest force", result.max_force_eV_per_A, "eV/Å"),
        ("pressure", result.pressure_GPa, "GPa"),
    ):
        if values is not None:
            table.add_row(name, *(f"{value:.4g}" for value in values), unit)
    if result.force_rms_eV_per_A is not None:
        table.add_row("force components, rms", "", f"{result.force_rms_eV_per_A:.4g}", "", "eV/Å")
    fit = result.species_energy
    for number, energy in fit.species_energy.items():
        table.add_row(f"E0 of {chemical_symbols[number]}", "", f"{energy:.6g}", "", "eV")
    if np.isfinite(fit.residual_rms_eV_per_atom):
        table.add_row("rms of energy - E0", "", f"{fit.residual_rms_eV_per_atom:.4g}", "", "eV/atom")
    table.caption = escape(f"E0: {_origin(fit)}")
    return table


def _origin(fit: SpeciesEnergyFit) -> str:
    """Where reference energies come from; where compositions do not determine them, a warning has it all."""
    if fit.rank == fit.n_species:
        return f"{fit.source}; rank {fit.rank} of {fit.n_species}"
    return "not determined by the compositions, see the warning below" if fit.species_energy else fit.source


def _render_problems(problems: Sequence[Problem], console: Console) -> None:
    if all(problem.severity == "not checked" for problem in problems):
        console.print("no problems found")
    for severity, style in STYLES.items():
        for problem in problems:
            if problem.severity == severity:
                console.print(f"[{style}]{severity}:[/] {escape(problem.message)}")
