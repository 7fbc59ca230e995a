"""Observables as a whole: distances from a reference, what is written and read, the command line, real dynamics."""

import json
import re
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
from matplotlib.image import imread
from observables_cases import gas, langevin, trajectory
from scipy import stats

from ase_mlcalc.analysis import (
    TrajectoryFile,
    compare_observables,
    measure_observables,
    observables_plots,
    write_observables,
)
from ase_mlcalc.analysis.compare import distance, l1, w1
from ase_mlcalc.analysis.curves import Axis, Curve
from ase_mlcalc.analysis.observables import curves_of
from ase_mlcalc.analysis.observables_plots import is_like, seen_curves
from ase_mlcalc.cli import main
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.md.velocities import draw_momenta, remove_rigid_motion
from ase_mlcalc.plots import new_axes, new_figure
from ase_mlcalc.report import observables
from ase_mlcalc.report.observables import Measured, observable_blocks

X = np.linspace(0.005, 9.995, 1000)


def curve(y, blocks=None, x=X):
    return Curve(x, y, np.array([y, y]) if blocks is None else blocks, Axis("distance", "Å"), Axis("density", "1/Å"))


# ----- distances of curves -----


def test_distances_of_shifted_gaussians():
    """W1 is the shift; L1 is 2 (2 Phi(shift / 2 sigma) - 1)."""
    for shift in (0.1, 0.5, 3.0):
        one, other = curve(stats.norm.pdf(X, 3.0, 0.3)), curve(stats.norm.pdf(X, 3.0 + shift, 0.3))
        assert distance(w1, one, other, "Å").value == pytest.approx(shift, rel=1e-6)
        expected = 2 * (2 * stats.norm.cdf(shift / 0.6) - 1)
        assert distance(l1, one, other, "").value == pytest.approx(expected, rel=1e-3)


def test_w1_is_that_of_scipy():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 1000))
    expected = stats.wasserstein_distance(X, X, one, other)
    assert expected > 1e-3
    assert w1(one, other, 0.01) == pytest.approx(expected)


def noisy(rng, n_blocks=8):
    blocks = stats.norm.pdf(X[::10], 3.0, 0.5) + 0.05 * rng.standard_normal((n_blocks, 100))
    return curve(blocks.mean(axis=0), blocks, X[::10])


def test_chance_is_exceeded_once_in_twenty():
    rng = np.random.default_rng(0)
    alarms = {l1: 0, w1: 0}
    for _ in range(200):
        one, other = noisy(rng), noisy(rng)
        for measure in alarms:
            alarms[measure] += bool(distance(measure, one, other, "").significant)
    assert 2 <= alarms[l1] <= 20  # 10 of 200 expected
    assert 2 <= alarms[w1] <= 20


def test_a_difference_is_seen_and_has_an_error():
    rng = np.random.default_rng(1)
    one, other = noisy(rng), noisy(rng)
    moved = Curve(one.x, np.roll(one.y, 3), np.roll(one.blocks, 3, axis=1), one.x_axis, one.y_axis)
    found = distance(l1, moved, other, "")
    assert found.significant
    assert 0 < found.stderr < 0.3 * found.value
    assert 0 < found.halves < found.value
    assert found.noise < found.value
    repeats = []
    for _ in range(100):
        again = noisy(rng)
        repeats.append(l1(np.roll(again.y, 3), noisy(rng).y, again.step))
    assert found.stderr == pytest.approx(np.std(repeats), rel=0.5)


def test_grids_may_differ():
    fine, coarse = curve(stats.norm.pdf(X, 3, 0.5)), curve(stats.norm.pdf(X[5::20], 3.4, 0.5), x=X[5::20])
    assert distance(w1, fine, coarse, "Å").value == pytest.approx(0.4, rel=1e-3)
    assert distance(w1, coarse, fine, "Å").value == pytest.approx(0.4, rel=1e-3)
    assert distance(w1, fine, curve(X, x=X + 50.0), "Å") is None


def test_one_block_has_a_distance_and_no_error():
    one = curve(stats.norm.pdf(X, 3, 0.5), stats.norm.pdf(X, 3, 0.5)[None])
    found = distance(l1, one, one, "")
    assert found == (0.0, None, None, None, "")
    assert found.significant is None
    assert np.isnan(one.stderr).all()


# ----- trajectories -----


@pytest.fixture(scope="module")
def cold_and_hot(tmp_path_factory):
    """Files with langevin particles at two temperatures, with times and momenta."""
    folder = tmp_path_factory.mktemp("runs")
    for name, temperature, seed in (("cold", 100.0, 0), ("hot", 400.0, 1), ("again", 100.0, 2)):
        x, v = langevin(12, 400, step_fs=10.0, friction_per_ps=10.0, temperature_K=temperature, mass=20.0, seed=seed)
        frames = trajectory("Ar12", x, velocities=v, masses=[20.0] * 12, cell=[12.0] * 3, pbc=True, step_fs=10.0)
        ase.io.write(folder / f"{name}.traj", frames)
    return folder


def test_comparison_tells_temperatures_apart(cold_and_hot):
    cold = measure_observables(TrajectoryFile(cold_and_hot / "cold.traj"))
    hot = measure_observables(TrajectoryFile(cold_and_hot / "hot.traj"), like=cold)
    again = measure_observables(TrajectoryFile(cold_and_hot / "again.traj"), like=cold)
    rows = {row.observable: row for row in compare_observables(hot, cold)}
    assert {"rdf", "h_of_r", "msd", "diffusion", "vacf", "vdos"} <= set(rows)
    assert rows["diffusion"].significant
    assert rows["msd"].significant
    same = {row.observable: row for row in compare_observables(again, cold)}
    assert not same["diffusion"].significant
    assert same["msd"].l1.value < 0.3 * rows["msd"].l1.value
    assert all(row.l1.value == 0.0 for row in compare_observables(cold, cold))


def test_bonds_cut_elsewhere_are_not_compared():
    frames = gas(16)
    near, far = (measure_observables(frames, bond_cutoffs_A={"Ar-Ar": cutoff}) for cutoff in (3.0, 4.0))
    assert {"coordination", "angles"} <= {row.observable for row in compare_observables(near, near)}
    assert not {"coordination", "angles"} & {row.observable for row in compare_observables(near, far)}


def test_coordination_beyond_that_of_the_reference_counts():
    """Pairs, and tetrahedra of the same bonds: one neighbour and three."""
    pairs = Atoms("N4", [[0, 0, 0], [1.1, 0, 0], [6, 0, 0], [7.1, 0, 0]])
    tetrahedron = Atoms("N4", 1.1 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.866, 0], [0.5, 0.289, 0.816]]))
    one, three = (
        measure_observables(shaken(atoms, 0.02), bond_cutoffs_A={"N-N": 1.6}) for atoms in (pairs, tetrahedron)
    )
    for mine, reference in ((three, one), (one, three)):
        (row,) = (row for row in compare_observables(mine, reference) if row.observable == "coordination")
        assert row.l1.value == pytest.approx(2.0)
        assert row.w1.value == pytest.approx(2.0)
        assert row.significant


def test_w1_is_left_out_where_nothing_is_in_common():
    frames = gas(16)
    found = measure_observables(frames)
    near, far = (X > 1.0) & (X < 2.0), (X > 6.0) & (X < 7.0)  # on grids from 0 to 10 and from 5 to 15
    near, far = (replace(found, h_of_r=each) for each in (curve(1.0 * near), curve(1.0 * far, x=X + 5.0)))
    for one, other in ((near, far), (far, near)):
        row = next(row for row in compare_observables(one, other) if row.observable == "h_of_r")
        assert row.w1 is None


def test_blocks_have_to_be_two():
    with pytest.raises(ConfigError, match="at least 2"):
        measure_observables(gas(4), n_blocks=1)


def test_copper_at_room_temperature():
    """EMT: twelve neighbours, no diffusion, phonons where copper has them, equipartition."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.calc = EMT()
    draw_momenta(atoms, 600.0, np.random.default_rng(0))  # half of it goes into the potential energy
    remove_rigid_motion(atoms)
    dynamics, frames = VelocityVerlet(atoms, 5 * units.fs), []
    dynamics.run(100)
    for _ in range(200):
        dynamics.run(2)
        frames.append(atoms.copy())
    found = measure_observables(frames, interval_fs=10.0)
    assert found.coordination_means()["Cu around Cu"][0] == pytest.approx(12.0, abs=0.05)
    assert 200 < found.temperature_K < 400
    states = found.vdos["Cu"]
    assert states.area == pytest.approx(93.0)
    below = states.y[states.x < 350.0].sum() / states.y.sum()
    assert below > 0.97  # the highest phonon of copper is at 250/cm, the stretches resolve 80/cm
    mean = (states.x @ states.y) / states.y.sum()
    assert 100 < mean < 220
    assert not found.diffusion["Cu"].diffusive


# ----- pictures -----


def shaken(atoms, sigma, *, held=0, n_frames=40):
    """Frames of a crystal whose atoms, save the first ones, are moved at random by sigma in Å."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(n_frames):
        frame = atoms.copy()
        frame.positions[held:] += sigma * rng.standard_normal((len(atoms) - held, 3))
        frames.append(frame)
    return frames


SLANTED = [[6.0, 0.0, 0.0], [2.0, 7.0, 0.0], [0.5, 1.0, 9.5]]


@pytest.mark.parametrize(
    ("frames", "lengths"),
    [
        (shaken(bulk("Cu", a=3.6, cubic=True) * 2, 0.1), [7.2]),  # on the edge of two bins
        (shaken(bulk("Cu", a=3.6, cubic=True) * 2, 0.0), [7.2]),  # where other atoms are as well
        (shaken(bulk("NaCl", "rocksalt", a=5.64, cubic=True), 0.1), [5.64, 7.976, 9.769]),
        (gas(40, "Ar20Kr3", SLANTED), [6.0, 7.280, 8.062, 9.566]),
        (gas(40, "Ar20", (12.0, 12.0, 12.0)), []),
        (gas(40, "Ar20", SLANTED, pbc=False), []),
    ],
)  # fmt: skip
def test_own_images_are_left_out_of_pictures(frames, lengths):
    found = measure_observables(frames)
    for name in ("rdf", "h_of_r"):
        curves, places = seen_curves(found, name)
        assert (places == ()) if not lengths else places == pytest.approx(lengths, abs=0.02)
        for label, curve in curves_of(found, name).items():
            difference = curve.y - curves[label].y
            assert difference.min() >= 0.0
            assert (curves[label].y >= 0.0).all()
            if lengths and is_like(label):
                assert (np.abs(curve.x[difference > 0.0][:, None] - lengths).min(axis=1) < 0.02).all()
            else:
                assert not difference.any()


def test_other_atoms_at_a_cell_vector_stay():
    """Of 2 x 2 x 3 cells of copper at rest, 4 of the 6 neighbours at 2 a are images of the atom itself."""
    found = measure_observables(shaken(bulk("Cu", a=3.6, cubic=True) * (2, 2, 3), 0.0))
    seen, _ = seen_curves(found, "rdf")
    peak = np.abs(found.rdf["Cu-Cu"].x - 7.2) < 0.03
    assert seen["Cu-Cu"].y[peak].sum() == pytest.approx(found.rdf["Cu-Cu"].y[peak].sum() * 2 / 6)


def test_own_images_are_no_peak_of_pictures(monkeypatch, tmp_path):
    """They are the highest by far of one element; without them near neighbours are."""
    alloy = bulk("Cu", a=3.6, cubic=True) * 2
    alloy.symbols[:8] = "Ni"
    found = measure_observables(shaken(alloy, 0.12))
    assert found.rdf["Ni-Ni"].x[found.rdf["Ni-Ni"].y.argmax()] == pytest.approx(7.2, abs=0.03)
    figures = []
    monkeypatch.setattr(observables_plots, "save", lambda figure, path: figures.append((path.stem, figure)))
    observables_plots.draw_observables(tmp_path, found)
    panels = {axes.get_title(): axes for axes in dict(figures)["rdf"].axes}
    for name, axes in panels.items():
        (line,) = (each for each in axes.lines if len(each.get_xdata()) > 10)
        assert line.get_xdata()[line.get_ydata().argmax()] < 5.0
        assert axes.get_ylim()[1] < 1.5 * line.get_ydata().max()
        words = [text.get_text() for text in axes.texts]
        assert words.count("cell vector") == (name != "Ni-Cu"), "unlike atoms are not images of each other"
    blocks = observable_blocks(Measured({"nve": found}, None))
    (shown,) = (each for block in blocks for each in getattr(block, "pictures", ()) if each.name == "rdf")
    assert [float(word) < 5.0 for word in re.findall(r"maximum at ([\d.]+)", shown.alt)] == [True] * 3
    assert "cell vector" in shown.caption


def test_coordination_numbers_are_whole():
    """Also where there is but one, in pictures of both kinds; points at the ends are not cut."""
    found = measure_observables(shaken(bulk("Cu", a=3.6, cubic=True) * 2, 0.05))
    (panel, *_) = observables_plots.coordination_panels(found, None)
    axes = new_axes(new_figure(5, 3), 1, 1, 0)
    observables_plots._draw(axes, panel, ("", ""))
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [12.0]
    axes = new_axes(new_figure(5, 3), 1, 1, 0)
    observables._focus(axes, "coordination", [found.coordination["Cu around Cu"]])
    assert axes.get_xlim()[1] == pytest.approx(12.5, abs=1.0)
    assert axes.get_xlim()[1] > 12.4
    assert all(tick == round(tick) for tick in axes.get_xticks())


# ----- files -----


def test_what_is_written(cold_and_hot, tmp_path):
    cold = measure_observables(TrajectoryFile(cold_and_hot / "cold.traj"), bond_cutoffs_A={"Ar-Ar": 4.0})
    hot = measure_observables(TrajectoryFile(cold_and_hot / "hot.traj"), like=cold)
    rows = compare_observables(hot, cold)
    written = write_observables(tmp_path, hot, cold, rows, names=("hot", "cold"))
    names = {path.name for path in written}
    pictures = {"rdf.png", "angles.png", "coordination.png", "h_of_r.png", "msd.png", "vdos.png"}
    assert names == pictures | {"observables.json"}
    for name in pictures:
        image = imread(tmp_path / name)
        assert image.shape[0] > 200
        assert image[..., :3].std() > 0.02  # not blank
    table = np.genfromtxt(tmp_path / "curves" / "rdf_Ar-Ar.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["gr"] if "gr" in table.dtype.names else table["g"], hot.rdf["Ar-Ar"].y, rtol=1e-6)
    np.testing.assert_allclose(table["distance_A"], hot.rdf["Ar-Ar"].x, rtol=1e-6)
    other = np.genfromtxt(tmp_path / "curves" / "msd_Ar_reference.csv", delimiter=",", names=True)
    np.testing.assert_allclose(other["mean_square_displacement_A2"], cold.msd["Ar"].y, rtol=1e-6)
    numbers = json.loads((tmp_path / "observables.json").read_text(encoding="utf-8"))
    assert numbers["trajectory"]["diffusion"]["Ar"]["D_cm2_per_s"] == hot.diffusion["Ar"].D_cm2_per_s
    assert numbers["reference"]["name"] == "cold"
    assert len(numbers["comparison"]) == len(rows)
    assert numbers["trajectory"]["vdos_integral"]["Ar"] == pytest.approx(33.0)


def test_molecules_and_single_frames_are_written(tmp_path):
    """Nothing is drawn of what is not there."""
    found = measure_observables([Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])])
    written = {path.name for path in write_observables(tmp_path, found)}
    assert {"observables.json", "rdf.png", "h_of_r.png"} <= written
    assert not {"msd.png", "vdos.png", "angles.png"} & written
    numbers = json.loads((tmp_path / "observables.json").read_text(encoding="utf-8"))
    assert numbers["trajectory"]["diffusion"] is None
    assert numbers["reference"] is None


def test_a_cut_trajectory_is_read_up_to_the_cut(cold_and_hot, tmp_path):
    whole = (cold_and_hot / "cold.traj").read_bytes()
    cut = tmp_path / "cut.traj"
    cut.write_bytes(whole)
    frames = list(TrajectoryFile(cut))
    assert len(frames) == 400
    for index in (":7", "::50", "390:", "-10:", "-20:-5:3", "5:100:10"):
        chosen = list(TrajectoryFile(cut, index))
        expected = ase.io.read(cut, index)
        assert len(chosen) == len(expected) > 0
        for one, other in zip(chosen, expected, strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)
    size = len(whole) - len(whole) // 800
    cut.write_bytes(whole[:size])
    assert len(list(TrajectoryFile(cut))) < 400


def test_other_formats(tmp_path):
    frames = gas(6)
    ase.io.write(tmp_path / "gas.extxyz", frames)
    read = list(TrajectoryFile(tmp_path / "gas.extxyz", "2:"))
    assert len(read) == 4
    np.testing.assert_allclose(read[0].positions, frames[2].positions, atol=1e-7)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="no trajectory"):
        TrajectoryFile(tmp_path / "none.traj")
    broken = tmp_path / "broken.extxyz"
    broken.write_text("3\nnot what it says\nH 0 0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"broken\.extxyz"):
        list(TrajectoryFile(broken))
    empty = tmp_path / "empty.traj"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match="no frame"):
        list(TrajectoryFile(empty))
    for index in ("3", "a:b", "::-1"):
        with pytest.raises(ConfigError, match="index"):
            TrajectoryFile(broken, index)


# ----- command line -----


def test_command_line(cold_and_hot, tmp_path, capsys):
    hot, cold, out = (str(cold_and_hot / "hot.traj"), str(cold_and_hot / "cold.traj"), tmp_path / "out")
    words = ["observables", hot, "--reference", cold, "--out", str(out), "--discard-ps", "0.5", "--bond", "Ar-Ar=4"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for word in ("350 frames", "diffusion", "MSD", "yes", "within 4.00 Å"):
        assert word in printed, printed
    numbers = json.loads((out / "observables.json").read_text(encoding="utf-8"))
    assert numbers["trajectory"]["n_frames"] == 350
    assert numbers["reference"]["n_frames"] == 400


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bond", "Ar-Ar=far"], "bond cutoff"),
        (["--fit-from-ps", "1"], "--fit-to-ps"),
        (["--index", "3"], "slice"),
        (["--reference", "none.traj"], "no trajectory at none.traj"),
        (["--discard-ps", "1000"], "longer trajectory"),
    ],
)
def test_command_line_says_what_is_wrong(cold_and_hot, tmp_path, capsys, words, said):
    assert main(["observables", str(cold_and_hot / "cold.traj"), "--out", str(tmp_path / "out"), *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path(tmp_path / "out").exists()
