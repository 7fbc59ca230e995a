"""Models of the package `sgdml` (Chmiela et al., Comput. Phys. Commun. 240, 38 (2019)): reading and writing its files.

Arrays of its format: ``z`` (N,), ``R_desc`` (D, M) descriptors, ``R_d_desc_alpha`` (M, D) weights, ``perms`` (S, N),
``sig``, ``lam``, ``std`` and ``c`` (scale and constant of the energy), ``e_unit`` and ``r_unit``.  Entries that are
pickled in its files (records of errors and of the test set) are not read, and not written.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from ase_mlcalc.data.npz import E_UNIT, ENERGY_UNITS, LENGTH_UNITS, R_UNIT
from ase_mlcalc.errors import CheckpointError, ModelError, NotFittedError
from ase_mlcalc.files import atomic_path
from ase_mlcalc.kernels import inverse_distances
from ase_mlcalc.kernels.fit import Fit
from ase_mlcalc.models.sgdml import SGDML, SGDMLConfig
from ase_mlcalc.potential import Baseline, Derived

NEEDED = ("z", "R_desc", "R_d_desc_alpha", "perms", "sig", "std", "c")
REFUSED = {"alphas_E": "was trained with energy constraints", "lattice": "is periodic"}


def read_npz(path: Path | str, *, energy_unit: str | None = None, length_unit: str | None = None) -> Derived:
    """The potential of a model file of the package `sgdml`.

    Parameters
    ----------
    path : path
    energy_unit, length_unit : str, optional
        Of the data that it was trained on, such as "kcal/mol" and "Ang"; default: as the file says, or else these two.

    Returns
    -------
    Derived
        In eV and Å.

    Raises
    ------
    CheckpointError
        Not a model file, a damaged one, one that would have to be unpickled, or a kind of model that is not supported.
    """
    path = Path(path)
    arrays = _read(path)
    _require_sound(arrays, path)
    energy_eV = _unit(arrays, "e_unit", energy_unit, E_UNIT, ENERGY_UNITS, path)
    length_A = _unit(arrays, "r_unit", length_unit, R_UNIT, LENGTH_UNITS, path)
    numbers, permutations_sn = arrays["z"].astype(int).ravel(), arrays["perms"].astype(np.int64)
    # a descriptor in another unit is x / length; weights go the other way, so that energies stay what they are
    points_md = torch.from_numpy(np.ascontiguousarray(arrays["R_desc"].T, dtype=np.float64)) / length_A
    weights_md = torch.from_numpy(np.ascontiguousarray(arrays["R_d_desc_alpha"], dtype=np.float64)) / -length_A
    sigma, scale, constant = (float(arrays[name].item()) for name in ("sig", "std", "c"))
    try:
        config = SGDMLConfig(
            numbers=tuple(numbers.tolist()),
            sigma=(sigma / length_A,),
            ridge=float(arrays["lam"].item()) if "lam" in arrays else 1e-10,
            symmetries=len(permutations_sn) > 1,
        )
    except ValidationError as error:
        raise CheckpointError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    model = SGDML(config)
    permutations = torch.from_numpy(permutations_sn)
    origin_d = points_md.mean(dim=0)[inverse_distances.permutations_of_pairs(permutations)].mean(dim=0)
    model.put(Fit(origin_d, points_md - origin_d, weights_md, sigma / length_A), permutations, constant / scale)
    return Derived(model, Baseline(energy_scale=scale * energy_eV))


def write_npz(potential: Derived, path: Path | str, *, energy_unit: str = E_UNIT) -> None:
    """Write a solved `SGDML` potential so that the package `sgdml` predicts with it.

    Its calculator and predictor take the file; commands of the package that show recorded errors do not, because these
    records are pickled.

    Parameters
    ----------
    potential : Derived
        Of a model `SGDML`.
    path : path
        Ends in ``.npz``.
    energy_unit : str
        That the package shall predict in; lengths are Å.

    Raises
    ------
    ModelError
        Another model, or one that was not solved.
    """
    model, path = potential.model, Path(path)
    if not isinstance(model, SGDML):
        raise ModelError(f"the format of package sgdml holds models 'sgdml', got {model.name!r}")
    if len(model.points_md) == 0:
        raise NotFittedError("model 'sgdml' was not solved yet and has nothing to write; train it first")
    if energy_unit.lower() not in ENERGY_UNITS:
        raise ModelError(f"energy_unit is one of {', '.join(ENERGY_UNITS)}, got {energy_unit!r}")
    unit_eV = ENERGY_UNITS[energy_unit.lower()]
    numbers = torch.tensor(model.config.numbers)
    reference = float(potential.baseline.reference_energies(numbers).sum())
    scale = potential.baseline.energy_scale
    orders_sd = inverse_distances.permutations_of_pairs(model.permutations_sn.cpu()).numpy()
    offsets_s = orders_sd.shape[1] * np.arange(len(orders_sd))
    with atomic_path(path) as part, open(part, "wb") as file:
        np.savez_compressed(
            file,
            type=np.array("m"),
            code_version=np.array("1.0.3"),
            dataset_name=np.array("ase_mlcalc"),
            dataset_theory=np.array("unknown"),
            solver_name=np.array("analytic"),
            z=numbers.numpy(),
            R_desc=(model.points_md + model.origin_d).T.cpu().numpy(),
            R_d_desc_alpha=-model.weights_md.cpu().numpy(),
            perms=model.permutations_sn.cpu().numpy(),
            tril_perms_lin=(orders_sd + offsets_s[:, None]).flatten("F"),
            sig=float(model.sigma),
            lam=model.config.ridge,
            std=scale / unit_eV,
            c=(float(model.energy_constant) * scale + reference) / unit_eV,
            use_E=True,
            e_unit=np.array(energy_unit),
            r_unit=np.array(R_UNIT),
        )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that a model is made of; nothing is unpickled."""
    if not path.is_file():
        raise CheckpointError(f"no model file at {path}; expected an .npz file of the package sgdml")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise CheckpointError(f"{path} holds a single array; expected an .npz model of the package sgdml")
            names = set(archive.files)
            kind = str(archive["type"]) if "type" in names else ""
            if kind not in ("m", "b'm'") or not names.issuperset(NEEDED):
                missing = ", ".join(name for name in NEEDED if name not in names) or "type m"
                raise CheckpointError(f"{path} is not a model of the package sgdml: it has no {missing}")
            for name, what in REFUSED.items():
                if name in names:
                    raise CheckpointError(f"{path} {what}, which is not supported; train one without in the package")
            return {name: archive[name] for name in (*NEEDED, "lam", "e_unit", "r_unit") if name in names}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"{path} is corrupt, truncated or no npz archive of plain arrays (what is pickled is never read); expected "
            "a model file of the package sgdml"
        ) from error


def _require_sound(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Refuse arrays that are not numbers, do not fit together, or permute what cannot be permuted."""
    shapes = {name: arrays[name].shape for name in NEEDED}
    for name, array in arrays.items():
        number = name not in ("e_unit", "r_unit")
        if number and (array.dtype.kind not in "iuf" or not np.isfinite(array).all()):
            raise CheckpointError(f"{path} is damaged: it holds NaN or Inf, or no numbers, in {name}")
        if name in ("sig", "lam", "std", "c") and array.size != 1:
            raise CheckpointError(f"{path} is damaged: {name} has shape {array.shape}, expected one number")
    if not float(arrays["std"].item()) > 0:
        raise CheckpointError(f"{path} is damaged: std, the scale of the energy, is {arrays['std'].item():g}")
    n_atoms, n_points = arrays["z"].size, shapes["R_d_desc_alpha"][:1]
    n_pairs = (n_atoms * (n_atoms - 1) // 2,)
    fits = shapes["R_d_desc_alpha"] == n_points + n_pairs and shapes["R_desc"] == n_pairs + n_points
    if not fits or shapes["perms"][1:] != (n_atoms,):
        raise CheckpointError(
            f"{path} is damaged: {n_atoms} atoms, descriptors {shapes['R_desc']}, weights {shapes['R_d_desc_alpha']} "
            f"and permutations {shapes['perms']} do not fit together"
        )
    numbers, permutations_sn = arrays["z"].ravel(), arrays["perms"].astype(np.int64)
    if not (np.sort(permutations_sn, axis=1) == np.arange(n_atoms)).all() or not len(permutations_sn):
        raise CheckpointError(f"{path} is damaged: perms are not permutations of {n_atoms} atoms, counted from 0")
    if not (numbers[permutations_sn] == numbers).all():
        raise CheckpointError(f"{path} is damaged: perms exchange atoms of different elements")


def _unit(
    arrays: Mapping[str, NDArray[Any]],
    key: str,
    given: str | None,
    default: str,
    known: Mapping[str, float],
    path: Path,
) -> float:
    """Size of the unit that is given, or that the file names, in eV or Å."""
    name = given or (str(arrays[key]) if key in arrays else default)
    if name.lower() not in known:
        raise CheckpointError(f"{path}: {key} is {name!r}; known are {', '.join(known)}: give the unit when reading")
    return known[name.lower()]
