"""Potentials side by side, and the verbs of the command line for ensembles."""

import json
import time

import ase.io
import numpy as np
import pytest
import torch
import training_cases as cases

from ase_mlcalc import checkpoint
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.cli import main
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.models.schnet import SchNet, SchNetConfig
from ase_mlcalc.potential import Derived
from ase_mlcalc.properties import Properties
from ase_mlcalc.training import side_by_side
from ase_mlcalc.training.side_by_side import short_names, split_arguments, time_calls, typical_structure


def schnet(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SchNet(SchNetConfig(species=(18, 36), cutoff=5.0, features=8, n_interactions=1, n_gaussians=8))
    return Derived(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two checkpoints, an ensemble in the folder of a run, and data."""
    path = tmp_path_factory.mktemp("compare")
    checkpoint.save(schnet(0), path / "network.safetensors")
    pair = LennardJones(LennardJonesConfig(species=(18, 36), epsilon=0.05, sigma=3.0, cutoff=5.0))
    checkpoint.save(Derived(pair), path / "pairs.safetensors")
    checkpoint.save(Ensemble([schnet(seed) for seed in range(3)]), path / "run" / "model.safetensors")
    cases.write(path / "crystals.extxyz", cases.crystals(12))
    cases.write(path / "clusters.extxyz", cases.clusters(5, names=("energy", "forces")))
    return path


def test_compare_prints_and_writes_what_each_model_alone_would_give(folder, tmp_path, capsys):
    words = ["network.safetensors", "pairs.safetensors", "run", "crystals.extxyz", "clusters.extxyz"]
    began = time.monotonic()
    out = tmp_path / "out"
    assert main(["compare", *(str(folder / word) for word in words), "--out", str(out), "--repeats", "4"]) == 0
    elapsed_ms = 1e3 * (time.monotonic() - began)
    shown = capsys.readouterr().out
    written = json.loads((out / "compare.json").read_text())["models"]
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert [row["name"] for row in written] == ["network", "pairs", "run"]
    size = sum(p.numel() for p in schnet(0).model.parameters())
    assert [written[0]["parameters"], written[2]["parameters"]] == [size, 3 * size]
    assert [row["n_members"] for row in written] == [1, 1, 3]
    assert written[2]["families"] == ["schnet"]
    for row in written:
        assert 0 < row["ms_per_call"] < elapsed_ms
        assert row["n_atoms_timed"] == 4
        assert f"{row['ms_per_call']:.3g}" in shown
        metrics = row["metrics"]
        assert (metrics["n_structures"], metrics["n_atoms"]) == (17, 68)
        for name in ("force_mae_meV_per_A", "energy_mae_meV_per_atom", "stress_rmse_GPa"):
            assert f"{metrics[name]:.4g}" in shown
    assert "per-atom stress" not in shown  # nobody labelled it
    # by hand, through the calculator
    errors = []
    for name in ("crystals", "clusters"):
        for atoms in ase.io.read(folder / f"{name}.extxyz", ":"):
            label = atoms.get_forces()
            atoms.calc = MLCalculator(folder / "run" / "model.safetensors")
            errors.append(np.abs(atoms.get_forces() - label).ravel())
    expected = 1e3 * np.concatenate(errors).mean()
    assert written[2]["metrics"]["force_mae_meV_per_A"] == pytest.approx(expected, rel=1e-4)


def test_models_are_told_from_data(folder, tmp_path):
    network, run, data = folder / "network.safetensors", folder / "run", folder / "crystals.extxyz"
    assert split_arguments([network, run, data]) == ([network, run], [data])
    with pytest.raises(ConfigError, match=r"no data among .*network"):
        split_arguments([network, run])
    with pytest.raises(ConfigError, match=r"no checkpoint \(a \.safetensors file, or a folder"):
        split_arguments([data, tmp_path])
    with pytest.raises(ConfigError, match="at least one"):
        side_by_side.compare_files([], [data], tmp_path)
    names = short_names([folder / "run" / "model.safetensors", tmp_path / "a.safetensors", folder / "a.safetensors"])
    assert names == ["run", str(tmp_path / "a.safetensors"), str(folder / "a.safetensors")]


def test_a_model_that_cannot_be_compared_is_named(folder, tmp_path, capsys):
    gold = cases.crystals(1)[0]
    gold.calc.atoms.numbers[:] = gold.numbers[:] = 79
    cases.write(tmp_path / "gold.extxyz", gold)
    words = [folder / "pairs.safetensors", folder / "network.safetensors", tmp_path / "gold.extxyz"]
    assert main(["compare", *map(str, words), "--out", str(tmp_path / "out")]) == 1
    assert "pairs: the potential does not know Au" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class Slow:
    """A potential that takes its time, and says when it was called."""

    cutoff, device = 5.0, torch.device("cpu")

    def __init__(self, name, seconds, calls):
        self.name, self.seconds, self.calls = name, seconds, calls
        self.inner = schnet(0)

    def __call__(self, graph):
        self.calls.append(self.name)
        time.sleep(self.seconds)
        return self.inner(graph)


def test_timing_is_interleaved_and_in_milliseconds():
    calls, atoms = [], cases.crystals(1)[0]
    before = atoms.positions.copy()
    slow, slower = time_calls([Slow("a", 0.01, calls), Slow("b", 0.05, calls)], atoms, 5)
    assert calls == ["a", "b"] * 7  # two of them to warm up
    assert 10 < slow < slower
    assert slower > 50
    assert np.array_equal(atoms.positions, before)


def test_a_structure_of_median_size_is_timed():
    frames = [Frame(cases.crystals(1)[0] * (k, 1, 1), Properties(), "", "x") for k in (3, 1, 2)]
    assert len(typical_structure(frames)) == 8


def test_calibrate_on_the_command_line(folder, tmp_path, capsys):
    model, data = folder / "run" / "model.safetensors", folder / "crystals.extxyz"
    assert main(["calibrate", str(model), str(data), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "calibration.json").read_text())["properties"]
    assert found.keys() == {"forces", "stress"}
    for one in found.values():
        assert f"{one['scale']:.4g}" in shown
        assert f"{one['rank_correlation']:.3f}" in shown
    assert (tmp_path / "out" / "calibration.png").read_bytes().startswith(b"\x89PNG")
    again = checkpoint.load(tmp_path / "out" / "model.safetensors")
    assert again.uncertainty_scale == {name: one["scale"] for name, one in found.items()}
    single = str(folder / "network.safetensors")
    assert main(["calibrate", single, str(data), "--out", str(tmp_path / "no")]) == 1
    assert "--members" in capsys.readouterr().err


def test_an_ensemble_is_trained_evaluated_and_run(tmp_path, capsys):
    data = cases.write(tmp_path / "data.extxyz", cases.crystals(12))
    cases.write(tmp_path / "start.extxyz", cases.crystals(1))
    (tmp_path / "train.toml").write_text(
        f'output = "{tmp_path}/run"\n[data]\ntrain = "{data}"\n[model]\nname = "schnet"\ncutoff = 5.0\nfeatures = 4\n'
        "n_interactions = 1\nn_gaussians = 4\n[train]\nmax_epochs = 1\nbatch_size = 4\n"
    )
    assert main(["train", str(tmp_path / "train.toml"), "--members", "2"]) == 0
    assert "an ensemble of 2" in capsys.readouterr().out
    model = tmp_path / "run" / "model.safetensors"
    assert main(["evaluate", str(model), str(data), "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "md.toml").write_text(
        f'[job]\nstructure = "{tmp_path}/start.extxyz"\nmodel = "{model}"\noutput = "{tmp_path}/md"\n'
        '[md]\nensemble = "nve"\ntemperature_K = 20\ntime_ps = 0.005\n'
    )
    assert main(["md", str(tmp_path / "md.toml"), "--set", "job.dtype=float64"]) == 0
    assert (tmp_path / "md" / "report.html").exists()
