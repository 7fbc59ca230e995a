"""Reference energies of the elements and the scales of the labels: what a network need not learn."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_mlcalc.data.frames import Frame, elements
from ase_mlcalc.data.geometry import is_isolated_atom
from ase_mlcalc.potential import Baseline


class SpeciesEnergyFit(NamedTuple):
    """E0 of each element, and how well it is known."""

    species_energy: dict[int, float]
    """Atomic number to eV."""
    residual_rms_eV_per_atom: float
    """Of (E - sum of E0) / N over structures that are not isolated atoms; NaN if none has an energy."""
    rank: int
    """How many independent E0s the data determine; below `n_species` their split over elements is arbitrary."""
    n_species: int
    source: str
    """Where they came from, in words."""


class _Energies(NamedTuple):
    """Labelled total energies and what they are made of."""

    counts: NDArray[np.float64]
    """(n, elements) atoms of each element."""
    energy: NDArray[np.float64]
    """(n,) eV."""


def fit_species_energy(frames: Sequence[Frame], isolated: Mapping[int, float] | None = None) -> SpeciesEnergyFit:
    r"""Reference energies E0 of the elements in a data set.

    For each element the first that exists is taken: the energy given in `isolated`; the energy of its isolated atom
    in the data (the lowest, if there are several spin states); a least-squares fit of what is left,

    .. math:: \min_{E^0} \sum_b \Big( \frac{E_b - \sum_z n_{bz} E^0_z}{N_b} \Big)^2 .

    Where compositions do not determine all of them (a set of H2O only), the solution of smallest norm is taken,
    `rank` is below `n_species`, and energies between different compositions mean nothing.

    Parameters
    ----------
    frames : sequence of Frame
        Those without energy count for the elements only.
    isolated : mapping of atomic number to eV, optional

    Returns
    -------
    SpeciesEnergyFit
        Without any energy label `species_energy` holds the given energies only.
    """
    species = elements(frames)
    given = {z: float(energy) for z, energy in (isolated or {}).items() if z in species}
    in_data = {z: energy for z, energy in _isolated_atoms(frames).items() if z not in given}
    known = {**in_data, **given}
    unknown = [z for z in species if z not in known]
    data = _total_energies(frames, species)
    fitted, rank = _least_squares(data, species, known, unknown)
    energies = {z: {**known, **fitted}[z] for z in species if z in known or z in fitted}
    return SpeciesEnergyFit(
        species_energy=energies,
        residual_rms_eV_per_atom=_residual_rms(data, species, energies),
        rank=len(known) + rank,
        n_species=len(species),
        source=_in_words(given, in_data, fitted, rank, len(data.energy)),
    )


def _isolated_atoms(frames: Sequence[Frame]) -> dict[int, float]:
    found: dict[int, list[float]] = defaultdict(list)
    for frame in frames:
        if frame.labels.energy is not None and is_isolated_atom(frame.atoms):
            found[int(frame.atoms.numbers[0])].append(float(frame.labels.energy))
    return {z: min(energies) for z, energies in found.items()}


def _total_energies(frames: Sequence[Frame], species: list[int]) -> _Energies:
    counts, energies = [], []
    for frame in frames:
        if frame.labels.energy is not None and not is_isolated_atom(frame.atoms):
            counts.append([np.count_nonzero(frame.atoms.numbers == z) for z in species])
            energies.append(float(frame.labels.energy))
    return _Energies(np.array(counts, dtype=np.float64).reshape(-1, len(species)), np.array(energies))


def _least_squares(
    data: _Energies, species: list[int], known: Mapping[int, float], unknown: list[int]
) -> tuple[dict[int, float], int]:
    if not unknown or len(data.energy) == 0:
        return {}, 0
    n_atoms = data.counts.sum(axis=1)
    left = data.energy - data.counts @ np.array([known.get(z, 0.0) for z in species])
    columns = data.counts[:, [species.index(z) for z in unknown]] / n_atoms[:, None]
    solution, _, rank, _ = np.linalg.lstsq(columns, left / n_atoms, rcond=1e-10)
    return dict(zip(unknown, map(float, solution), strict=True)), int(rank)


def _residual_rms(data: _Energies, species: list[int], energies: Mapping[int, float]) -> float:
    if len(data.energy) == 0 or len(energies) < len(species):
        return float("nan")
    residual = data.energy - data.counts @ np.array([energies[z] for z in species])
    return float(np.sqrt(np.mean((residual / data.counts.sum(axis=1)) ** 2)))


def _in_words(
    given: Mapping[int, float], in_data: Mapping[int, float], fitted: Mapping[int, float], rank: int, n_frames: int
) -> str:
    def names(energies: Mapping[int, float]) -> str:
        return ", ".join(chemical_symbols[z] for z in sorted(energies))

    parts = []
    if given:
        parts.append(f"given ({names(given)})")
    if in_data:
        parts.append(f"isolated atoms in the data ({names(in_data)})")
    if fitted:
        deficient = f", rank {rank} of {len(fitted)}: minimum norm" if rank < len(fitted) else ""
        parts.append(f"least squares over {n_frames} structures ({names(fitted)}{deficient})")
    return "; ".join(parts) or "no energy labels"


def fit_baseline(frames: Sequence[Frame], isolated: Mapping[int, float] | None = None) -> Baseline:
    """Reference energies and scales that leave numbers of order one to a network.

    The scale of the energies is the rms force component times 1 Å, because forces carry most of the information of
    a data set and are the energy's slope; where there are no forces, the spread of the energies per atom after the
    reference energies.  Isolated atoms do not count for scales.

    Parameters
    ----------
    frames : sequence of Frame
    isolated : mapping of atomic number to eV, optional
        Energies of isolated atoms that win over those in the data; see `fit_species_energy`.
    """
    fit = fit_species_energy(frames, isolated)
    bound = [frame for frame in frames if not is_isolated_atom(frame.atoms)]
    force_rms = _rms([frame.labels.forces for frame in bound])
    stresses = [None if f.labels.stresses is None else f.labels.stresses * _volume(f) for f in bound]
    if all(value is None for value in stresses):  # a total stress is the sum of N per-atom ones
        stresses = [None if f.labels.stress is None else f.labels.stress * _volume(f) / len(f.atoms) for f in bound]
    energy_scale = _first_usable(force_rms, _residual_spread(bound, fit.species_energy))
    return Baseline(
        species_energy=fit.species_energy,
        energy_scale=energy_scale,
        force_scale=_first_usable(force_rms),
        stress_scale=_first_usable(_rms(stresses)),
    )


def _volume(frame: Frame) -> float:
    """Å³, zero without a cell."""
    return float(abs(np.linalg.det(frame.atoms.cell.array)))


def _rms(values: Sequence[torch.Tensor | None]) -> float:
    present = [value.flatten() for value in values if value is not None]
    return float(torch.cat(present).square().mean().sqrt()) if present else float("nan")


def _residual_spread(frames: Sequence[Frame], species_energy: Mapping[int, float]) -> float:
    residuals = residuals_per_atom(frames, species_energy)
    return float(np.nanstd(residuals)) if np.isfinite(residuals).any() else float("nan")


def residuals_per_atom(frames: Sequence[Frame], species_energy: Mapping[int, float]) -> NDArray[np.float64]:
    """(n,) eV: (E - sum of E0) / N of each structure; NaN where there is no energy or an E0 is unknown."""
    return np.array(
        [
            np.nan
            if frame.labels.energy is None
            else (float(frame.labels.energy) - sum(species_energy.get(int(z), np.nan) for z in frame.atoms.numbers))
            / len(frame.atoms)
            for frame in frames
        ],
        dtype=np.float64,
    )


def _first_usable(*scales: float) -> float:
    """The first scale that is a number and not tiny (a crystal at rest has no forces), or else 1."""
    return next((scale for scale in scales if np.isfinite(scale) and scale > 1e-6), 1.0)
