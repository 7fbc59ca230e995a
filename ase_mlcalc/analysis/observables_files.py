"""Reading trajectories for observables, and writing what was measured: curves as CSV, numbers as JSON, pictures."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.io.trajectory import TrajectoryReader
from ase.utils import string2index

from ase_mlcalc.analysis.compare import Distance
from ase_mlcalc.analysis.curves import Axis, Curve
from ase_mlcalc.analysis.observables import KINDS, ComparisonRow, Observables, curves_of
from ase_mlcalc.analysis.observables_plots import draw_observables
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.files import make_folder, write_text
from ase_mlcalc.md.frames import read_trajectory

SUMMARY = "observables.json"
CURVES = "curves"
WRITTEN = ("rdf", "distances", "running_coordination", "coordination", "angles", "h_of_r", "msd", "vacf", "vdos")
"""Observables with a CSV file for each curve."""


class TrajectoryFile:
    """Frames of a file, read one by one every time it is gone through.

    A ``.traj`` file may end with a frame that a kill cut short, which is left out.

    Parameters
    ----------
    path : path
        Anything that ASE reads.
    index : str
        Which frames, as in ASE: ":", "100:", "::10".
    """

    def __init__(self, path: Path | str, index: str = ":") -> None:
        self.path = Path(path)
        self.index = index
        if not self.path.is_file():
            raise DataError(f"no trajectory at {self.path}; give a file that ASE reads")
        try:
            chosen = string2index(index)
        except ValueError as error:
            raise ConfigError(f"an index is a slice as ':', '100:' or '::10', got {index!r}") from error
        if not isinstance(chosen, slice) or (chosen.step or 1) < 1:
            raise ConfigError(f"an index is a slice with a step above zero, as ':' or '::10', got {index!r}")
        self._slice = chosen

    @property
    def _ours(self) -> bool:
        return self.path.suffix == ".traj"

    def __length_hint__(self) -> int:
        """About how many frames there are; 0 where only reading tells."""
        if not self._ours:
            return 0
        try:
            with TrajectoryReader(str(self.path)) as reader:
                return len(range(*self._slice.indices(len(reader))))
        except Exception:  # noqa: BLE001  (reading says what is wrong)
            return 0

    def __iter__(self) -> Iterator[Atoms]:
        frames = self._exact() if self._ours else self._of_any_format()
        found = False
        for frame in frames:
            found = True
            yield frame
        if not found:
            raise DataError(f"{self.path} holds no frame at index {self.index!r}; give one with frames")

    def _exact(self) -> Iterator[Atoms]:
        chosen = self._slice
        if min(chosen.start or 0, chosen.stop or 0) < 0:  # counted from the end, wherever that is
            complete = sum(1 for _ in read_trajectory(self.path))
            start, stop, step = chosen.indices(complete)
        else:
            start, stop, step = chosen.start or 0, chosen.stop, chosen.step or 1
        return islice(read_trajectory(self.path), start, stop, step)

    def _of_any_format(self) -> Iterator[Atoms]:
        try:
            yield from ase.io.iread(self.path, index=self.index, do_not_split_by_at_sign=True)
        except Exception as error:  # ASE's readers raise whatever the contents of a file make them stumble on
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(f"cannot read {self.path} ({reason}); repair the file if it is cut off") from error


def write_observables(
    folder: Path | str,
    mine: Observables,
    reference: Observables | None = None,
    rows: Sequence[ComparisonRow] = (),
    *,
    names: tuple[str, str] = ("trajectory", "reference"),
) -> list[Path]:
    """Write ``observables.json``, ``curves/*.csv`` and pictures (see `draw_observables`) into a folder.

    Parameters
    ----------
    folder : path
    mine, reference : Observables
    rows : sequence of ComparisonRow
        From `compare_observables`.
    names : (str, str)
        Of both trajectories, in pictures and in the JSON file.

    Returns
    -------
    list of Path
        JSON file and pictures.
    """
    folder = Path(folder)
    make_folder(folder / CURVES)
    for name in WRITTEN:
        for label, curve in curves_of(mine, name).items():
            other = None if reference is None else curves_of(reference, name).get(label)
            ending = f"_{label.replace(' ', '-')}" if label else ""
            write_text(folder / CURVES / f"{name}{ending}.csv", _csv(curve))
            if other is not None:
                write_text(folder / CURVES / f"{name}{ending}_reference.csv", _csv(other))
    write_text(folder / SUMMARY, _json(mine, reference, rows, names))
    return [folder / SUMMARY, *draw_observables(folder, mine, reference, names=names)]


def _csv(curve: Curve) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_column(curve.x_axis), _column(curve.y_axis), "stderr"])
    for x, y, stderr in zip(curve.x, curve.y, curve.stderr, strict=True):
        writer.writerow([f"{x:.8g}", f"{y:.8g}", "" if math.isnan(stderr) else f"{stderr:.3g}"])
    return text.getvalue()


def _column(axis: Axis) -> str:
    name = axis.name.replace("(r)", "").replace(" ", "_")
    unit = axis.unit.replace("Å²", "A2").replace("Å", "A").replace("1/", "per_")
    return f"{name}_{unit}" if unit else name


def _json(
    mine: Observables, reference: Observables | None, rows: Sequence[ComparisonRow], names: tuple[str, str]
) -> str:
    numbers = {
        "format": 1,
        "trajectory": {"name": names[0], **summary(mine)},
        "reference": None if reference is None else {"name": names[1], **summary(reference)},
        "comparison": [comparison_numbers(row) for row in rows],
    }
    return json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def summary(observables: Observables) -> dict[str, Any]:
    """Everything but the curves as JSON values, with the means of coordination numbers and angles."""
    plain = (
        "formula", "n_atoms", "n_frames", "interval_fs", "length_ps", "temperature_K", "degrees_of_freedom",
        "n_blocks", "bond_cutoffs_A", "velocities_from", "notes",
    )  # fmt: skip
    found: dict[str, Any] = {name: getattr(observables, name) for name in plain}
    for name, curves in (("coordination_mean", observables.coordination), ("angle_mean_degrees", observables.angles)):
        moments = {label: curve.mean() for label, curve in curves.items()}
        found[name] = {label: {"mean": mean, "stderr": stderr} for label, (mean, stderr) in moments.items()}
    found["diffusion"] = None if observables.diffusion is None else {
        name: {**{key: _finite(value) for key, value in asdict(one).items()}, "diffusive": one.diffusive}
        for name, one in observables.diffusion.items()
    }  # fmt: skip
    found["vdos_integral"] = {name: curve.area for name, curve in (observables.vdos or {}).items()}
    return found


def comparison_numbers(row: ComparisonRow) -> dict[str, Any]:
    """A row of the comparison as JSON values."""

    def numbers(one: Distance | None) -> dict[str, Any] | None:
        if one is None:
            return None
        return {key: _finite(value) for key, value in one._asdict().items()} | {"significant": one.significant}

    return {
        "observable": row.observable,
        "title": KINDS[row.observable].title,
        "label": row.label,
        "l1": numbers(row.l1),
        "w1": numbers(row.w1),
        "significant": row.significant,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
