"""What a GPU computes is what the CPU computes: predictions, trainings, runs.  Skipped where there is no GPU."""

import numpy as np
import pytest
import torch
from training_cases import SCHNET, clusters, crystals, make_job, write

from ase_mlcalc.batch import Batch
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.md import MDConfig, read_thermo, run_md
from ase_mlcalc.model import registered
from ase_mlcalc.potential import Derived
from ase_mlcalc.properties import SPECS
from ase_mlcalc.testing import ModelSubject
from ase_mlcalc.testing.outcome import Judge
from ase_mlcalc.testing.structures import SPECIES
from ase_mlcalc.training import loop
from ase_mlcalc.training.loop import train
from ase_mlcalc.virials import available, virials

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
ROUNDING = 1e-9
SMALL = {
    "equivariant": {"name": "equivariant", "features": 4, "edge_features": 2, "l_max": 1},
    "schnet": SCHNET,
    "tensor_field": {"name": "tensor_field", "layers": [4, 4], "l_max": 1},
}


def close(got, expected, relative=ROUNDING):
    """Of the largest number, NaN in the same places."""
    Judge("gpu").close("on the GPU", got, expected, relative)


@pytest.fixture(params=sorted(registered()))
def subject(request):
    return ModelSubject(registered()[request.param])


def test_predictions_are_those_of_the_cpu(subject):
    graph = subject.graph(subject.crystal, subject.ethanol)
    expected, found = subject.potential(graph), Derived(subject.model().to("cuda"))(graph.to("cuda"))
    assert found.given() == expected.given()
    for name in expected.given():
        values = getattr(found, name)
        assert values.device.type == "cuda"
        close(values.cpu(), getattr(expected, name))


def test_the_calculator_gives_the_same(subject):
    atoms = subject.crystal.copy()
    here, there = MLCalculator(subject.potential), MLCalculator(subject.model(), device="cuda")
    for name in here.implemented_properties:
        close(there.get_property(name, atoms), here.get_property(name, atoms))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_kernels_of_the_cpu_agree(dtype):
    subject = ModelSubject(registered()["equivariant"])
    here = MLCalculator(subject.model(), dtype=dtype, compile=True)
    there = MLCalculator(subject.model(), dtype=dtype, device="cuda")
    for name in ("energy", "forces", "stress", "stresses"):
        close(
            there.get_property(name, subject.crystal),
            here.get_property(name, subject.crystal),
            1e-4 if dtype == "float32" else ROUNDING,
        )


def test_committees_and_batches():
    classes = [registered()[name] for name in ("schnet", "equivariant")]
    subjects = [ModelSubject(each, each.Config(species=SPECIES, cutoff=5.0)) for each in classes]
    structures = [subjects[0].crystal, subjects[0].crystal.repeat((2, 1, 1))]
    results = []
    for device in ("cpu", "cuda"):
        committee = Ensemble([Derived(subject.model().to(device)) for subject in subjects])
        batch = Batch(committee, [atoms.numbers for atoms in structures], np.stack([atoms.pbc for atoms in structures]))
        found = batch(np.concatenate([atoms.positions for atoms in structures]), np.stack([a.cell for a in structures]))
        assert not found.errors
        results.append([*(getattr(found.properties, name) for name in SPECS), found.std.forces])
    for expected, found in zip(*results, strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            close(found.cpu(), expected)


@pytest.mark.parametrize("name", ["equivariant", "schnet", "behler_parrinello"])
def test_virials_of_all_definitions(name):
    subject = ModelSubject(registered()[name])
    graph, model = subject.graph(subject.crystal), subject.model()
    there = Derived(subject.model().to("cuda"))
    for definition in available(model):
        expected = virials(Derived(model), graph, definition)
        close(virials(there, graph.to("cuda"), definition).cpu(), expected)


def forces_after(folder):
    return MLCalculator(folder / "model.safetensors", device="cpu").get_property("forces", crystals(1, seed=3)[0])


@pytest.mark.parametrize("name", sorted(SMALL))
def test_training_learns_the_same(name, tmp_path):
    file = write(tmp_path / "data.xyz", clusters(10) + crystals(6))
    for device in ("cpu", "cuda"):
        train(make_job(tmp_path / device, file, model=SMALL[name], device=device, dtype="float64", max_epochs=2))
    close(forces_after(tmp_path / "cuda"), forces_after(tmp_path / "cpu"), 1e-5)


def test_a_training_goes_on_from_where_it_was_stopped(tmp_path, monkeypatch):
    file = write(tmp_path / "data.xyz", clusters(10) + crystals(6))
    whole, parts = (make_job(tmp_path / name, file, device="cuda", max_epochs=4) for name in ("whole", "parts"))
    train(whole)
    plain, epochs = loop.run_epoch, []

    def stopped(run):
        epochs.append(run.state.epoch)
        if run.state.epoch == 2:
            raise KeyboardInterrupt
        return plain(run)

    monkeypatch.setattr(loop, "run_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(parts)
    monkeypatch.undo()
    train(parts)
    assert epochs == [0, 1, 2]
    close(forces_after(tmp_path / "parts"), forces_after(tmp_path / "whole"), 1e-3)  # float32, sums in any order


def test_runs_follow_the_same_trajectory(tmp_path):
    train(make_job(tmp_path / "model", write(tmp_path / "data.xyz", crystals(12)), dtype="float64", max_epochs=2))
    energies = []
    for device in ("cpu", "cuda"):
        atoms = crystals(1)[0]
        atoms.calc = MLCalculator(tmp_path / "model" / "model.safetensors", device=device, dtype="float64")
        config = MDConfig(ensemble="nve", temperature_K=50, timestep_fs=1.0, time_ps=0.05, seed=5)
        run_md(atoms, config, tmp_path / device, progress=False)
        energies.append(read_thermo(tmp_path / device / "thermo.csv")["md"])
    for name in ("total_eV", "temperature_K"):
        close(energies[1][name], energies[0][name], 1e-6)
