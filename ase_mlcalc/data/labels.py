"""Which entry of a file is which label: sources resolved explicitly, in a stated order, and brought to eV and Å.

ASE's readers move ``energy``, ``forces`` and ``stress`` into a calculator and leave everything else in ``info`` and
``arrays``, as flat vectors or matrices.  For each label the first source that exists wins:

1. the key named by the user (`LabelKeys`),
2. ``REF_*`` entries,
3. results of the calculator; of two energies that differ the free energy, which the forces are derivatives of,
4. plain ``energy``, ``force(s)``, ``stress``, ``virial(s)`` entries.

Sources that lost are compared with the winner and reported.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ase_mlcalc.config import Section
from ase_mlcalc.data.frames import DEFINITION_KEY, LEVEL_KEY, Note, Provenance
from ase_mlcalc.data.geometry import kinetic_part
from ase_mlcalc.errors import DataError
from ase_mlcalc.graph import has_volume
from ase_mlcalc.properties import SPECS, Properties

TENSORS = frozenset({"stress", "stresses"})
AUTO = "auto"
NONE = "none"


class LabelKeys(Section):
    """Which key of the files holds which label."""

    energy: str = Field(AUTO, description='key of the energy, eV; "auto" looks in the usual places, "none" ignores it')
    energies: str = Field(AUTO, description="key of the per-atom energies, eV")
    forces: str = Field(AUTO, description="key of the forces, eV/Å")
    stress: str = Field(AUTO, description="key of the stress, eV/Å³, positive under tension")
    stresses: str = Field(AUTO, description="key of the per-atom stress, eV/Å³, divided by the total volume")
    virial: str = Field(AUTO, description="key of the virial, eV, which is -volume x stress; used where no stress is")
    stress_includes_kinetic: bool = Field(
        False,
        description="stress and stresses of the files hold the kinetic part -m v v / V, as LAMMPS' compute stress/atom "
        "does; it is taken out with the momenta of the files",
    )

    def named(self) -> dict[str, str]:
        """The keys that were given explicitly."""
        keys = self.model_dump(exclude={"stress_includes_kinetic"})
        return {name: key for name, key in keys.items() if key not in {AUTO, NONE}}


REFERENCE_KEYS: dict[str, tuple[str, ...]] = {
    "energy": ("REF_energy",),
    "energies": ("REF_energies",),
    "forces": ("REF_forces",),
    "stress": ("REF_stress",),
    "virial": ("REF_virials", "REF_virial"),
    "stresses": ("REF_stresses",),
}
PLAIN_KEYS: dict[str, tuple[str, ...]] = {
    "energy": ("energy",),
    "energies": ("energies",),
    "forces": ("forces", "force"),
    "stress": ("stress",),
    "virial": ("virial", "virials"),
    "stresses": ("stresses",),
}
CALCULATOR_KEYS: dict[str, tuple[str, ...]] = {
    "energy": ("energy", "free_energy"),
    "energies": ("energies",),
    "forces": ("forces",),
    "stress": ("stress",),
    "virial": (),
    "stresses": ("stresses",),
}
LABEL_KEYS = frozenset(
    key for table in (REFERENCE_KEYS, PLAIN_KEYS, CALCULATOR_KEYS) for keys in table.values() for key in keys
)
OF_LABELS = LABEL_KEYS | {DEFINITION_KEY, LEVEL_KEY}
"""Entries of a structure that are labels, or say what labels are."""


class Candidate(NamedTuple):
    """A value that could be a label, and where it was found."""

    origin: str
    value: NDArray[np.float64]


def resolve(atoms: Atoms, keys: LabelKeys) -> tuple[Properties, Provenance]:
    """The labels of a structure as ASE read it.

    Returns
    -------
    Properties
        Float64, shaped for one structure; ``None`` where there is no label or only NaN.
    Provenance

    Raises
    ------
    DataError
        A label of the wrong shape or kind, or with NaN or Inf in some of its numbers.
    """
    labels: dict[str, Tensor | None] = {}
    origins: dict[str, str] = {}
    notes: list[Note] = []
    for name in SPECS:
        found = list(_candidates(name, atoms, keys, notes))
        if not found:
            continue
        chosen, *others = found
        value = chosen.value if name not in TENSORS else _symmetric(name, chosen, notes)
        origins[name] = chosen.origin
        labels[name] = torch.from_numpy(np.ascontiguousarray(value))
        for other in others:
            size = float(np.abs(other.value - chosen.value).max())
            notes.append(Note(f"{name}: {chosen.origin} used, {other.origin} not", size, SPECS[name].unit))
    return Properties(**labels), Provenance(origins, tuple(notes))


def available(atoms: Atoms) -> list[str]:
    """Names of the entries of a structure that could be labels."""
    own = {"numbers", "positions"}
    results = [] if atoms.calc is None else [key for key, value in atoms.calc.results.items() if value is not None]
    return sorted({*atoms.info, *(set(atoms.arrays) - own), *results})


def _candidates(name: str, atoms: Atoms, keys: LabelKeys, notes: list[Note]) -> Iterator[Candidate]:
    """All sources of a label in order of preference, those of the virial among those of the stress."""
    setting = getattr(keys, name)
    sources = [(_rank(origin, setting), origin, value, False) for origin, value in _sources(name, setting, atoms)]
    if name == "stress":
        of_virial = _sources("virial", keys.virial, atoms)
        sources += [(_rank(origin, keys.virial), origin, value, True) for origin, value in of_virial]
    missing = None
    # stable: within a rank a stress comes before a virial
    for rank, origin, raw, is_virial in sorted(sources, key=lambda source: source[0]):
        if missing is not None and rank > missing:
            return  # said to be missing where it would be taken from: other places hold something else
        value = _checked(name, origin, raw, len(atoms))
        if value is None:
            missing = rank
            continue
        if name in TENSORS and not has_volume(atoms):
            notes.append(Note(f"{name} from {origin} ignored: the cell has no volume"))
            continue
        if name in TENSORS and keys.stress_includes_kinetic and not is_virial:
            if not atoms.has("momenta"):
                raise DataError(
                    f"{name} ({origin}) is said to hold the kinetic part, but the structure has no momenta to take it "
                    "out with; add them, or set data.keys.stress_includes_kinetic = false if the labels are the "
                    "potential part"
                )
            kinetic = kinetic_part(atoms)
            value = value - (kinetic if name == "stresses" else kinetic.sum(axis=0))
        yield Candidate(origin, -value / atoms.get_volume() if is_virial else value)


def _sources(name: str, setting: str, atoms: Atoms) -> Iterator[tuple[str, Any]]:
    """Entries that hold a label, in order of preference."""
    results: Mapping[str, Any] = {} if atoms.calc is None else atoms.calc.results
    per_atom = name != "virial" and SPECS[name].per == "atom"
    stored: Mapping[str, Any] = atoms.arrays if per_atom else atoms.info
    if setting not in {AUTO, NONE}:
        named = ((setting, table[setting]) for table in (stored, results) if table.get(setting) is not None)
        yield from itertools.islice(named, 1)
    if setting != AUTO:
        return
    computed = [(f"calculator {key}", results[key]) for key in CALCULATOR_KEYS[name] if results.get(key) is not None]
    if len(computed) == 2 and computed[0][1] != computed[1][1]:
        computed.reverse()  # forces of smeared electrons are derivatives of the free energy
    elif len(computed) == 2:
        del computed[1]
    yield from ((key, stored[key]) for key in REFERENCE_KEYS[name] if stored.get(key) is not None)
    yield from computed
    yield from ((key, stored[key]) for key in PLAIN_KEYS[name] if stored.get(key) is not None)


def _rank(origin: str, setting: str) -> int:
    if setting != AUTO:
        return 0
    if origin.startswith("REF_"):
        return 1
    return 2 if origin.startswith("calculator ") else 3


def _checked(name: str, origin: str, raw: Any, n_atoms: int) -> NDArray[np.float64] | None:
    """The value in the shape of the label; ``None`` if it is all NaN."""
    try:
        value = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} ({origin}) is not numeric: {raw!r:.60}") from error
    shaped = _shaped(name, value, n_atoms)
    if shaped is None:
        lead = (n_atoms,) if SPECS[name].per == "atom" else ()
        expected = (*lead, *SPECS[name].components)
        voigt = f", {(*lead, 6)} (Voigt xx yy zz yz xz xy) or {(*lead, 9)}" if name in TENSORS else ""
        raise DataError(f"{name} ({origin}) has shape {value.shape}; expected {expected}{voigt}")
    bad = ~np.isfinite(shaped)
    if np.isnan(shaped).all():
        return None
    if bad.any():
        raise DataError(
            f"{name} ({origin}) has {bad.sum()} of {bad.size} numbers NaN or Inf; "
            "remove the structure, or set the whole label to NaN if it is missing"
        )
    return shaped


def _shaped(name: str, value: NDArray[np.float64], n_atoms: int) -> NDArray[np.float64] | None:
    if name == "energy":
        return value.reshape(1) if value.size == 1 else None
    if name == "energies":
        return value.reshape(-1) if value.shape in {(n_atoms,), (n_atoms, 1)} else None
    if name == "forces":
        return value.reshape(1, 3) if value.shape == (3,) and n_atoms == 1 else _if_shape(value, (n_atoms, 3))
    count = n_atoms if name == "stresses" else 1
    if value.size == count * 9 and value.shape[-1] in {3, 9}:
        return value.reshape(count, 3, 3)
    if value.size == count * 6 and value.shape[-1] == 6:
        xx, yy, zz, yz, xz, xy = value.reshape(count, 6).T
        return np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], axis=1).reshape(count, 3, 3)
    return None


def _if_shape(value: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    return value if value.shape == shape else None


def _symmetric(name: str, found: Candidate, notes: list[Note]) -> NDArray[np.float64]:
    transposed = np.swapaxes(found.value, -1, -2)
    asymmetry = float(np.abs(found.value - transposed).max())
    if asymmetry > 1e-3 * float(np.abs(found.value).max()) + 1e-8:
        text = f"{name} ({found.origin}) is not symmetric; its symmetric part is used"
        notes.append(Note(text, asymmetry, SPECS[name].unit))
    return 0.5 * (found.value + transposed)
