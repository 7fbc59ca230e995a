"""Symmetry functions against numbers of n2p2's own tests, and the model in more configurations than its default."""

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError

from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import SpeciesIndex
from ase_mlcalc.models.behler_parrinello import ACTIVATIONS, BehlerParrinello, BehlerParrinelloConfig
from ase_mlcalc.nn.symmetry_functions import (
    CUTOFF_FUNCTIONS,
    NARROW,
    RADIAL,
    WEIGHTED_NARROW,
    WEIGHTED_RADIAL,
    WIDE,
    SymmetryFunction,
    SymmetryFunctions,
    cutoff_function,
)
from ase_mlcalc.testing import applicable_checks, structures
from ase_mlcalc.testing.subject import ModelSubject

S, CU, U, H = 16, 29, 92, 1

# r_c = 3, alpha = 0.2, at 0.8 r_c: value and derivative from test/cpp/test_CutoffFunction.cpp of n2p2
AT_08 = {
    "hard": (1.0, 0.0),
    "cos": (1.4644660940672610e-01, -4.6280030605816297e-01),
    "tanhu": (7.6891537120697719e-03, -3.7439367857705103e-02),
    "tanh": (1.7406350897769041e-02, -8.4753511078717925e-02),
    "exp": (2.7645304662956399e-01, -9.0270382572918972e-01),
    "poly1": (1.5624999999999989e-01, -4.6874999999999978e-01),
    "poly2": (1.0351562500000000e-01, -4.3945312499999933e-01),
    "poly3": (7.0556640624999223e-02, -3.8452148437500017e-01),
    "poly4": (4.8927307128898589e-02, -3.2444000244142152e-01),
}
INSIDE = {"tanhu": 3.6752000144553820e-01, "tanh": 8.3197479809356334e-01}

# the first atom of a few, r_c = 10, cutoff function tanhu: from test/cpp/fixtures.h of n2p2
POSITIONS = [[0.0, 0.0, 0.0], [1.0, 2.0, 1.0], [0.0, 3.0, -1.0], [-2.0, 1.0, -0.5]]
THREE = Atoms([H, H, H], POSITIONS[:3])
FOUR = Atoms([S, S, CU, U], POSITIONS)
KNOWN = [
    (THREE, SymmetryFunction(H, RADIAL, (H,), 0.001, 0.0, 0.0, 0.0, 10.0), 4.6578975865793892e-01),
    (THREE, SymmetryFunction(H, RADIAL, (H,), 0.030, 1.0, 0.0, 0.0, 10.0), 4.2613074319879601e-01),
    (THREE, SymmetryFunction(H, NARROW, (H, H), 0.001, 0.0, 1.0, 1.0, 10.0), 2.2781144245150042e-02),
    (THREE, SymmetryFunction(H, NARROW, (H, H), 0.030, 2.0, -1.0, 4.0, 10.0), 2.6506732726623567e-05),
    (THREE, SymmetryFunction(H, WIDE, (H, H), 0.001, 0.0, 1.0, 1.0, 10.0), 8.8187604914213763e-02),
    (THREE, SymmetryFunction(H, WIDE, (H, H), 0.031, 2.0, -1.0, 4.0, 10.0), 1.0245670290254523e-04),
    (FOUR, SymmetryFunction(S, RADIAL, (CU,), 0.030, 1.0, 0.0, 0.0, 10.0), 1.8212508087363616e-01),
    (FOUR, SymmetryFunction(S, RADIAL, (U,), 0.030, 1.0, 0.0, 0.0, 10.0), 2.5814603379946083e-01),
    (FOUR, SymmetryFunction(S, NARROW, (S, CU), 0.001, 0.0, 1.0, 1.0, 10.0), 2.2781144245150042e-02),
    (FOUR, SymmetryFunction(S, NARROW, (S, U), 0.001, 0.0, 1.0, 1.0, 10.0), 1.1723866787654575e-02),
    (FOUR, SymmetryFunction(S, NARROW, (CU, U), 0.001, 0.0, 1.0, 1.0, 10.0), 1.8921487310992163e-02),
    (FOUR, SymmetryFunction(S, WEIGHTED_RADIAL, (), 0.001, 0.0, 0.0, 0.0, 10.0), 3.4986591461381153e01),
    (FOUR, SymmetryFunction(S, WEIGHTED_RADIAL, (), 0.030, 1.0, 0.0, 0.0, 10.0), 3.2935153052088403e01),
    (FOUR, SymmetryFunction(S, WEIGHTED_NARROW, (), 0.001, 0.0, 1.0, 1.0, 10.0), 7.8310510986904234e01),
    (FOUR, SymmetryFunction(S, WEIGHTED_NARROW, (), 0.001, 1.0, -1.0, 4.0, 10.0), 3.6978004634143264e00),
]


def values(functions, atoms, name="tanhu", alpha=0.0):
    """Values of the functions of each element, for its first atom."""
    species = sorted(set(atoms.numbers.tolist()))
    graph = from_atoms(atoms, max(f.cutoff for f in functions))
    found = SymmetryFunctions(functions, species, name, alpha)(graph, SpeciesIndex(species)(graph.numbers))
    return {z: g_nf.numpy()[0] for z, g_nf in zip(species, found, strict=True)}


def test_names_stand_where_n2p2_counts_them():
    assert tuple(AT_08) == CUTOFF_FUNCTIONS
    assert CUTOFF_FUNCTIONS.index("exp") == 4
    assert CUTOFF_FUNCTIONS.index("poly4") == 8


@pytest.mark.parametrize("name", CUTOFF_FUNCTIONS)
def test_cutoff_functions(name):
    d = torch.tensor([2.4, 0.3, 3.0, 4.5], dtype=torch.float64, requires_grad=True)
    f = cutoff_function(d, 3.0, name, 0.2)
    (slope,) = torch.autograd.grad(f.sum() + 0 * d.sum(), d)
    np.testing.assert_allclose(f[0].item(), AT_08[name][0], rtol=1e-12)
    np.testing.assert_allclose(slope[0].item(), AT_08[name][1], rtol=1e-12)
    np.testing.assert_allclose(f[1].item(), INSIDE.get(name, 1.0), rtol=1e-14)
    assert f[2:].tolist() == slope[2:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", sorted(set(CUTOFF_FUNCTIONS) - {"hard"}))
def test_cutoff_functions_are_smooth_up_to_the_end(name):
    d = torch.tensor([3.0 - 1e-7, 3.0 - 1e-15], dtype=torch.float64, requires_grad=True)
    f = cutoff_function(d, 3.0, name, 0.2)
    (slope,) = torch.autograd.grad(f.sum() + 0 * d.sum(), d)
    assert torch.isfinite(slope).all()
    assert f.abs().max() < 1e-12
    assert slope.abs().max() < 1e-6


def test_unknown_cutoff_function_is_refused():
    with pytest.raises(ValueError, match="poly5"):
        cutoff_function(torch.ones(1), 3.0, "poly5")


@pytest.mark.parametrize("k", range(len(KNOWN)))
def test_values_of_n2p2(k):
    atoms, function, expected = KNOWN[k]
    elements = sorted(set(atoms.numbers.tolist()))
    others = [SymmetryFunction(z, RADIAL, (z,), 1.0, 0.0, 0.0, 0.0, 10.0) for z in elements]
    np.testing.assert_allclose(values([function, *others], atoms)[function.center][0], expected, rtol=1e-12)


def test_all_at_once_in_the_order_of_the_list():
    functions = [function for atoms, function, _ in KNOWN if atoms is FOUR]
    others = [SymmetryFunction(z, RADIAL, (z,), 1.0, 0.0, 0.0, 0.0, 10.0) for z in (CU, U)]
    expected = [value for atoms, _, value in KNOWN if atoms is FOUR]
    np.testing.assert_allclose(values(functions + others, FOUR)[S], expected, rtol=1e-12)
    np.testing.assert_allclose(values(others + functions[::-1], FOUR)[S], expected[::-1], rtol=1e-12)


def test_non_integer_exponents_and_atoms_in_line():
    line = Atoms([H, H, H], [[0, 0, 0], [1.0, 0, 0], [-1.3, 0, 0]])
    bent = SymmetryFunction(H, WIDE, (H, H), 0.1, 0.0, 1.0, 1.5, 6.0)
    assert values([bent], line)[H][0] == pytest.approx(0.0, abs=1e-15)
    straight = bent._replace(lambda_=-1.0)
    f = [float(cutoff_function(torch.tensor(d, dtype=torch.float64), 6.0, "tanhu")) for d in (1.0, 1.3)]
    expected = 2 * f[0] * f[1] * np.exp(-0.1 * (1.0 + 1.3**2))  # cos = -1: 2^(1 - ζ) 2^ζ
    assert values([straight], line)[H][0] == pytest.approx(expected, rel=1e-12)
    graph = from_atoms(line, 6.0)
    model = BehlerParrinello(BehlerParrinelloConfig(species=(1,), functions=(bent, straight))).double()
    r_pc = graph.vectors.requires_grad_()
    (g_pc,) = torch.autograd.grad(model(graph).energies.sum(), r_pc, create_graph=True)
    g_pc.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def _mixed_functions():
    made = []
    for z in (1, 8):
        made += [
            SymmetryFunction(z, RADIAL, (1,), 0.5, 1.0, 0.0, 0.0, 4.0),
            SymmetryFunction(z, RADIAL, (8,), 0.2, 0.0, 0.0, 0.0, 5.0),
            SymmetryFunction(z, NARROW, (8, 1), 0.05, 0.0, 1.0, 2.0, 5.0),
            SymmetryFunction(z, WIDE, (1, 1), 0.1, 0.5, -1.0, 3.0, 4.0),
            SymmetryFunction(z, WEIGHTED_RADIAL, (), 0.3, 1.5, 0.0, 0.0, 5.0),
            SymmetryFunction(z, WEIGHTED_NARROW, (), 0.1, 0.0, -1.0, 1.0, 3.5),
        ]
    return tuple(made)


def _standardised(config):
    """With the shifts and scales that training would take from a few molecules."""
    rng = np.random.default_rng(1)
    several = [structures.fitted(structures.ethanol(), config.species) for _ in range(4)]
    for atoms in several:
        atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
    return config.model_copy(update=config.from_structures(several))


VARIANTS = {
    "every kind of function, two cutoffs": _standardised(
        BehlerParrinelloConfig(species=(1, 8), cutoff=5.0, functions=_mixed_functions(), cutoff_function="cos")
    ),
    "an inner cutoff, another network for oxygen": BehlerParrinelloConfig(
        species=(1, 8),
        cutoff=4.0,
        cutoff_function="exp",
        cutoff_alpha=0.3,
        hidden=(12,),
        activations=("p",),
        element_hidden={8: (10, 8, 6)},
        element_activations={8: ("t", "g", "p")},
    ),
}
CASES = [
    pytest.param(name, check, id=f"{name}-{check.name}")
    for name, config in VARIANTS.items()
    for check in applicable_checks(BehlerParrinello, config)
]


@pytest.mark.parametrize(("name", "check"), CASES)
def test_variants_pass_the_suite(name, check):
    check.run(ModelSubject(BehlerParrinello, VARIANTS[name]))


def test_a_hard_cutoff_is_declared_not_smooth():
    config = BehlerParrinelloConfig(cutoff_function="hard")
    assert not BehlerParrinello(config).smooth
    assert BehlerParrinello(BehlerParrinelloConfig()).smooth
    smooth = next(c for c in applicable_checks(BehlerParrinello) if c.name == "smooth_at_cutoff")
    with pytest.raises(Exception, match="across the cutoff"):
        smooth.run(ModelSubject(BehlerParrinello, config.model_copy(update={"species": structures.SPECIES})))


@pytest.mark.parametrize("letter", ACTIVATIONS)
def test_activations(letter):
    x = np.array([-1.3, 0.0, 0.7])
    expected = {
        "t": np.tanh(x),
        "p": np.log(1 + np.exp(x)),
        "s": 1 / (1 + np.exp(-x)),
        "S": 1 - 1 / (1 + np.exp(-x)),
        "g": np.exp(-(x**2) / 2),
        "c": np.cos(x),
        "e": np.exp(-x),
        "r": np.maximum(x, 0),
        "h": x**2,
        "l": x,
    }[letter]
    np.testing.assert_allclose(ACTIVATIONS[letter](torch.from_numpy(x)).numpy(), expected, rtol=1e-14)


def test_inputs_are_standardised_on_the_structures():
    rng = np.random.default_rng(1)
    several = []
    for _ in range(6):
        atoms = structures.water()
        atoms.positions += 0.1 * rng.standard_normal(atoms.positions.shape)
        several.append(atoms)
    config = BehlerParrinelloConfig()
    config = config.model_copy(update=config.from_structures(several))
    functions = SymmetryFunctions(config.functions_in_use, config.species, config.cutoff_function, 0.0)
    found = [functions(g, SpeciesIndex((1, 8))(g.numbers)) for g in (from_atoms(a, config.cutoff) for a in several)]
    for row, z in enumerate((1, 8)):
        g_nf = torch.cat([each[row] for each in found]).numpy()
        x_nf = (g_nf - config.input_shift[z]) * config.input_scale[z]
        np.testing.assert_allclose(x_nf.mean(axis=0), 0.0, atol=1e-3)
        varying = g_nf.std(axis=0) > 2e-2 * g_nf.std(axis=0).max()
        assert varying.sum() > 5
        np.testing.assert_allclose(x_nf.std(axis=0)[varying], 1.0, rtol=1e-4)
    BehlerParrinelloConfig.model_validate(config.model_dump(mode="json"))  # what a checkpoint does


def test_elements_without_atoms_keep_finite_scales():
    found = BehlerParrinelloConfig(species=(1, 6, 8)).from_structures([structures.water()])
    assert all(np.isfinite(values).all() for table in found.values() for values in table.values())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"functions": [(1, 20, (8,), 0.1, 0.0, 0.0, 0.0, 5.0)]}, "kind 20"),
        ({"functions": [(1, 3, (8,), 0.1, 0.0, 1.0, 1.0, 5.0)]}, "2 elements of neighbours"),
        ({"functions": [(1, 2, (6,), 0.1, 0.0, 0.0, 0.0, 5.0)]}, "not in species"),
        ({"functions": [(1, 2, (8,), 0.1, 0.0, 0.0, 0.0, 9.0)]}, "beyond the cutoff"),
        ({"functions": [(1, 2, (8,), 0.1, 0.0, 0.0, 0.0, 0.0)]}, "cutoff of 0"),
        ({"functions": [(1, 2, (8,), 0.1, 0.0, 0.0, 0.0, 5.0)]}, "no symmetry function describes O"),
        ({"hidden": (10, 10, 10)}, "3 hidden layers but 2 activations"),
        ({"hidden": (), "activations": ()}, "at least one layer"),
        ({"input_shift": {1: (0.0,)}}, "1 values for"),
        ({"activations": ("x", "t")}, "activations"),
    ],
)
def test_configurations_that_make_no_model_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        BehlerParrinelloConfig.model_validate(keys)
