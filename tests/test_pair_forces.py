"""Forces of pairs: they add up to forces, obey Newton's third law, and are those of the pair potential there is."""

import csv

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from ase_mlcalc.analysis import pair_force_plot, pair_forces, pairs
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.checkpoint import save
from ase_mlcalc.cli import main
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import ModelError, SpeciesError, StructureError
from ase_mlcalc.model import lookup
from ase_mlcalc.potential import Baseline, Derived

PNG = b"\x89PNG"


def silicon_carbide():
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)  # smaller than the cutoffs: images count on their own
    atoms.rattle(0.1, seed=1)
    return atoms


def potential(name, **keys):
    model_class = lookup(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Derived(model_class(model_class.Config(species=(6, 14), **keys)).double(), Baseline(energy_scale=0.7))


POTENTIALS = {
    "body_order": {"cutoff": 4.0},
    "schnet": {"cutoff": 4.0, "features": 8, "n_interactions": 2},
    "stillinger_weber": {},
    "lennard_jones": {"sigma": 1.8, "cutoff": 4.0},
}


@pytest.mark.parametrize("name", POTENTIALS)
def test_they_add_up_to_the_forces(name):
    calc, atoms = MLCalculator(potential(name, **POTENTIALS[name])), silicon_carbide()
    pairs = pair_forces(calc, atoms)
    total = np.zeros((len(atoms), 3))
    np.add.at(total, pairs.centers, pairs.forces)
    atoms.calc = calc
    assert np.abs(atoms.get_forces()).max() > 1e-3
    assert total == pytest.approx(atoms.get_forces(), abs=1e-10 * np.abs(pairs.forces).max() + 1e-12)
    assert pairs.vectors == pytest.approx(
        atoms.positions[pairs.neighbors] - atoms.positions[pairs.centers] + pairs.shifts @ atoms.cell.array
    )


def test_the_other_end_feels_the_opposite():
    pairs = pair_forces(MLCalculator(potential("body_order", cutoff=4.0)), silicon_carbide())
    there = {
        (i, j, *s): f for i, j, s, f in zip(pairs.centers, pairs.neighbors, pairs.shifts, pairs.forces, strict=True)
    }
    assert len(there) == len(pairs.centers) > 100
    for (i, j, *shift), force in there.items():
        assert there[j, i, *(-np.array(shift))] == pytest.approx(-force, abs=1e-14)


def test_lennard_jones_is_the_derivative_of_its_pair_energy():
    sigma, epsilon, cutoff = 1.8, 0.3, 4.0
    model_class = lookup("lennard_jones")
    config = model_class.Config(species=(6, 14), sigma=sigma, epsilon=epsilon, cutoff=cutoff, onset_fraction=0.9)
    pairs = pair_forces(MLCalculator(model_class(config)), silicon_carbide())
    inner = pairs.distances < config.onset_fraction * cutoff  # where nothing is switched off
    d = pairs.distances[inner]
    assert inner.sum() > 50
    expected = 24 * epsilon / d * (2 * (sigma / d) ** 12 - (sigma / d) ** 6)  # -du/dd
    assert pairs.radial[inner] == pytest.approx(expected, rel=1e-10)
    assert (expected > 0).any(), "some repulsion"
    assert (expected < 0).any(), "and some attraction"
    across = pairs.forces + pairs.radial[:, None] * pairs.vectors / pairs.distances[:, None]
    assert np.abs(across).max() < 1e-12


def test_an_ensemble_has_the_mean():
    members = [potential("schnet", cutoff=4.0, features=8, n_interactions=n) for n in (1, 2)]
    atoms = silicon_carbide()
    both = pair_forces(MLCalculator(Ensemble(members)), atoms).forces
    each = [pair_forces(MLCalculator(member), atoms).forces for member in members]
    assert both == pytest.approx(0.5 * (each[0] + each[1]), abs=1e-14)


def test_pairs_of_elements_are_found():
    pairs = pair_forces(MLCalculator(potential("lennard_jones", cutoff=4.0)), silicon_carbide())
    counts = [pairs.of(6, 6).sum(), pairs.of(6, 14).sum(), pairs.of(14, 14).sum()]
    assert sum(counts) == len(pairs.centers)
    assert counts[1] == pairs.of(14, 6).sum() > 0


def test_what_has_no_forces_of_pairs_is_refused(tmp_path):
    model_class = lookup("tensor_field")
    free = model_class(model_class.Config(species=(6, 14), variant="free"))
    with pytest.raises(ModelError, match="forces of pairs"):
        pair_forces(MLCalculator(free), silicon_carbide())
    calc = MLCalculator(potential("lennard_jones", cutoff=4.0))
    with pytest.raises(SpeciesError, match="Au"):
        pair_forces(calc, Atoms("Au2", [[0, 0, 0], [0, 0, 2]]))
    lonely = pair_forces(calc, Atoms("C", [[0, 0, 0]]))
    assert lonely.forces.shape == (0, 3)
    with pytest.raises(StructureError, match="nothing to draw"):
        pair_force_plot(tmp_path / "a.png", lonely)


def test_pairwise_tensor_field_has_them():
    model_class = lookup("tensor_field")
    calc = MLCalculator(model_class(model_class.Config(species=(6, 14), variant="pairwise")))
    atoms = silicon_carbide()
    pairs = pair_forces(calc, atoms)
    total = np.zeros((len(atoms), 3))
    np.add.at(total, pairs.centers, pairs.forces)
    assert np.abs(total).max() > 1e-6
    assert total == pytest.approx(calc.get_forces(atoms), abs=1e-6 * np.abs(pairs.forces).max())


def test_few_pairs_are_drawn_as_points_that_are_all_there(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(pairs, "save", lambda figure, _: figures.append(figure))
    calc = MLCalculator(potential("lennard_jones", sigma=1.8, cutoff=4.0))
    many = bulk("Si", cubic=True) * 2
    many.rattle(0.1, seed=1)
    for atoms, has_mean in ((Atoms("Si3", [[0, 0, 0], [2.2, 0, 0], [0, 2.4, 0]]), False), (many, True)):
        found = pair_forces(calc, atoms)
        pair_force_plot(tmp_path / "pairs.png", found)
        (axes,) = figures.pop().axes
        points = axes.lines[1]
        radius = 0.5 * points.get_markersize() / 72.0
        per_inch = (axes.get_xlim()[1] - axes.get_xlim()[0]) / (axes.get_position().width * axes.figure.get_figwidth())
        assert points.get_xdata().max() + 0.5 * radius * per_inch < axes.get_xlim()[1]
        assert (axes.get_legend() is not None) == (len(axes.lines) == 3) == has_mean


def test_the_command_line_draws_and_writes(tmp_path, capsys):
    save(potential("stillinger_weber"), tmp_path / "model.safetensors")
    write(tmp_path / "sic.extxyz", silicon_carbide())
    words = ["pair-forces", tmp_path / "model.safetensors", tmp_path / "sic.extxyz", "--out", tmp_path / "pairs.png"]
    assert main([*map(str, words), "--csv", str(tmp_path / "pairs.csv")]) == 0
    assert (tmp_path / "pairs.png").read_bytes().startswith(PNG)
    assert capsys.readouterr().out.split() == [
        "wrote",
        str(tmp_path / "pairs.png"),
        "wrote",
        str(tmp_path / "pairs.csv"),
    ]
    with open(tmp_path / "pairs.csv") as file:
        rows = list(csv.DictReader(file))
    pairs = pair_forces(MLCalculator(potential("stillinger_weber")), silicon_carbide())
    assert len(rows) == len(pairs.centers)
    assert float(rows[5]["radial_eV_per_A"]) == pytest.approx(pairs.radial[5], rel=1e-6, abs=1e-8)
    assert {rows[0]["element_i"], rows[-1]["element_i"]} == {"Si", "C"}
    for name, start in (("pairs.pdf", b"%PDF"), ("pairs.svg", b"<?xml")):
        assert main([*map(str, words[:-1]), str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    assert main([*map(str, words[:-1]), str(tmp_path / "pairs.jpeg")]) == 1
    assert "ends in .png, .pdf, .svg" in capsys.readouterr().err
    assert main([*map(str, words), "--index", "7"]) == 1
    assert "has no structure 7" in capsys.readouterr().err
    words[2] = tmp_path / "absent.xyz"
    assert main([*map(str, words)]) == 1
    assert "no structure at" in capsys.readouterr().err
