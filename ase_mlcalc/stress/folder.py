"""Stress of a structure or trajectory as a folder: what ``ase-mlcalc stress`` writes."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ase_mlcalc.calculator import MLCalculator, definition_of
from ase_mlcalc.errors import ConfigError, DataError, StructureError
from ase_mlcalc.files import atomic_path, write_text
from ase_mlcalc.stress.binned import Binned
from ase_mlcalc.stress.extxyz import write_frame
from ase_mlcalc.stress.fields import FieldAverage, Localisation, StressField
from ase_mlcalc.stress.grid import Grid, require_volume
from ase_mlcalc.stress.hardy import Hardy
from ase_mlcalc.stress.invariants import pressure, von_mises
from ase_mlcalc.stress.irving_kirkwood import IrvingKirkwood
from ase_mlcalc.stress.kinetic import kinetic_stresses
from ase_mlcalc.stress.pictures import atoms_plot, histogram_plot, profile_plot, slice_plot
from ase_mlcalc.stress.planes import Planes
from ase_mlcalc.stress.write import FORMATS, write_field
from ase_mlcalc.virials import LEARNED_STRESS_DEFINITION

Array = NDArray[np.float64]

AXES = {"x": 0, "y": 1, "z": 2, "a": 0, "b": 1, "c": 2}
STRESSES, SUMMARY = "stresses.extxyz", "summary.json"
_MOST_ATOMS_IN_HISTOGRAM = 1_000_000
_SUM_TOLERANCE = 1e-3
"""Of what sums over atoms may miss of the stress: more than rounding in float32, less than any mistake."""


def localisation_named(name: str, bins: str, axis: str = "z", radius_A: float = 4.0) -> Localisation:
    """What the words of the command line mean.

    Parameters
    ----------
    name : "planes", "ik", "hardy" or "bins"
    bins : str
        ``"100"``: a profile along `axis`; ``"20x20x30"``: a grid.
    axis : "x", "y" or "z"
        First, second or third cell vector (also "a", "b", "c").
    radius_A : float, Å
        Of the localisation function of Hardy.

    Raises
    ------
    ConfigError
        Words that are not understood.
    """
    if axis not in AXES:
        raise ConfigError(f"axis is x, y or z (first, second or third cell vector), got {axis!r}")
    try:
        numbers = [int(word) for word in bins.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or min(numbers) < 1:
        raise ConfigError(f"bins are a number as 100, or three as 20x20x30; got {bins!r}")
    if name == Planes.name:
        if len(numbers) != 1:
            raise ConfigError(f"planes lie along one axis: give one number of them instead of {bins!r}")
        return Planes(AXES[axis], numbers[0])
    grid = Grid((numbers[0], numbers[1], numbers[2])) if len(numbers) == 3 else Grid.along(AXES[axis], numbers[0])
    if name == Hardy.name:
        return Hardy(grid, radius_A)
    for simple in (IrvingKirkwood, Binned):
        if name == simple.name:
            return simple(grid)
    raise ConfigError(f"a field is planes, ik, hardy or bins; got {name!r}")


class StressResult(NamedTuple):
    """What was made of a trajectory."""

    summary: dict[str, Any]
    """As in summary.json."""
    field: StressField | None
    files: list[Path]


def write_stress_folder(
    calc: Calculator,
    trajectory: Path | str,
    out: Path | str,
    *,
    localisation: Localisation | None = None,
    definition: str | None = None,
    kinetic: bool | None = None,
    index: str = ":",
    format: str | None = None,  # noqa: A002  (ASE's word)
    max_memory_GB: float | None = None,
) -> StressResult:
    """Per-atom stress of all frames, and the local stress averaged over them.

    Writes into `out`:

    - ``stresses.extxyz``: the frames with ``stress`` and ``stresses`` in eV/Å³ (potential part), with
      ``kinetic_stresses`` where there are velocities, and the definition as ``stress_definition`` in ``info``;
    - ``histogram.png`` and ``atoms.png`` (the last frame);
    - with a localisation ``field.npz``, ``field.csv``, ``field.vtk``, and ``profile.png`` or ``slices.png``;
    - ``summary.json``.

    Parameters
    ----------
    calc : ase.calculators.calculator.Calculator
        With ``stresses`` that sum to the stress.
    trajectory : path
        Any file of structures that ASE reads.
    out : path
    localisation : Planes, IrvingKirkwood, Hardy or Binned, optional
    definition : str, optional
        What to write as the definition of the per-atom stress of a calculator that does not say it itself.
    kinetic : bool, optional
        With the kinetic part; default: if the first frame has velocities.
    index : str
        Which frames, as in ASE.
    format : str, optional
        Of the trajectory: a name of ASE.
    max_memory_GB : float, optional
        What the averages of a field may take.

    Raises
    ------
    DataError, StructureError, ConfigError
        A trajectory that cannot be read or has no frames; frames without a cell of rank 3, or without velocities where
        the kinetic part is asked for (the message names the frame); a calculator without per-atom stress, or whose
        ``stresses`` do not sum to its stress; a grid that does not fit into memory.
    """
    out = Path(out)
    if "stresses" not in calc.implemented_properties:
        raise ConfigError(
            f"the potential gives {', '.join(calc.implemented_properties)} but no per-atom stresses; use one with "
            "energies, or one that predicts stresses"
        )
    average = None
    if localisation is not None:
        average = FieldAverage(localisation, calc, kinetic=kinetic, max_memory_GB=max_memory_GB)
    atomic = _AtomicStress(calc, definition, kinetic)
    last = None
    with atomic_path(out / STRESSES) as part, open(part, "w", encoding="utf-8") as file:
        for k, frame in enumerate(_with_progress(_read(Path(trajectory), index, format))):
            try:
                last = frame, atomic.add(frame)
                if average is not None:
                    average.add(frame)
            except StructureError as error:
                raise StructureError(f"{trajectory}, frame {k}: {error}") from error
            write_frame(file, frame, *last[1])
        if last is None:
            raise DataError(f"{trajectory} holds no structure at index {index!r}; give one with structures")
    field = None if average is None else average.result()
    if field is not None and field.definition is not None:
        field = replace(field, definition=atomic.definition)
    files = [out / STRESSES, out / "histogram.png", out / "atoms.png"]
    histogram_plot(files[1], *atomic.sample(), atomic.definition)
    atoms_plot(files[2], last[0], last[1].columns["stresses"], atomic.definition)
    if field is not None:
        files += _write_field_files(out, field)
    summary = atomic.summary() | {"trajectory": str(trajectory), "field": None if field is None else _describe(field)}
    write_text(out / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return StressResult(summary, field, [*files, out / SUMMARY])


class _Written(NamedTuple):
    """What of a frame goes into the file beside its geometry."""

    columns: dict[str, Array]
    info: dict[str, Any]


class _AtomicStress:
    """Per-atom stress of frames, with what the summary and the histogram need of all of them."""

    def __init__(self, calc: Calculator, definition: str | None, kinetic: bool | None) -> None:
        self.calc, self.kinetic = calc, kinetic
        own = definition_of(calc)
        if isinstance(calc, MLCalculator) and definition not in (None, own):
            learned = own.startswith(LEARNED_STRESS_DEFINITION)
            todo = "leave it out" if learned else f"make it with MLCalculator(..., stress_definition={definition!r})"
            raise ConfigError(f"the calculator splits the stress by definition {own!r}, not {definition!r}; {todo}")
        self.definition = definition or own
        self.n_frames = self.n_atoms = 0
        self._totals: list[Array] = []
        self._kinetic_totals: list[Array] = []
        self._worst_sum = 0.0
        self._symbols: list[NDArray[np.str_]] = []
        self._stresses_GPa: list[Array] = []

    def add(self, frame: Atoms) -> _Written:
        """Evaluate a frame."""
        require_volume(frame)
        self.kinetic = frame.has("momenta") if self.kinetic is None else self.kinetic
        stresses = np.asarray(self.calc.get_property("stresses", frame))
        stress = np.asarray(self.calc.get_property("stress", frame))
        columns = {"momenta": frame.get_momenta()} if frame.has("momenta") else {}
        columns["stresses"] = stresses
        if self.kinetic:
            columns["kinetic_stresses"] = kinetic_stresses(frame)
            self._kinetic_totals.append(columns["kinetic_stresses"].sum(axis=0))
        self._totals.append(stress)
        self._worst_sum = max(self._worst_sum, self._missing(stresses, stress))
        if self.n_atoms + len(frame) <= _MOST_ATOMS_IN_HISTOGRAM or not self._symbols:
            self._symbols.append(np.array(frame.get_chemical_symbols()))
            self._stresses_GPa.append(stresses * len(frame) / units.GPa)
        self.n_frames += 1
        self.n_atoms += len(frame)
        info = {key: v for key, v in frame.info.items() if isinstance(v, str | bool | int | float)}
        info |= {"stress": voigt_6_to_full_3x3_stress(stress), "stress_definition": self.definition}
        return _Written(columns, info)

    def _missing(self, stresses: Array, stress: Array) -> float:
        """eV/Å³, by how much the atoms miss the stress of the structure; far off, they are something else."""
        missing = float(np.abs(stresses.sum(axis=0) - stress).max())
        allowed = _SUM_TOLERANCE * max(float(np.linalg.norm(stresses, axis=0).max()), float(np.abs(stress).max()))
        if missing > allowed:
            raise ConfigError(
                f"the per-atom stresses of {type(self.calc).__name__} miss its stress by {missing:.2e} eV/Å³, expected "
                f"at most {allowed:.0e}: they have another sign, order or volume than ASE's; `ase-mlcalc check` tells "
                "more"
            )
        return missing

    def sample(self) -> tuple[NDArray[np.str_], Array]:
        """Elements and stresses in GPa (by V/N) of all atoms, or of as many as a histogram needs."""
        return np.concatenate(self._symbols), np.concatenate(self._stresses_GPa)

    def summary(self) -> dict[str, Any]:
        """What is told about the frames, in GPa."""
        symbols, stresses = self.sample()
        by_element = {
            str(name): {
                "pressure_mean_GPa": float(pressure(stresses[symbols == name]).mean()),
                "pressure_std_GPa": float(pressure(stresses[symbols == name]).std()),
                "von_mises_mean_GPa": float(von_mises(stresses[symbols == name]).mean()),
            }
            for name in np.unique(symbols)
        }
        means = np.mean(self._totals, axis=0)
        kinetic = np.mean(self._kinetic_totals, axis=0) if self._kinetic_totals else None
        return {
            "frames": self.n_frames,
            "atoms": self.n_atoms // self.n_frames,
            "stress_definition": self.definition,
            "stress_order": "xx yy zz yz xz xy, positive under tension",
            "stress_potential_GPa": (means / units.GPa).tolist(),
            "stress_kinetic_GPa": None if kinetic is None else (kinetic / units.GPa).tolist(),
            "largest_difference_of_sum_over_atoms_GPa": self._worst_sum / units.GPa,
            "atoms_by_element": by_element,
        }


def _write_field_files(out: Path, field: StressField) -> list[Path]:
    files = [out / f"field.{ending}" for ending in FORMATS]
    for path in files:
        write_field(field, path)
    if field.normal is not None:
        label = "total" if field.normal.kinetic is not None else "potential part"
        profile_plot(out / "profile.png", {label: field})
        return [*files, out / "profile.png"]
    slice_plot(out / "slices.png", field)
    return [*files, out / "slices.png"]


def _describe(field: StressField) -> dict[str, Any]:
    mean = field.stress.total.mean(axis=(0, 1, 2)) / units.GPa
    described: dict[str, Any] = {
        "method": field.name,
        "shape": list(field.grid.shape),
        "stress_definition": field.definition,
        "kinetic_part": field.stress.kinetic is not None,
        "blocks_for_errors": field.n_blocks,
        "mean_GPa": dict(zip(field.components, mean.tolist(), strict=True)),
    }
    if field.normal is not None:
        values = field.normal.total / units.GPa
        described |= {
            "axis": "abc"[field.axis or 0],
            "normal_min_GPa": float(values.min()),
            "normal_max_GPa": float(values.max()),
        }
    return described


def _read(path: Path, index: str, format: str | None) -> Iterator[Atoms]:  # noqa: A002
    """Structures of a file one by one; ASE's readers raise anything."""
    if not path.is_file():
        raise DataError(f"no trajectory at {path}")
    try:
        yield from ase.io.iread(path, index=index, format=format, do_not_split_by_at_sign=True)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"cannot read {path} ({reason}); name its format, or repair the file if it is cut off"
        ) from error


def _with_progress(frames: Iterator[Atoms]) -> Iterator[Atoms]:
    """The same frames; how many are done is shown on a terminal."""
    with _bar() as advance:
        for frame in frames:
            yield frame
            advance()


@contextmanager
def _bar() -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        task = bar.add_task("frames", total=None)
        yield lambda: bar.advance(task)
