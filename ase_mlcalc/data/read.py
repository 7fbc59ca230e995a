"""Files to labelled structures: every format that ASE reads, and the npz archives of MD17, rMD17 and sGDML."""

import bz2
import difflib
import gzip
import lzma
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ase.db
import ase.io
import numpy as np
from ase import Atoms

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.geometry import closest_contact
from ase_mlcalc.data.labels import LABEL_KEYS, LabelKeys, available, resolve
from ase_mlcalc.data.npz import read_npz
from ase_mlcalc.errors import DataError, StructureError
from ase_mlcalc.graph import OVERLAP_ANGSTROM

__all__ = ["LabelKeys", "read_frames", "read_structures"]

GROUP_KEYS = ("config_type", "group", "subset")
NPZ = "npz"
DATABASES = {"db", "json"}
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_frames(
    paths: Sequence[Path | str],
    *,
    keys: LabelKeys = LabelKeys(),  # noqa: B008  (frozen)
    format: str | None = None,  # noqa: A002  (ASE's word)
    index: str | int = ":",
) -> list[Frame]:
    """Labelled structures of several files, in order.

    Files may carry different labels.  A label that is all NaN counts as missing.

    Parameters
    ----------
    paths : sequence of paths
    keys : LabelKeys
        Which entries are the labels; by default ``REF_*``, then calculator results, then plain names.
    format : str, optional
        A format name of ASE, or "npz"; found out from the file when not given.
    index : str or int
        Which structures of each file, as in ASE.

    Raises
    ------
    DataError
        A file that is missing, empty or unreadable or that has no label; labels of the wrong shape or with some NaN
        among numbers; two atoms on one spot; a named key that no file has.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    if not paths:
        raise DataError("no data file given; name at least one")
    frames: list[Frame] = []
    seen: set[str] = set()
    for path in paths:
        structures, own_keys = _read_structures(Path(path), keys, format, index)
        if not structures:
            raise DataError(f"{path} holds no structure at index {index!r}; give a file with labelled structures")
        frames += _label_all(structures, own_keys, Path(path), index)
        found = {entry for atoms in structures for entry in available(atoms)}
        seen |= found | (set(keys.named().values()) if own_keys is not keys else set())
    for label, key in keys.named().items():
        if key not in seen:
            guess = difflib.get_close_matches(key, seen, n=1)
            hint = f"did you mean {guess[0]!r}?" if guess else f"the files hold {', '.join(sorted(seen)) or 'none'}"
            raise DataError(f"no structure has the key {key!r} that was named for {label}; {hint}")
    return frames


def read_structures(
    path: Path | str,
    *,
    format: str | None = None,  # noqa: A002
    index: str | int = ":",
) -> list[Atoms]:
    """Structures of one file in order, labelled or not.

    Parameters
    ----------
    path : path
    format, index
        As in `read_frames`.

    Raises
    ------
    DataError
        A file that is missing, empty or unreadable.
    """
    structures, _ = _read_structures(Path(path), LabelKeys(), format, index)
    return structures


def _read_structures(
    path: Path,
    keys: LabelKeys,
    format: str | None,  # noqa: A002
    index: str | int,
) -> tuple[list[Atoms], LabelKeys]:
    """Structures of one file as its format's reader gives them, and the keys of their labels."""
    if not path.exists():
        raise DataError(f"no data file at {path}")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty; give a file with labelled structures")
    if (format or path.suffix.lstrip(".").lower()) == NPZ:
        structures, keys = read_npz(path, keys)
        return structures[_as_slice(index)], keys
    try:
        with _unpacked(path) as plain:
            format = format or _runner_format(plain)  # noqa: A001
            if (format or plain.suffix.lstrip(".").lower()) in DATABASES:
                return _rows(plain, _as_slice(index)), keys
            structures = list(ase.io.iread(plain, index=index, format=format, do_not_split_by_at_sign=True))
    except DataError:
        raise
    except Exception as error:  # ASE's readers raise anything
        as_what = f"as {format!r}" if format else "in any format that ASE knows"
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"cannot read {path} {as_what} ({reason}); name its format, or repair the file if it is cut off"
        ) from error
    return structures, keys


def _rows(path: Path, index: slice) -> list[Atoms]:
    """Structures of a database of ASE with their key-value pairs and data, which ASE's own reader leaves behind."""
    structures = []
    with ase.db.connect(path, serial=True) as database:
        wanted = range(database.count())[index]
        if not wanted:
            return []
        first, last = min(wanted), max(wanted)
        for row in database.select(offset=first, limit=last + 1 - first):
            atoms = row.toatoms()
            for key, value in {**row.data, **row.key_value_pairs}.items():
                atoms.info[key] = value
                with suppress(TypeError, ValueError):  # what is not numbers is not of atoms
                    numbers = np.array(value, dtype=float)
                    if len(numbers) == len(atoms) and key not in atoms.arrays:
                        atoms.arrays[key] = numbers  # of the atoms, or of the structure: the label tells
            structures.append(atoms)
    return [structures[k - first] for k in wanted]


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A compressed file as a plain one; ASE's readers seek, and would unpack it once for every structure."""
    if path.suffix not in COMPRESSED:
        yield path
        return
    with TemporaryDirectory(prefix="ase-mlcalc-") as folder:
        plain = Path(folder) / path.stem  # the rest of the name tells the format
        with COMPRESSED[path.suffix](path, "rb") as packed, open(plain, "wb") as target:
            shutil.copyfileobj(packed, target)
        yield plain


def _runner_format(path: Path) -> str | None:
    """RuNNer's and n2p2's ``input.data`` has no name of its own: it starts with the word ``begin``."""
    if path.suffix != ".data" or not path.is_file():
        return None
    with open(path, "rb") as file:
        return "runnerdata" if file.read(200).split()[:1] == [b"begin"] else None


def _label_all(structures: list[Atoms], keys: LabelKeys, path: Path, index: str | int) -> list[Frame]:
    frames, problems = [], []
    for k, atoms in enumerate(structures):
        source = f"{path.name}[{_place(index, k)}]"
        try:
            frames.append(_to_frame(atoms, keys, source))
        except (DataError, StructureError) as error:
            problems.append(f"{source}: {error}")
    if problems:
        others = [problem.split(": ", 1)[0] for problem in problems[1:]]
        more = f" (and {len(others)} more: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''})"
        raise DataError(problems[0] + (more if others else ""))
    if not any(frame.labels.given() for frame in frames):
        entries = sorted({entry for atoms in structures for entry in available(atoms)})
        raise DataError(
            f"no labels in any of the {len(frames)} structures of {path} "
            f"(their entries: {', '.join(entries) or 'none'}); expected energy, forces or stress: name their keys"
        )
    return frames


def _as_slice(index: str | int) -> slice:
    """``3``, ``"-1"`` or ``"10:20:2"`` as a slice."""
    text = str(index)
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError as error:
        raise DataError(f"index {text!r} is not understood; expected a number or start:stop:step") from error
    if len(parts) == 1:
        (k,) = parts
        return slice(k, None if k in {-1, None} else (k or 0) + 1)
    return slice(*parts)


def _place(index: str | int, k: int) -> str:
    """How the k-th structure that was read is addressed in its file."""
    chosen = _as_slice(index)
    start, step = chosen.start or 0, chosen.step or 1
    if ":" not in str(index):
        return str(start)
    return str(start + k * step) if start >= 0 and step > 0 else f"{index}][{k}"


def _to_frame(atoms: Atoms, keys: LabelKeys, source: str) -> Frame:
    contact = closest_contact(atoms, OVERLAP_ANGSTROM)
    if contact is not None:
        raise DataError(
            f"atoms {contact.first} and {contact.second} are {contact.distance:.1e} Å apart; remove the duplicate atom"
        )
    labels, provenance = resolve(atoms, keys)
    group = next((str(atoms.info[key]) for key in GROUP_KEYS if key in atoms.info), "")
    return Frame(_bare(atoms, keys), labels, group, source, provenance)


def _bare(atoms: Atoms, keys: LabelKeys) -> Atoms:
    """Geometry, momenta and plain entries of ``info``; no labels and no calculator."""
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in ("momenta", "masses"):
        if atoms.has(name):
            bare.set_array(name, atoms.get_array(name))
    of_labels = LABEL_KEYS | set(keys.named().values())
    bare.info = {key: value for key, value in atoms.info.items() if key not in of_labels and _is_plain(value)}
    return bare


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | bool | int | float | np.number)
