"""Building blocks of the networks against e3nn, definitions and group theory."""

import pytest
import torch
from e3nn import o3

from ase_mlcalc.nn.constant import Constant
from ase_mlcalc.nn.irreps import IrrepsLinear, IrrepsProduct, SphericalHarmonics, degree_of_components
from ase_mlcalc.nn.radial import BesselBasis, GaussianBasis, envelope

L_MAX = 3


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def random_irreps(n_atoms, channels):
    return torch.randn((L_MAX + 1) ** 2, n_atoms, channels, dtype=torch.float64)


def turned(x, rotation):
    """The same features after the structure was rotated (or mirrored)."""
    u = torch.nn.functional.normalize(torch.randn(100, 3, dtype=torch.float64), dim=1)
    degrees = list(range(L_MAX + 1))
    # e3nn's own matrices of rotations have single precision; its harmonics determine them exactly
    before, after = (o3.spherical_harmonics(degrees, v, normalize=False) for v in (u, u @ rotation.T))
    d = torch.linalg.lstsq(before, after).solution.T
    return torch.einsum("ij,jnc->inc", d, x)


def test_harmonics_are_those_of_e3nn_also_after_a_stay_in_float32():
    u = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    expected = o3.spherical_harmonics(list(range(5)), u, normalize=False, normalization="component")
    torch.testing.assert_close(SphericalHarmonics(4).float().double()(u), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_layers_turn_with_their_inputs(mirror):
    rotation = mirror * o3.rand_matrix(dtype=torch.float64)
    x, y = random_irreps(4, 5), random_irreps(4, 5)
    linear, product = IrrepsLinear(5, 6, L_MAX).double(), IrrepsProduct(5, 6, L_MAX, L_MAX).double()
    for before, after in (
        (linear(x), linear(turned(x, rotation))),
        (product(x, y), product(turned(x, rotation), turned(y, rotation))),
    ):
        assert before.abs().max() > 0.1
        assert (after - before).abs().max() > 0.1  # they are not all scalars
        torch.testing.assert_close(after, turned(before, rotation), rtol=0, atol=1e-12)


def test_product_keeps_only_the_degrees_asked_for():
    x, y = random_irreps(4, 5), random_irreps(4, 5)
    whole, scalars = IrrepsProduct(5, 6, L_MAX, L_MAX).double(), IrrepsProduct(5, 6, L_MAX, 0).double()
    scalars.weights[0].data = whole.weights[0].data
    torch.testing.assert_close(scalars(x, y), whole(x, y)[:1])
    # the scalar of two vectors is their dot product, up to a constant
    only_vectors = torch.where((degree_of_components(L_MAX) == 1)[:, None, None], x, 0.0)
    coupled = IrrepsProduct(1, 1, L_MAX, 0).double()
    got = coupled(only_vectors[..., :1], only_vectors[..., :1])[0, :, 0]
    squared = only_vectors[..., 0].square().sum(dim=0)
    torch.testing.assert_close(got / squared, (got / squared)[0].expand(4))


@pytest.mark.parametrize("p", [3, 6])
def test_envelope_and_two_derivatives_vanish_at_the_cutoff(p):
    d = torch.tensor([0.0, 2.5, 4.0 - 1e-6, 4.0, 5.0], dtype=torch.float64, requires_grad=True)
    u = envelope(d, 4.0, p)
    (first,) = torch.autograd.grad(u.sum(), d, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), d)
    assert u[0] == 1
    assert 0.1 < u[1] < 0.95
    for values in (u, first, second):
        assert values[2:].abs().max() < 1e-5
        assert values[1].abs() > 0.01
    assert not u[3:].any()


def test_radial_functions_are_those_of_the_papers():
    d = torch.tensor([1.0, 2.5], dtype=torch.float64)
    bessel = BesselBasis(3, 5.0)(d)
    assert bessel[0, 1].item() == pytest.approx((2 / 5) ** 0.5 * torch.sin(torch.tensor(2 * torch.pi / 5)).item())
    damped = BesselBasis(3, 5.0, decay=2.0)(d) / bessel
    assert (damped[:, 1:] / damped[:, :1])[0].tolist() == pytest.approx([1 / 4, 1 / 9])
    assert damped[0].square().mean().item() == pytest.approx(1)
    gaussian = GaussianBasis(6, 5.0)(d)
    assert gaussian[0].tolist() == pytest.approx([2.718281828 ** (-0.5 * (1 - k) ** 2) for k in range(6)])


def test_constants_follow_to_a_device_but_keep_their_precision():
    layer = torch.nn.Sequential(torch.nn.Linear(1, 1), Constant(torch.tensor([1 / 3], dtype=torch.float64))).float()
    assert layer[1].values.dtype == torch.float64
    assert layer[1](torch.zeros(1)).dtype == torch.float32
    assert layer.double()[1](torch.zeros(1, dtype=torch.float64)).item() == 1 / 3
    assert layer.to("meta")[1].values.device.type == "meta"
    assert list(layer.state_dict()) == ["0.weight", "0.bias"]
