"""Stress fields as files: arrays, a table, and a grid for viewers."""

import csv
from pathlib import Path

import numpy as np
from ase import units
from numpy.typing import NDArray

from ase_mlcalc.files import atomic_path
from ase_mlcalc.stress.fields import StressField

Array = NDArray[np.float64]

FORMATS = ("npz", "csv", "vtk")


def write_field(field: StressField, path: Path | str) -> None:
    """Write a field in the format that the name ends in.

    Parameters
    ----------
    field : StressField
    path : path
        ``.npz``: all arrays in eV/Å³ and Å, to be read with ``numpy.load``.
        ``.csv``: one row a bin, in GPa and Å; of binned per-atom stress, the last column is its definition.
        ``.vtk``: a structured grid in GPa and Å, for any cell (ParaView, VisIt, OVITO).

    Raises
    ------
    ValueError
        Another ending.
    """
    path = Path(path)
    writers = {".npz": _write_npz, ".csv": _write_csv, ".vtk": _write_vtk}
    if path.suffix not in writers:
        raise ValueError(f"a stress field is written as {', '.join(writers)}, got {path.name!r}")
    with atomic_path(path) as part:
        writers[path.suffix](field, part)


def _write_npz(field: StressField, path: Path) -> None:
    arrays: dict[str, Array | str | int] = {
        "method": field.name,
        "components": np.array(field.components),
        "definition": field.definition or "",
        "cell": field.cell,
        "positions": field.positions,
        "n_frames": field.n_frames,
        "n_blocks": field.n_blocks,
    }
    arrays |= {name: values for name, values in field.stress._asdict().items() if values is not None}
    if field.normal is not None:
        arrays |= {f"normal_{name}": v for name, v in field.normal._asdict().items() if v is not None}
        arrays["heights"] = field.heights
    with open(path, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _write_csv(field: StressField, path: Path) -> None:
    columns = {f"{axis}_A": field.positions[..., k].ravel() for k, axis in enumerate("xyz")}
    if field.normal is not None:
        columns["height_A"] = field.heights
        columns |= {f"normal_{name}_GPa": v / units.GPa for name, v in field.normal._asdict().items() if v is not None}
    for part, values in field.stress._asdict().items():
        if values is not None:
            for k, component in enumerate(field.components):
                columns[f"{component}_{part}_GPa"] = values[..., k].ravel() / units.GPa
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        last = [] if field.definition is None else [field.definition]
        rows.writerow([*columns, *(["stress_definition"] if last else [])])
        rows.writerows([*(f"{value:.8g}" for value in row), *last] for row in zip(*columns.values(), strict=True))


def _write_vtk(field: StressField, path: Path) -> None:
    """Legacy format, big-endian as it demands; a structured grid, because its points may lie on any lattice."""
    kind = "TENSORS" if len(field.components) == 9 else "VECTORS"
    n = field.grid.n_bins

    def flat(values: Array) -> bytes:
        """The first cell vector varies fastest there."""
        return values.transpose(2, 1, 0, 3).astype(">f8").tobytes()

    with open(path, "wb") as file:
        file.write(b"# vtk DataFile Version 3.0\n")
        definition = "" if field.definition is None else f" by definition {field.definition}"
        title = f"{field.name}: stress in GPa{definition}, positive under tension, positions in angstrom"
        file.write(f"{title.encode('ascii', 'replace').decode()[:255]}\n".encode())
        file.write(b"BINARY\nDATASET STRUCTURED_GRID\n")
        file.write(f"DIMENSIONS {' '.join(map(str, field.grid.shape))}\nPOINTS {n} double\n".encode())
        file.write(flat(field.positions))
        file.write(f"\nPOINT_DATA {n}\n".encode())
        for part, values in field.stress._asdict().items():
            if values is not None:
                file.write(f"{kind} {part}_GPa double\n".encode() + flat(values / units.GPa) + b"\n")
