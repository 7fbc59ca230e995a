"""The documentation holds: its Python runs, its TOML is valid, and what it names exists."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import tomllib
import typing
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
import pytest
import torch
import typer
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from pydantic import BaseModel

from ase_mlcalc.active import LearnJob
from ase_mlcalc.campaigns import LearningCurveJob, ScanJob
from ase_mlcalc.campaigns.scan_plan import corners
from ase_mlcalc.checkpoint import save
from ase_mlcalc.cli.app import app
from ase_mlcalc.config import apply_overrides, read_toml, validate
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.md.thermo import COLUMNS
from ase_mlcalc.model import ENTRY_POINT_GROUP, lookup, registered
from ase_mlcalc.potential import DERIVED_FROM, Baseline, Derived
from ase_mlcalc.sampling import SampleJob
from ase_mlcalc.study import StudyJob
from ase_mlcalc.testing import temporary_models
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train
from ase_mlcalc.workers.executor import ExecutorFile

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")],
    key=str,
)
EXAMPLE_JOBS = sorted((ROOT / "examples").glob("**/*.toml"))
DEMO_PICTURE = ROOT / "docs" / "images" / "demo.png"
NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*$")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str
    runs: bool


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text[: match.start()].count("\n") + 2,
            match[1],
            match[2],
            NOT_RUN.search(text[: match.start()].rstrip("\n")) is None,
        )
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def table_after(page, header):
    """First cells, without back ticks, of the table whose header begins like this."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(f"| {header} |"))
    cells = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells.append(line.split("|")[1].strip().strip("`"))
    return cells


def name_of(value):
    if isinstance(value, Block):
        return f"{value.page.relative_to(ROOT)}:{value.line}"
    return str(value.relative_to(ROOT))


def of_pages(language):
    return [block for page in PAGES for block in blocks(page, language)]


# ----- Python -----


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that the blocks read: labelled water in a box, and a potential for it."""
    rng = np.random.default_rng(0)
    structures = []
    for _ in range(8):
        water = molecule("H2O", cell=[5.0, 5.2, 5.4], pbc=True)
        water.rattle(0.03, rng=rng)
        water.calc = SinglePointCalculator(
            water, energy=rng.normal(), forces=rng.normal(size=(3, 3)), stress=1e-3 * rng.normal(size=6)
        )
        structures.append(water)
    ase.io.write(tmp_path / "water.extxyz", structures)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)  # its water stays together
        model = lookup("schnet")(lookup("schnet").Config(features=8, n_interactions=1, cutoff=4.0))
    save(Derived(model, Baseline({1: -1.0, 8: -2.0})), tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_runs_from_top_to_bottom(page, workplace):
    if "water16" in "".join(block.text for block in blocks(page, "python")):
        _require_water16()
    namespace = {"__name__": "__main__"}
    with temporary_models():
        for block in blocks(page, "python"):
            if block.runs:
                # as many empty lines as there are above it, so that a traceback shows the line of the page
                exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)  # noqa: S102


def test_blocks_are_found():
    assert len([block for block in of_pages("python") if block.runs]) >= 10
    assert len(of_pages("toml")) >= 6
    languages = {match[1] for page in PAGES for match in FENCE.finditer(page.read_text(encoding="utf-8"))}
    assert languages <= {"", "bash", "python", "toml"}, "a block in a language that nobody tests"


def _require_water16():
    from ase_mlcalc.data.sets import LEVELS, water16
    from ase_mlcalc.errors import DataError

    try:
        for level in LEVELS:
            water16(level)
    except DataError as error:
        pytest.skip(str(error))


# ----- TOML -----


PLAIN_JOBS = {"job": MDJob, "learn": LearnJob, "study": StudyJob, "sample": SampleJob}
"""Table that a job file is known by; the first one counts."""


def check_toml(raw, where):
    if "project" in raw:
        (group,) = raw["project"]["entry-points"]
        assert group == ENTRY_POINT_GROUP, where
    elif plain := next((table for table in PLAIN_JOBS if table in raw), None):
        validate(PLAIN_JOBS[plain], raw, where)
    elif raw.keys() == {"executor"}:
        validate(ExecutorFile, raw, where)
    elif "learning_curve" in raw:
        for table in validate(LearningCurveJob, raw, where).models.values():
            check_model(table, where)
    elif "scan" in raw:
        for point in corners(validate(ScanJob, raw, where)):
            check_model(point.trainings[0].job.model, where)
    else:
        job = validate(TrainJob, raw, where)
        if job.model:  # or else that of train.start_from
            check_model(job.model, where)


def check_model(table, where):
    keys = {key: value for key, value in table.items() if key != "name"}
    validate(lookup(table["name"]).Config, keys, where)


@pytest.mark.parametrize("block", of_pages("toml"), ids=name_of)
def test_toml_block_is_valid(block):
    check_toml(tomllib.loads(block.text), name_of(block))


@pytest.mark.parametrize("path", EXAMPLE_JOBS, ids=name_of)
def test_example_job_is_valid(path):
    check_toml(read_toml(path), str(path))


@pytest.mark.parametrize("name", ["train.toml", "md.toml"])
def test_readme_shows_the_example_jobs(name):
    shown = [tomllib.loads(block.text) for block in blocks(ROOT / "README.md", "toml")]
    assert read_toml(ROOT / "examples" / "quickstart" / name) in shown


def test_readme_walk_through_trains(workplace):
    raw = next(tomllib.loads(b.text) for b in blocks(ROOT / "README.md", "toml") if "[train]" in b.text)
    raw = apply_overrides(
        raw,
        [
            'data.train="water.extxyz"',
            'data.index=":"',
            "model.features=4",
            "model.edge_features=2",
            "model.l_max=1",
            "train.max_epochs=1",
        ],
    )
    result = train(validate(TrainJob, raw, "README"), progress=False)
    assert result.checkpoint.exists()
    assert result.metrics.stress_mae_GPa is not None


# ----- what is named exists -----


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if linked == DEMO_PICTURE:
            continue  # has a test of its own
        assert linked.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{name_of(page)} links to {target}"


def test_demo_picture_is_there():
    if not DEMO_PICTURE.exists():
        pytest.skip(f"copy overview.png of `make demo` to {DEMO_PICTURE.relative_to(ROOT)}")
    assert DEMO_PICTURE.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_in_prose_exist(page):
    pattern = re.compile(r"`((?:ase_mlcalc|docs|examples|benchmarks|tests)/[\w./-]+)`")
    for name in pattern.findall(prose(page)):
        assert (ROOT / name).exists(), f"{name_of(page)} names {name}"


def command_lines():
    code = re.compile(r"`(ase-mlcalc [^`]+)`")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = [line for block in blocks(page, "") for line in block.text.splitlines()]
        for line in [*shell, *code.findall(FENCE.sub("", text))]:
            if line.startswith("ase-mlcalc "):
                yield page, shlex.split(line, comments=True)[1:]


def test_commands_and_options_exist():
    verbs = typer.main.get_command(app).commands
    seen = set()
    for page, (verb, *words) in command_lines():
        assert verb in verbs, f"{name_of(page)}: no verb {verb}"
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{name_of(page)}: {verb} has no {used - known}"
        for override in (word for word, before in zip(words[1:], words[:-1], strict=True) if before == "--set"):
            assert override.split("=")[0] in job_keys(), f"{name_of(page)}: no key {override}"
        seen.add(verb)
    assert {
        "train",
        "evaluate",
        "md",
        "report",
        "check-data",
        "template",
        "models",
    } <= seen  # the pattern still finds them


@pytest.mark.parametrize("block", of_pages("bash"), ids=name_of)
def test_scripts_are_shell(block):
    checked = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)  # noqa: S607
    assert checked.returncode == 0, checked.stderr


def test_verbs_listed_in_changelog_are_all():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for verb in typer.main.get_command(app).commands:
        assert f"`{verb}`" in text, f"{verb} is not in the changelog"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`make ([\w -]+)`", text)
    named += [match for block in blocks(page, "") for match in re.findall(r"^make ([\w-]+)", block.text, re.MULTILINE)]
    for target in " ".join(named).split():
        assert target in targets, f"{name_of(page)}: no make target {target}"


def keys_of(config, prefix=""):
    """Dotted names of all keys of a configuration class."""
    for name, field in config.model_fields.items():
        yield f"{prefix}{name}"
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from keys_of(part, f"{prefix}{name}.")


def job_keys():
    models = {f"model.{key}" for model in registered().values() for key in keys_of(model.Config)}
    jobs = {key for job in (TrainJob, *PLAIN_JOBS.values()) for key in keys_of(job)}
    return jobs | models | {"model.name"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_exist(page):
    keys = job_keys()
    sections = "data|train|md|job|study|sample|learn|forces|model"
    for section, key in re.findall(rf"`({sections})\.([a-z][\w.]*)(?: = [^`]*)?`", prose(page)):
        if key.split(".")[-1] in {"extxyz", "json", "md", "png", "py", "safetensors"}:
            continue  # a file
        assert f"{section}.{key}" in keys, f"{name_of(page)}: no key {section}.{key}"


# ----- tables are complete -----


def test_readme_lists_the_models():
    assert sorted(table_after(ROOT / "README.md", "model")) == sorted(registered())
    page = prose(ROOT / "docs" / "models.md")
    assert all(f"**`{name}`**" in page for name in registered())


def test_table_of_derived_properties():
    page = ROOT / "docs" / "models.md"
    assert sorted(table_after(page, "predicts")) == sorted(DERIVED_FROM)


def test_thermo_columns():
    assert table_after(ROOT / "docs" / "md.md", "column of `thermo.csv`") == list(COLUMNS)


def test_outcomes():
    assert sorted(table_after(ROOT / "docs" / "md.md", "outcome")) == sorted(Outcome.__members__)


def test_core_imports_none_of_what_is_built_on_it():
    # docs/architecture.md says so
    core = [ROOT / "ase_mlcalc" / f"{name}.py" for name in ("graph", "neighbors", "model", "potential", "calculator")]
    core += [*(ROOT / "ase_mlcalc" / "models").glob("*.py"), *(ROOT / "ase_mlcalc" / "nn").glob("*.py")]
    for path in core:
        later = re.findall(r"ase_mlcalc\.(data|training|md|report|cli|demo)\b", path.read_text(encoding="utf-8"))
        assert not later, f"{name_of(path)} imports {later}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_are_short(page):
    for number, line in enumerate(prose(page).splitlines(), start=1):
        assert len(line) <= 120 or line.startswith(("|", "!")), f"{name_of(page)}, line {number} of the prose: {line}"


# ----- examples -----


def quickstart():
    spec = importlib.util.spec_from_file_location("quickstart_run", ROOT / "examples" / "quickstart" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quickstart_runs(tmp_path, capsys):
    out = tmp_path / "out"
    quickstart().main(["--out", str(out), "--structures", "6", "--minutes", "0.02", "--time-ps", "0.25"])
    printed = capsys.readouterr().out
    assert "nve-1: completed" in printed
    assert (out / "md" / "report.html").exists()
    assert len(ase.io.read(out / "argon.extxyz", ":")) == 6
    shutil.rmtree(out)


def test_quickstart_labels_are_consistent():
    """Forces of the labels are the derivative of their energy."""
    module = quickstart()
    atoms: Atoms = module.labelled_argon(3, seed=1)[0]
    moved, h = [], 1e-4
    for sign in (1, -1):
        other = atoms.copy()
        other.positions[0, 0] += sign * h
        other.calc = module.reference()
        moved.append(other.get_potential_energy())
    force = atoms.get_forces()[0, 0]
    assert abs(force) > 1e-3
    assert force == pytest.approx(-(moved[0] - moved[1]) / (2 * h), rel=1e-5)
