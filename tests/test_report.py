"""Reports and pictures: right numbers, self-contained, and something to say about every kind of run."""

import base64
import json
import math
import re

import matplotlib as mpl
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import GPa

from ase_mlcalc import plots
from ase_mlcalc.errors import DataError
from ase_mlcalc.md import MDConfig, Outcome, Slope, read_results, run_md
from ase_mlcalc.md.result import save_result
from ase_mlcalc.plots import ParityPanel, learning_curves, parity_plot
from ase_mlcalc.report import write_report
from ase_mlcalc.report.stresses import gather_stresses
from ase_mlcalc.report.words import slope_words
from ase_mlcalc.stress.invariants import pressure, von_mises

PNG = b"\x89PNG\r\n\x1a\n"


def argon():
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True)
    atoms.symbols[1] = "Kr"
    atoms.calc = LennardJones(sigma=3.40, epsilon=0.0104, rc=6.0, smooth=True)
    return atoms


NVT = MDConfig(
    temperature_K=60, timestep_fs=4, time_ps=0.4, thermo_every_fs=8, frames_every_fs=40, stresses_every_fs=80
)
NVE = NVT.model_copy(update={"ensemble": "nve", "initial_velocities": "keep"})


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("argon")
    atoms = argon()
    run_md(atoms, NVT, folder, name="nvt", progress=False)
    run_md(atoms, NVE, folder, name="nve", progress=False)
    return folder


def test_report_is_self_contained_and_says_what_happened(run_folder):
    page = write_report(run_folder)
    html = page.read_text(encoding="utf-8")
    assert page.name == "report.html"
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    sources = re.findall(r'src="([^"]*)"', html)
    assert len(sources) >= 10
    for source in sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(PNG)
    assert len(re.findall(r'<img alt="[^"]{20,}"', html)) == len(sources)
    for name in ("temperature", "pressure", "drift-nve", "temperature-nvt", "stress-pressure", "start", "end"):
        assert (run_folder / "report" / f"{name}.png").read_bytes().startswith(PNG)
    drift = read_results(run_folder)[1].drift
    assert slope_words(drift) in html
    assert "NVT, Langevin 10/ps" in html
    assert "LennardJones" in html
    assert "Kr" in html


def test_report_numbers(run_folder):
    write_report(run_folder)
    numbers = json.loads((run_folder / "report.json").read_text())
    assert [stage["name"] for stage in numbers["stages"]] == ["nvt", "nve"]
    assert numbers["stages"][0]["drift"] is None
    assert numbers["stages"][1]["drift"]["stderr"] > 0
    stresses = numbers["stresses"]
    assert stresses["stage"] == "nve"
    assert stresses["n_frames"] == 6
    assert stresses["sums_to_stress"]
    assert {name: element["n"] for name, element in stresses["elements"].items()} == {"Ar": 18, "Kr": 6}


def test_report_needs_no_calculator_and_changes_no_run_file(run_folder, monkeypatch):
    kept = {path.name: path.read_bytes() for path in run_folder.iterdir() if path.suffix in {".csv", ".traj"}}
    result = (run_folder / "result.json").read_bytes()
    monkeypatch.setattr(LennardJones, "calculate", None)
    write_report(run_folder)
    assert kept == {path.name: path.read_bytes() for path in run_folder.iterdir() if path.suffix in {".csv", ".traj"}}
    assert result == (run_folder / "result.json").read_bytes()


class Forces(Calculator):
    """Springs that give forces only, and break if asked to."""

    implemented_properties = ("forces",)

    def __init__(self, break_at=None):
        super().__init__()
        self.break_at, self.calls, self.origin = break_at, 0, None

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.origin = atoms.positions.copy() if self.origin is None else self.origin
        forces = self.origin - atoms.positions
        self.results = {"forces": forces * (np.nan if self.calls == self.break_at else 1.0)}


def test_run_without_energy_or_stress(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Forces()
    run_md(atoms, MDConfig(ensemble="nve", time_ps=0.3), tmp_path, progress=False)
    html = write_report(tmp_path).read_text()
    assert "gives no energy" in html
    assert "K/ps" in html
    assert (tmp_path / "report" / "drift-md.png").exists()
    assert not (tmp_path / "report" / "stress-pressure.png").exists()
    assert json.loads((tmp_path / "report.json").read_text())["stresses"] is None


@pytest.mark.parametrize("break_at", [1, 2, 30])
def test_failed_run_says_why(tmp_path, break_at):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Forces(break_at)
    assert run_md(atoms, MDConfig(time_ps=0.3), tmp_path, progress=False).outcome is Outcome.NAN
    html = write_report(tmp_path).read_text()
    assert "NaN or Inf" in html
    assert 'class="verdict bad"' in html


def test_killed_run_is_reported_as_far_as_it_came(tmp_path):
    result = run_md(argon(), NVT, tmp_path, progress=False)
    unknown = {
        "outcome": Outcome.RUNNING,
        "temperature_mean_K": None,
        "ms_per_step": None,
        "steps_done": 0,
        "time_ps": 0,
    }
    save_result(result.model_copy(update=unknown))
    content = result.trajectory.read_bytes()
    result.trajectory.write_bytes(content[: len(content) // 2])
    thermo = tmp_path / "thermo.csv"
    thermo.write_text(thermo.read_text()[:-30])
    html = write_report(tmp_path).read_text()
    assert "killed" in html
    assert "0.392 of 0.4 ps" in html
    assert (tmp_path / "report" / "stress-pressure.png").exists()


def test_folder_without_a_run(tmp_path):
    with pytest.raises(DataError, match="holds no run"):
        write_report(tmp_path)


def test_stress_invariants():
    uniaxial, hydrostatic, shear = [3.0, 0, 0, 0, 0, 0], [-2.0, -2, -2, 0, 0, 0], [0, 0, 0, 0, 0, 1.0]
    stresses = np.array([uniaxial, hydrostatic, shear])
    assert np.allclose(pressure(stresses), [-1, 2, 0])
    assert np.allclose(von_mises(stresses), [3, 0, math.sqrt(3)])


def test_atomic_stresses_average_to_the_stress_and_a_wrong_normalisation_is_noticed():
    atoms = argon() * 2
    atoms.set_cell(0.97 * atoms.cell, scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = argon().calc
    stress, stresses = atoms.get_stress(), atoms.get_stresses()
    frame = atoms.copy()
    frame.calc = SinglePointCalculator(frame, stress=stress, stresses=stresses)
    sample = gather_stresses([frame, atoms.copy()])
    assert sample.n_frames == 1
    assert sample.adds_up
    assert np.abs(stress).max() / GPa > 0.01
    assert np.allclose(sample.stresses_GPa.mean(axis=0), stress / GPa, atol=1e-12)
    frame.calc = SinglePointCalculator(frame, stress=stress, stresses=stresses * len(frame))
    assert not gather_stresses([frame]).adds_up


@pytest.mark.parametrize(
    ("slope", "stderr", "text"),
    [
        (0.0123, 0.0045, "+0.0123 ± 0.0045"),
        (-1.26, 0.31, "−1.26 ± 0.31"),
        (-8.4e-6, 1.2e-5, "(−0.8 ± 1.2)×10⁻⁵"),
        (120.4, 15.2, "+120 ± 15"),
        (0.5, 0.0, "+0.5 ± 0"),
    ],
)
def test_slopes_are_rounded_to_their_error(slope, stderr, text):
    assert slope_words(Slope(slope, stderr, 0.0, 0.0)) == text


def test_parity_states_the_errors_of_what_has_a_reference():
    reference = np.array([[0.0, 1.0, np.nan], [2.0, 3.0, 4.0]])
    predicted = reference + np.array([[1.0, -1.0, 9.0], [1.0, -1.0, 2.0]])
    figure = plots.new_figure(4, 4)
    axes = plots.new_axes(figure, 1, 1, 0)
    plots._draw_parity(figure, axes, ParityPanel("forces", "eV/Å", reference, predicted))
    (note,) = (text.get_text() for text in axes.texts)
    assert "1200 meV/Å" in note
    assert "1265 meV/Å" in note  # sqrt(8/5)
    assert "5 values" in note
    assert axes.get_xlim() == axes.get_ylim()


@pytest.mark.parametrize(
    ("unit", "text"), [("eV/atom", "1.23 meV/atom"), ("GPa", "0.00123 GPa"), ("meV/atom", "0.00123 meV/atom")]
)
def test_errors_of_parity_are_in_the_units_of_tables(unit, text):
    axes = plots.new_axes(plots.new_figure(4, 4), 1, 1, 0)
    plots._draw_parity(axes.figure, axes, ParityPanel("", unit, np.arange(3.0), np.arange(3.0) + 0.00123))
    (note,) = (text.get_text() for text in axes.texts)
    assert f"MAE   {text}\n" in note


def test_few_points_are_large_and_dark():
    sizes, opacities = zip(*(plots.point_style(count) for count in (0, 1, 54, 500, 10**6)), strict=True)
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3] > sizes[4] > 0
    assert 1 >= opacities[0] == opacities[1] > opacities[2] > opacities[3] > opacities[4] > 0


def test_parity_plot_of_everything(tmp_path):
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(20, 3)), rng.normal(size=(2000, 3))
    panels = [
        ParityPanel("energy", "meV/atom", few[:, 0] - 3e5, few[:, 0] - 3e5 + 0.1),
        ParityPanel("forces", "eV/Å", many, many + 0.1),
        ParityPanel("forces by element", "eV/Å", few, few, np.where(few > 0, "H", "O")),
        ParityPanel("stress", "GPa", np.full(6, np.nan), np.zeros(6)),
        ParityPanel("one", "GPa", np.zeros(1), np.zeros(1)),
    ]
    for count in (0, 1, 4, 5):
        parity_plot(tmp_path / "parity.png", panels[:count])
        assert (tmp_path / "parity.png").read_bytes().startswith(PNG)


def test_histogram_shows_a_rare_element_at_the_far_end(tmp_path):
    panel = plots.HistogramPanel("pressure / GPa", {"H": np.linspace(-1.0, 1.0, 5000), "O": np.array([9.0])})
    plots.histograms(tmp_path / "stresses.png", [panel])  # a bare warning of numpy, an error here, if O is cut off
    assert (tmp_path / "stresses.png").stat().st_size > 1000


def test_learning_curves_of_any_history(tmp_path):
    before = dict(mpl.rcParams)
    row = {"epoch": 1, "minutes": 0.1, "train_loss": 1.0, "val_force_mae_meV_per_A": 90.0, "learning_rate": 1e-3}
    row |= {"val_energy_mae_meV_per_atom": 2.0, "val_stress_mae_GPa": math.nan}
    later = [row | {"epoch": n, "minutes": 0.1 * n, "val_force_mae_meV_per_A": 90.0 / n} for n in range(1, 30)]
    for rows in ([], [row], later, [row, row], [{"epoch": 0, "learning_rate": 0.0}]):
        path = tmp_path / f"{len(rows)}.png"
        learning_curves(path, rows)
        assert path.read_bytes().startswith(PNG)
    assert dict(mpl.rcParams) == before
