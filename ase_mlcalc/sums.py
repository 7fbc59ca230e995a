"""Several potentials as one, whose energy is the sum of theirs: how a learned difference becomes a potential."""

import copy
from collections.abc import Sequence

import torch

from ase_mlcalc.ensemble import Ensemble, derived_members
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.model import Model
from ase_mlcalc.models.sum import Part, Sum, SumConfig
from ase_mlcalc.potential import Baseline, Derived


def add(potentials: Sequence[Derived | Ensemble]) -> Derived:
    """The potential whose energy is the sum of those given; so are forces, stress and per-atom stress.

    Models are copied, and are in the highest precision of any.  Of an ensemble the mean is taken.

    Parameters
    ----------
    potentials : sequence of Derived or Ensemble
        On one device; elements that one of them does not know are not known to the sum.

    Raises
    ------
    ConfigError
        A potential that gives no energies of atoms, or is made for one molecule; no element in common.
    """
    terms = [term for potential in potentials for term in _terms(potential, 1.0)]
    for model, _ in terms:
        if model.outputs != {"energies"}:
            raise ConfigError(
                f"model {model.name!r} predicts {', '.join(sorted(model.outputs))}; only energies of atoms can be added"
            )
        if not model.transferable:
            raise ConfigError(f"model {model.name!r} is made for one molecule, and sums are of transferable models")
    species = set.intersection(*(set(potential.species) for potential in potentials))
    if not species:
        raise ConfigError("the potentials to be added have no element in common")
    parts = tuple(
        Part(model=model.name, config=model.config.model_dump(mode="json"), scale=scale) for model, scale in terms
    )
    with torch.random.fork_rng(devices=[]):  # the constructors' random weights are replaced below
        whole = Sum(SumConfig(species=tuple(species), parts=parts))
    dtype = torch.float32 if all(model.dtype == torch.float32 for model, _ in terms) else torch.float64
    whole.to(device=potentials[0].device, dtype=dtype)
    for part, (model, _) in zip(whole.parts, terms, strict=True):
        part.load_state_dict(copy.deepcopy(model.state_dict()))
    energies = [_species_energies(potential) for potential in potentials]
    return Derived(whole, Baseline({z: sum(of_one.get(z, 0.0) for of_one in energies) for z in sorted(species)}))


def parts_of(potential: Derived) -> list[Derived]:
    """The parts of a sum as potentials that add up to it; the first has the reference energies."""
    model, baseline = potential.model, potential.baseline
    assert isinstance(model, Sum)
    parts: list[Derived] = []
    for part, scale in zip(model.parts, model.scales, strict=True):
        assert isinstance(part, Model)
        own = Baseline({} if parts else baseline.species_energy, energy_scale=scale * baseline.energy_scale)
        parts.append(Derived(part, own))
    return parts


def _terms(potential: Derived | Ensemble, weight: float) -> list[tuple[Model, float]]:
    """Models with what their energies are multiplied by."""
    if isinstance(potential, Ensemble):
        members = derived_members(potential)
        return [term for member in members for term in _terms(member, weight / len(members))]
    if isinstance(potential.model, Sum):
        return [(part.model, weight * part.baseline.energy_scale) for part in parts_of(potential)]
    return [(potential.model, weight * potential.baseline.energy_scale)]


def _species_energies(potential: Derived | Ensemble) -> dict[int, float]:
    if isinstance(potential, Ensemble):
        members = [_species_energies(member) for member in derived_members(potential)]
        return {z: sum(of_one.get(z, 0.0) for of_one in members) / len(members) for z in potential.species}
    return dict(potential.baseline.species_energy)
