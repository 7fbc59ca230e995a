"""The body-order model: every set of terms keeps the contract, and each term sees what its equation says."""

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.models.body_order import BodyOrder, BodyOrderConfig
from ase_mlcalc.testing import ModelSubject, applicable_checks, structures

# without message passing nothing happens beyond the short cutoff, so that it is the cutoff there
VARIANTS = {
    "message passing": {"terms": ("message_passing",), "cutoff": 5.0},
    "pairs": {"terms": ("pair",), "cutoff": 4.0, "short_cutoff": 4.0},
    "pairs and triplets": {"terms": ("triplet", "pair"), "cutoff": 4.0, "short_cutoff": 4.0},
    "everything, the same cutoff": {"cutoff": 4.5, "short_cutoff": 4.5},
}
SUBJECTS = {
    name: ModelSubject(BodyOrder, BodyOrderConfig(species=structures.SPECIES, **keys))
    for name, keys in VARIANTS.items()
}
CASES = [
    pytest.param(name, check, id=f"{name}-{check.name}")
    for name, subject in SUBJECTS.items()
    for check in applicable_checks(BodyOrder, subject.config)
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_conformance(name, check):
    result = check.run(SUBJECTS[name])
    if result.outcome == "skipped":
        pytest.skip(result.reason)


def model_of(**keys):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return BodyOrder(BodyOrderConfig(**{"species": (6, 14), **keys})).double()


def energy(model, atoms):
    return MLCalculator(model).get_potential_energy(atoms)


def triangle(symbols, sides=(1.9, 2.3, 2.7)):
    """Three atoms: the first has the other two at the first two distances, which are the third one apart."""
    a, b, c = sides
    x = (a**2 + b**2 - c**2) / (2 * a)
    return Atoms(symbols, [[0, 0, 0], [a, 0, 0], [x, np.sqrt(b**2 - x**2), 0]])


@pytest.mark.parametrize(("n_species", "count"), [(1, 2), (2, 6), (3, 12)])
def test_number_of_networks(n_species, count):
    model = model_of(species=tuple(range(6, 6 + n_species)))
    stacked = [model.pair.networks, model.triplet.networks]
    assert sum(len(weights.weight_1) for weights in stacked) == sum(weights.n_types for weights in stacked) == count


def test_no_type_shares_weights():
    """The networks of a kind are of one shape, and each learns from its own pairs only."""
    model = model_of(terms=("pair",), cutoff=3.0)
    for symbols, alive in (("C2", 0), ("CSi", 1), ("Si2", 2)):
        model.zero_grad()
        model(from_atoms(Atoms(symbols, [[0, 0, 0], [0, 0, 2.0]]), 3.0)).energies.sum().backward()
        touched = model.pair.networks.weight_1.grad.abs().amax(dim=(1, 2)) > 0
        assert touched.tolist() == [k == alive for k in range(3)]


def test_pairs_are_additive():
    model = model_of(terms=("pair",), cutoff=3.0)
    a, b, c = 1.9, 2.3, 2.7
    pairs = [energy(model, Atoms(s, [[0, 0, 0], [0, 0, d]])) for s, d in (("SiC", a), ("SiC", b), ("C2", c))]
    assert abs(pairs[0]) > 1e-4
    assert energy(model, triangle("SiCC", (a, b, c))) == pytest.approx(sum(pairs), rel=1e-12)


def test_triplets_need_three_atoms_and_see_the_angle():
    model = model_of(terms=("triplet",), cutoff=3.0)
    assert energy(model, Atoms("SiC", [[0, 0, 0], [0, 0, 1.9]])) == 0
    # the third side beyond the cutoff leaves one triplet, that of the first atom; its angle counts
    wide, wider = (energy(model, triangle("SiCC", (1.9, 1.9, side))) for side in (3.2, 3.6))
    assert abs(wide) > 1e-5
    assert abs(wide - wider) > 1e-6


@pytest.mark.parametrize("symbols", ["SiCC", "SiCSi", "CCC"])
def test_triplets_do_not_depend_on_the_order_of_their_ends(symbols):
    model = model_of(terms=("triplet",), cutoff=3.0)
    atoms = triangle(symbols, (1.7, 2.3, 3.3))  # the only triplet is that of the first atom
    assert abs(energy(model, atoms)) > 1e-5
    assert energy(model, atoms[[0, 2, 1]]) == pytest.approx(energy(model, atoms), rel=1e-12)


def test_triplets_know_which_element_is_where():
    model = model_of(terms=("triplet",), cutoff=3.0)
    sides = (1.7, 2.3, 3.3)
    near_carbon = energy(model, triangle("SiCSi", sides))
    near_silicon = energy(model, triangle("SiSiC", sides))
    other_center = energy(model, triangle("CCSi", sides))
    assert len({round(value, 6) for value in (near_carbon, near_silicon, other_center)}) == 3


def test_terms_add_up():
    atoms = triangle("SiCC")
    model = model_of(cutoff=5.0)
    whole = energy(model, atoms)
    parts = []
    for term in model.config.terms:
        alone = model_of(cutoff=5.0, terms=(term,))
        alone.load_state_dict({name: w for name, w in model.state_dict().items() if name.startswith(f"{term}.")})
        parts.append(energy(alone, atoms))
    assert min(abs(part) for part in parts) > 1e-4
    assert whole == pytest.approx(sum(parts), rel=1e-12)


def test_only_message_passing_sees_beyond_the_short_cutoff():
    far = Atoms("SiC", [[0, 0, 0], [0, 0, 4.0]])
    assert energy(model_of(terms=("pair", "triplet"), cutoff=7.0), far) == 0
    assert abs(energy(model_of(cutoff=7.0), far)) > 1e-5


def test_stages():
    config = BodyOrderConfig(cutoff=6.0)
    pair, triplet, rest = BodyOrder.stages(config)
    assert [stage.learned for stage in (pair, triplet, rest)] == [("pair",), ("triplet",), ("message_passing",)]
    assert [stage.config.terms for stage in (pair, triplet)] == [("pair",), ("pair", "triplet")]
    assert pair.config.cutoff == triplet.config.cutoff == config.short_cutoff, "short graphs are enough there"
    assert rest.config == config
    assert pair.share + triplet.share + rest.share == pytest.approx(1)
    control = BodyOrder.stages(BodyOrderConfig(terms=("message_passing",)))
    assert [(stage.name, stage.share) for stage in control] == [("message_passing", 1.0)]
    without = BodyOrderConfig(terms=("pair", "triplet"), cutoff=6.0)
    assert BodyOrder.stages(without)[-1].config == without


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"short_cutoff": 8.0}, "at most cutoff"),
        ({"terms": ("pair", "pair")}, "twice"),
        ({"terms": ()}, "at least 1"),
        ({"terms": ("quadruplet",)}, "'message_passing'"),
    ],
)
def test_configurations_that_make_no_sense(keys, words):
    with pytest.raises(ValidationError, match=words):
        lookup("body_order").Config(**keys)
