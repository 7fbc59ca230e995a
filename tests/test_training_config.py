import math
import time
import tomllib

import numpy as np
import pytest
import torch
from ase import Atoms
from training_cases import SCHNET, make_job

from ase_mlcalc.config import changed_keys, template, validate
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.errors import ConfigError, DataError, ModelError, SpeciesError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import Model, MoleculeConfig, lookup
from ase_mlcalc.potential import Derived
from ase_mlcalc.properties import Properties
from ase_mlcalc.testing import temporary_models
from ase_mlcalc.training.config import TrainConfig, TrainJob, resolve_model, resolved, to_toml
from ase_mlcalc.training.ema import MovingAverage
from ase_mlcalc.training.optimizers import make_optimizer
from ase_mlcalc.training.schedule import Budget, learning_rate_factor


def frames_of(*numbers):
    return [
        Frame(Atoms(list(numbers), positions=[[2.0 * n, 0, 0] for n in range(len(numbers))]), Properties(), "", "x")
    ]


def test_typos_are_answered_with_the_likely_key(tmp_path):
    with pytest.raises(ConfigError, match=r"train\.max_epoch'; did you mean 'max_epochs'"):
        make_job(tmp_path, "a.xyz", max_epoch=3)
    with pytest.raises(ConfigError, match=r"train\.loss\.force'; did you mean 'forces'"):
        make_job(tmp_path, "a.xyz", loss={"force": 3})
    with pytest.raises(ConfigError, match=r"did you mean 'features'"):
        resolve_model({"name": "schnet", "feature": 3}, frames_of(1))
    with pytest.raises(ConfigError, match=r"give max_minutes .* or max_epochs"):
        make_job(tmp_path, "a.xyz", max_epochs=None)
    with pytest.raises(ConfigError, match="needs name"):
        make_job(tmp_path, "a.xyz", model={"cutoff": 3.0})
    with pytest.raises(ConfigError, match="Xx"):
        make_job(tmp_path, "a.xyz", data={"isolated_energy_eV": {"Xx": -1.0}})


def test_the_model_table_is_checked_against_the_data():
    model, config = resolve_model({"name": "schnet", "cutoff": 2.5}, frames_of(8, 1, 8))
    assert (model.name, config.species) == ("schnet", (1, 8))
    assert config.mean_neighbors == pytest.approx(4 / 3, abs=0.01)  # 1, 2 and 1 within 2.5 Å
    with pytest.raises(SpeciesError, match="O "):
        resolve_model({"name": "schnet", "species": [1]}, frames_of(1, 8))
    with pytest.raises(ModelError, match="schnot"):
        resolve_model({"name": "schnot"}, frames_of(1))
    with pytest.raises(ConfigError, match="nothing to train"):
        resolve_model({"name": "lennard_jones"}, frames_of(18))


def test_resolved_configuration_survives_writing(tmp_path):
    job = make_job(tmp_path, "a.xyz", data={"isolated_energy_eV": {"Ar": -1.5}}, loss={"energy": 0.5})
    job = resolved(job, resolve_model(job.model, frames_of(18))[1])
    again = validate(TrainJob, tomllib.loads(to_toml(job)), "test")
    assert again.model_dump_json() == job.model_dump_json()
    assert again.model["species"] == [18]
    assert "max_minutes" in template(TrainConfig, "train")


def test_changes_are_named():
    old, new = {"train": {"seed": 1, "loss": {"forces": 1}}}, {"train": {"seed": 2, "loss": {"forces": 1}}}
    assert changed_keys(old, new) == ["train.seed (was 1, now 2)"]
    assert changed_keys(old, old) == []


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_learning_rate_rises_stays_and_falls(schedule):
    def factor(progress, step):
        return learning_rate_factor(progress, step, schedule=schedule, warmup_steps=9, decay_from=0.5)

    assert factor(0.0, 0) == pytest.approx(0.1)
    assert factor(0.0, 9) == factor(0.5, 500) == pytest.approx(1.0)
    assert factor(0.75, 500) == pytest.approx(0.5, abs=1e-3)
    assert 0 < factor(1.0, 500) < 0.002
    falling = [factor(x / 50, 500) for x in range(25, 51)]
    assert falling == sorted(falling, reverse=True)


def test_progress_is_the_larger_of_time_and_epochs():
    now = time.monotonic()
    epochs_only = Budget(10, None, now - 1e6)
    assert epochs_only.progress(2.5) == 0.25
    assert not epochs_only.out_of_time
    both = Budget(10, 2.0, now - 30, elapsed_before_s=15.0, reserve_s=30.0)
    assert both.progress(1.0) == pytest.approx(0.5, abs=0.01)
    assert both.progress(7.0) == 0.7
    assert Budget(None, 1.0, now - 31, reserve_s=30.0).out_of_time
    assert Budget(None, 1.0, now - 31, reserve_s=30.0).progress(0.0) == 1.0


def test_moving_average_follows_slowly():
    model_class = lookup("schnet")
    model = model_class(model_class.Config(**{k: v for k, v in SCHNET.items() if k != "name"}))
    average = MovingAverage(model, 0.9)
    before = [p.clone() for p in average.model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    average.update(step=1000)
    for slow, start in zip(average.model.parameters(), before, strict=True):
        assert torch.allclose(slow, start + 0.1, atol=1e-6)
    average.update(step=0)  # early on only a tenth of the past is kept
    for slow, start in zip(average.model.parameters(), before, strict=True):
        assert torch.allclose(slow, start + 0.91, atol=1e-6)


def test_the_optimizer_covers_every_parameter_once():
    model_class = lookup("schnet")
    model = model_class(model_class.Config())
    groups = make_optimizer(model, TrainConfig(max_epochs=1)).param_groups
    covered = [p for group in groups for p in group["params"]]
    assert {id(p) for p in covered} == {id(p) for p in model.parameters()}
    assert len(covered) == len(list(model.parameters()))
    assert all(math.isfinite(group["lr"]) and group["lr"] > 0 for group in groups)


class BoxConfig(MoleculeConfig):
    """Hyper-parameters of a model of one molecule."""


def test_a_model_of_one_molecule_takes_its_atoms_from_the_data():
    def frames(*orders):
        return [frame for numbers in orders for frame in frames_of(*numbers)]

    with temporary_models():

        class Box(Model, name="box", outputs={"energy"}):
            Config = BoxConfig
            transferable = False

            def forward(self, graph):
                return Properties(energy=graph.vectors.new_zeros(graph.n_structures))

        _, config = resolve_model({"name": "box"}, frames([1], [1, 8, 1], [1, 8, 1]))
        assert (config.numbers, config.species) == ((1, 8, 1), (1, 8))
        with pytest.raises(DataError, match=r"one order of atoms, H O H, and a structure has O H2; sort"):
            resolve_model({"name": "box"}, frames([1, 8, 1], [8, 1, 1]))
        with pytest.raises(DataError, match=r"one order of atoms, O H2, and a structure has H O H; sort"):
            resolve_model({"name": "box", "numbers": [8, 1, 1]}, frames([1, 8, 1]))
        with pytest.raises(DataError, match=r"model 'box' was made for H O H in this order, got O H2; sort"):
            Derived(Box(config))(from_atoms(Atoms("OH2", np.eye(3)), 5.0))
        assert Derived(Box(config))(from_atoms(Atoms("HOH", np.eye(3)), 5.0)).energy.tolist() == [0.0]
