import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.errors import DataError
from ase_mlcalc.potential import Baseline
from ase_mlcalc.properties import Properties
from ase_mlcalc.training.loss import DEFAULT_WEIGHTS, Loss, LossConfig, make_loss

SYSTEM = torch.tensor([0, 0, 1, 1, 1])  # two structures, of 2 and 3 atoms


def values(seed):
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return Properties(energy=normal(2), forces=normal(5, 3), stress=normal(2, 3, 3), stresses=normal(5, 3, 3))


def test_each_norm_by_hand():
    prediction, labels = values(0), values(1)
    energy = (prediction.energy - labels.energy) / torch.tensor([2, 3]) / 0.5
    force = (prediction.forces - labels.forces) / 2.0
    weights, scales = {"energy": 3.0, "forces": 7.0}, {"energy": 0.5, "forces": 2.0}
    expected = {
        "l2": 3 * energy.abs().mean() + 7 * force.norm(dim=1).mean(),
        "mse": 3 * energy.square().mean() + 7 * force.square().mean(),
        "huber": 3 * huber(energy, 0.3) + 7 * huber(force, 0.3),
    }
    for norm, value in expected.items():
        loss = Loss(weights, scales, norm, huber_delta=0.3)
        assert float(loss(prediction, labels, SYSTEM)) == pytest.approx(float(value), rel=1e-12)
        assert float(loss(labels, labels, SYSTEM)) == 0.0


def huber(x, delta):
    return torch.where(x.abs() < delta, x.square() / 2, delta * (x.abs() - delta / 2)).mean()


@pytest.mark.parametrize("norm", ["l2", "mse", "huber"])
def test_missing_labels_count_for_nothing(norm):
    prediction, labels = values(0), values(1)
    loss = Loss(dict.fromkeys(DEFAULT_WEIGHTS, 1.0), dict.fromkeys(DEFAULT_WEIGHTS, 1.0), norm)
    of_second = torch.tensor([False, False, True, True, True])
    alone = loss(
        Properties(
            prediction.energy[1:],
            forces=prediction.forces[of_second],
            stress=prediction.stress[1:],
            stresses=prediction.stresses[of_second],
        ),
        Properties(
            labels.energy[1:],
            forces=labels.forces[of_second],
            stress=labels.stress[1:],
            stresses=labels.stresses[of_second],
        ),
        torch.zeros(3, dtype=torch.int64),
    )
    for field in labels:
        if field is not None:
            field[: 1 if len(field) == 2 else 2] = torch.nan
    # a structure without a cell has NaN stress and no label for it: neither may reach the gradient
    prediction.stress[0] = torch.nan
    leaves = Properties(*(None if p is None else p.clone().requires_grad_() for p in prediction))
    both = loss(leaves, labels, SYSTEM)
    assert both.item() == pytest.approx(alone.item(), rel=1e-12)
    both.backward()
    for leaf in leaves:
        if leaf is not None:
            first, rest = (leaf.grad[:1], leaf.grad[1:]) if len(leaf) == 2 else (leaf.grad[:2], leaf.grad[2:])
            assert first.abs().max() == 0.0
            assert rest.isfinite().all()
            assert rest.abs().max() > 1e-6


def test_absent_labels_and_exact_predictions():
    prediction = values(0)
    loss = Loss({"forces": 1.0, "stress": 1.0}, {"forces": 1.0, "stress": 1.0}, "l2")
    assert float(loss(prediction, Properties(energy=prediction.energy), SYSTEM)) == 0.0
    forces = prediction.forces.clone().requires_grad_()
    loss(Properties(forces=forces), Properties(forces=prediction.forces), SYSTEM).backward()
    assert forces.grad.isfinite().all()  # the length of a zero vector has no NaN gradient


def frame(atoms, **labels):
    return Frame(atoms, Properties(**labels), "", "test.xyz[0]")


def test_weights_follow_the_labels():
    atoms = bulk("Ar", cubic=True)
    force = torch.full((4, 3), 2.0, dtype=torch.float64)
    frames = [frame(atoms, energy=torch.zeros(1), forces=force), frame(atoms, stress=torch.full((1, 3, 3), 0.1))]
    baseline = Baseline(energy_scale=5.0)
    loss = make_loss(LossConfig(), frozenset({"energies"}), frames, baseline)
    assert loss.weights == {name: DEFAULT_WEIGHTS[name] for name in ("energy", "forces", "stress")}
    assert loss.scales == {"energy": 5.0, "forces": pytest.approx(2.0), "stress": pytest.approx(0.1)}
    assert make_loss(LossConfig(forces=0, stress=4), frozenset({"energies"}), frames, baseline).weights == {
        "energy": 1.0,
        "stress": 4.0,
    }
    assert make_loss(LossConfig(), frozenset({"forces"}), frames, baseline).weights == {"forces": 1.0}


def test_what_cannot_be_trained_is_refused():
    crystal, molecule = bulk("Ar", cubic=True), Atoms("Ar2", np.eye(3)[:2] * 3)
    only_energy = [frame(crystal, energy=torch.zeros(1))]
    baseline = Baseline()
    with pytest.raises(DataError, match=r"forces asked for but in 0/1"):
        make_loss(LossConfig(forces=1.0), frozenset({"energies"}), only_energy, baseline)
    with pytest.raises(DataError, match=r"asks for energy, .*predicts forces"):
        make_loss(LossConfig(energy=1.0), frozenset({"forces"}), only_energy, baseline)
    with pytest.raises(DataError, match=r"nothing to train on"):
        make_loss(LossConfig(), frozenset({"forces"}), only_energy, baseline)
    with pytest.raises(DataError, match=r"test.xyz\[0\] .*no volume"):
        make_loss(LossConfig(), frozenset({"energies"}), [frame(molecule, stress=torch.zeros(1, 3, 3))], baseline)


def test_scales_of_zero_labels_stay_usable():
    frames = [frame(bulk("Ar", cubic=True), forces=torch.zeros(4, 3, dtype=torch.float64))]
    scale = make_loss(LossConfig(), frozenset({"energies"}), frames, Baseline()).scales["forces"]
    assert scale == 1.0
    assert math.isfinite(scale)


def test_rounding_is_no_scale():
    """Crystals at rest, as an equation of state has them, do not make errors of 1e-17 eV/Å count."""
    argon, baseline = bulk("Ar", a=5.0, cubic=True), Baseline(energy_scale=0.2)
    labels = {
        "forces": 1e-17 * torch.randn(4, 3, dtype=torch.float64),
        "stress": 1e-18 * torch.randn(1, 3, 3, dtype=torch.float64),
        "stresses": 1e-18 * torch.randn(4, 3, 3, dtype=torch.float64),
    }
    config = LossConfig(stresses=1.0)
    scales = make_loss(config, frozenset({"energies"}), [frame(argon, **labels)], baseline).scales
    assert scales == pytest.approx({"forces": 0.2, "stress": 0.2 * 4 / 125, "stresses": 0.2 / 125})
    small = {name: 1e13 * value for name, value in labels.items()}  # as small as labels of a relaxed cell may be
    scales = make_loss(config, frozenset({"energies"}), [frame(argon, **small)], baseline).scales
    assert scales == pytest.approx({name: float(value.square().mean().sqrt()) for name, value in small.items()})
