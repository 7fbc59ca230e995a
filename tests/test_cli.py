"""The command line: verbs do what they say, files have stable names, and every failure is one line."""

import ast
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import ase.io
import pytest
import training_cases as cases
from ase import Atoms
from ase.build import bulk

import ase_mlcalc
from ase_mlcalc.cli import main
from ase_mlcalc.cli.tables import describe_stage
from ase_mlcalc.cli.templates import template_of
from ase_mlcalc.config import validate
from ase_mlcalc.md import MDJob, read_results
from ase_mlcalc.md.drift import Slope
from ase_mlcalc.model import registered
from ase_mlcalc.training.config import TrainJob, resolve_model
from ase_mlcalc.training.loss import DEFAULT_WEIGHTS

ROOT = Path(__file__).parent.parent
VERBS = (
    "demo",
    "check-data",
    "train",
    "evaluate",
    "compare",
    "calibrate",
    "md",
    "study",
    "learning-curve",
    "scan",
    "report",
    "models",
    "template",
)
MODEL = "cutoff = 5.0\nfeatures = 4\nn_interactions = 1\nn_gaussians = 4"


def python(*words, **options):
    """Another Python, so that nothing is imported yet and signals and pipes are real."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment} | options
    return subprocess.Popen([sys.executable, *map(str, words)], **options)  # noqa: S603


def program(*words, **options):
    """The real program in a process of its own: exit status, stdout, stderr."""
    process = python("-m", "ase_mlcalc", *words, **options)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def fails(capsys, *words, status=1):
    """Run a command that has to fail, and return its one line."""
    assert main([str(word) for word in words]) == status
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith(("  ", "epoch"))]
    assert len(lines) == 1, error
    assert lines[0].startswith("ase-mlcalc: ")
    return lines[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which data, a configuration, a trained potential and a start structure lie."""
    folder = tmp_path_factory.mktemp("cli")
    cases.write(folder / "data.extxyz", cases.crystals(12))
    cases.write(folder / "start.extxyz", cases.crystals(1))
    (folder / "train.toml").write_text(
        f'output = "{folder}/run"\n[data]\ntrain = "{folder}/data.extxyz"\n'
        f'[model]\nname = "schnet"\n{MODEL}\n[train]\nmax_epochs = 9\nbatch_size = 4\n'
    )
    (folder / "md.toml").write_text(
        f'[job]\nstructure = "{folder}/start.extxyz"\nmodel = "{folder}/run/model.safetensors"\n'
        f'output = "{folder}/md"\n[md]\nensemble = "nve"\ntemperature_K = 20\ntime_ps = 0.02\nthermo_every_fs = 0.5\n'
    )
    assert main(["train", str(folder / "train.toml"), "--set", "train.max_epochs=2"]) == 0
    return folder


# ----- verbs ----------------------------------------------------------------------------------------------------------


def test_help_and_version_do_not_import_torch():
    words = [["--help"], ["-h"], ["--version"], [], *([verb, "-h"] for verb in VERBS)]
    code = (
        "import sys\nfrom ase_mlcalc.cli import main\n"
        f"for words in {words!r}: assert main(words) == 0, words\n"
        "heavy = {'torch', 'numpy', 'ase', 'matplotlib', 'scipy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    process = python("-c", code)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert ase_mlcalc.__version__ in out
    assert all(verb in out for verb in VERBS)


def test_train_writes_stable_names_and_takes_overrides(trained):
    metrics = json.loads((trained / "run" / "metrics.json").read_text())
    assert metrics["epochs"] == 2
    assert {"force_mae_meV_per_A", "energy_mae_meV_per_atom", "stress_mae_GPa"} <= metrics.keys()
    assert {"model.safetensors", "log.csv", "config.toml"} <= {path.name for path in (trained / "run").iterdir()}


def test_evaluate(trained, tmp_path, capsys, monkeypatch):
    model, data = trained / "run" / "model.safetensors", trained / "data.extxyz"
    assert main(["evaluate", str(model), str(data), "--out", str(tmp_path / "out"), "--predictions"]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for name in ("force_mae_meV_per_A", "force_rmse_meV_per_A", "energy_mae_meV_per_atom", "energy_rmse_meV_per_atom"):
        assert metrics[name] > 0
        assert f"{metrics[name]:.4g}" in shown
    assert metrics["stress_mae_GPa"] > 0
    frames = ase.io.read(tmp_path / "out" / "predictions.extxyz", ":")
    assert len(frames) == 12
    assert "REF_forces" in frames[0].arrays
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(model), str(data), "--index", ":2"]) == 0
    assert json.loads((tmp_path / "data-errors" / "metrics.json").read_text())["n_structures"] == 2


def test_evaluate_has_null_for_stress_that_is_not_there(trained, tmp_path):
    model = trained / "run" / "model.safetensors"
    data = cases.write(tmp_path / "noble.extxyz", cases.crystals(2, names=("energy", "forces")))
    assert main(["evaluate", str(model), str(data), "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["stress_mae_GPa"] is None


def test_named_keys(trained, tmp_path, capsys):
    frames = cases.crystals(2)
    for atoms in frames:
        atoms.info["dft_energy"] = atoms.get_potential_energy() + 4.0  # 1 eV/atom off
    data = cases.write(tmp_path / "named.extxyz", frames)
    words = ["evaluate", trained / "run" / "model.safetensors", data, "--out", tmp_path / "out"]
    assert main([*map(str, words), "--key", "energy=dft_energy"]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["energy_mae_meV_per_atom"] == pytest.approx(1000, rel=0.1)
    assert "did you mean 'energy'" in fails(capsys, *words, "--key", "enrgy=dft_energy")


def test_md_then_report(trained, capsys):
    words = ["md", str(trained / "md.toml"), "--set", "job.overwrite=true"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "nve: completed" in shown
    assert "meV/atom/ps" in shown
    page = trained / "md" / "report.html"
    page.unlink()
    assert main(["report", str(trained / "md")]) == 0
    assert page.stat().st_size > 10_000
    before = (trained / "md" / "thermo.csv").read_bytes()
    assert "nothing was run" not in shown
    assert main(words[:2]) == 0  # the same run again: its result
    shown = capsys.readouterr().out
    assert f"{trained}/md holds a finished run; nothing was run" in shown
    assert "nve: completed" in shown
    assert (trained / "md" / "thermo.csv").read_bytes() == before
    assert "another run: md.seed (was 0, now 1)" in fails(capsys, *words[:2], "--set", "md.seed=1")


def test_md_without_a_file(trained, tmp_path, capsys):
    ase.io.write(tmp_path / "cu.xyz", bulk("Cu", cubic=True), format="extxyz")
    words = [
        "md", "--calculator", "ase.calculators.emt:EMT", "--argument", "asap_cutoff=true", "--structure",
        str(tmp_path / "cu.xyz"), "--ensemble", "nve", "--temperature", "300", "--timestep", "2", "--time-ps", "0.02",
        "--seed", "3", "--out", str(tmp_path / "run"), "--set", "md.frames_every_fs=4",
    ]  # fmt: skip
    assert main(words) == 0
    assert "nve: completed" in capsys.readouterr().out
    (stage,) = read_results(tmp_path / "run")
    config = stage.config
    assert (config.temperature_K, config.timestep_fs, config.time_ps, config.seed) == (300, 2, 0.02, 3)
    assert config.frames_every_fs == 4
    assert stage.identity["calculator"]["parameters"]["asap_cutoff"] is True
    assert stage.provenance.source == "ase.calculators.emt:EMT"
    assert "give a file" in fails(capsys, "md", "--structure", "cu.xyz")
    assert "has temperature_K already" in fails(capsys, "md", trained / "md.toml", "--temperature", "300")
    assert "equilibration" in fails(capsys, *words[:-2], "--equilibration", "some")


def test_md_that_does_not_come_to_its_end_fails_and_is_reported_on(trained, tmp_path, capsys):
    line = fails(
        capsys, "md", trained / "md.toml", "--set", f"job.output={tmp_path}/hot", "--set", "md.max_temperature_K=1e-3"
    )  # fmt: skip
    assert "is not below max_temperature_K" in line
    line = fails(
        capsys, "md", trained / "md.toml", "--set", f"job.output={tmp_path}/hot", "--set",
        "md.monitors.force.max_eV_per_A=1e-6",
    )  # fmt: skip
    assert "a force is larger than allowed" in line
    assert main(["md", str(trained / "md.toml"), "--set", f"job.output={tmp_path}/hot", "--set",
                 "md.0.monitors.force.max_eV_per_A=1e-6"]) == 1  # fmt: skip
    shown = capsys.readouterr()
    assert "hot holds a run that failed; nothing was run" in shown.out
    assert "nve: ended after 0 of 40 steps" in shown.out
    assert "a force is larger" not in shown.out
    assert "a force is larger" in shown.err
    assert (tmp_path / "hot" / "nve-failure.extxyz").exists()
    assert (tmp_path / "hot" / "report.html").exists()


def test_numbers_of_a_stage_have_names_and_as_many_decimals_as_their_errors(trained):
    (stage,) = read_results(trained / "md")
    for slope, stderr, expected in (
        (0.0021, 0.0123, "+0.002 ± 0.012"),
        (60.0, 71.0, "+60 ± 71"),
        (-1, 0.5, "-1.00 ± 0.50"),
    ):
        line = describe_stage(
            stage.model_copy(
                update={
                    "temperature_mean_K": 514.0,
                    "temperature_std_K": 65.7,
                    "drift": Slope(slope, stderr, 0.0, 1.0),
                }
            )
        )
        assert "mean temperature 514.0 K, fluctuating by 65.7 K" in line
        assert f"energy drift {expected} meV/atom/ps" in line


def test_check_takes_a_folder_of_training(trained, capsys):
    words = [str(trained / "start.extxyz"), "--no-scans"]
    shown = []
    for source in (trained / "run", trained / "run" / "model.safetensors"):
        main(["check", str(source), *words])  # hardly trained: some checks have no signal
        shown.append(capsys.readouterr().out)
    assert "sum rules" in shown[0]
    assert shown[0] == shown[1]
    assert "no checkpoint at" in fails(capsys, "check", trained, *words)
    ase.io.write(trained / "iron.extxyz", Atoms("Fe"))
    assert "does not know Fe" in fails(capsys, "check", trained / "run", trained / "iron.extxyz")


def test_check_data(trained, tmp_path, capsys):
    assert main(["check-data", str(trained / "data.extxyz"), "--json", str(tmp_path / "audit.json")]) == 0
    assert "12/12" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["n_structures"] == 12


def test_check_data_fails_on_labels_that_contradict_one_another(tmp_path, capsys):
    frames = cases.crystals(6)
    other = frames[0].copy()
    other.calc = frames[0].calc
    other.calc.results = {**frames[0].calc.results, "energy": frames[0].get_potential_energy() + 3.0}
    twice = cases.labelled(frames[0], "energy", "forces", "stress")
    data = cases.write(tmp_path / "twice.extxyz", [*frames[1:], other, twice])
    line = fails(capsys, "check-data", data, "--json", tmp_path / "audit.json")
    assert "need work before training" in line
    problems = json.loads((tmp_path / "audit.json").read_text())["problems"]
    assert any(problem["severity"] == "error" for problem in problems)


def test_models(capsys):
    assert main(["models", "--json"]) == 0
    described = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert described.keys() == registered().keys()
    assert described["schnet"]["outputs"] == ["energies"]
    assert described["schnet"]["derived"] == ["energy", "forces", "stress", "stresses"]
    assert described["equivariant"]["parameters"] > 1000
    assert not described["lennard_jones"]["trainable"]
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in described)


@pytest.mark.parametrize("name", [name for name, model in registered().items() if model.trainable])
def test_a_training_template_is_runnable_and_names_the_keys_of_its_model(trained, name):
    text = template_of("train", name)
    job = validate(TrainJob, tomllib.loads(text), name)
    assert job.train.max_minutes == 20
    assert job.model == {"name": name}
    assert all(f"\n# {key} = {weight}\n" in text.split("[train.loss]")[1] for key, weight in DEFAULT_WEIGHTS.items())
    for key, field in registered()[name].Config.model_fields.items():
        place = text.index(f"\n# {key} = ")
        assert field.description in text[:place].splitlines()[-1]
    block = text.split("[model]")[1].split("[train]")[0]
    keys = [line[2:] for line in block.splitlines() if line.startswith("# ") and " = " in line]
    of_data = ("species", "numbers")
    unset = [key for key in keys if key.startswith(of_data) or key.endswith(" = ...")]
    table = tomllib.loads("\n".join(key for key in keys if key not in unset))
    model_class, config = resolve_model({"name": name, **table}, _frames(trained))
    assert config == model_class.Config(**{key: value for key, value in config if key in of_data})


def _frames(folder):
    return ase_mlcalc.read_frames([folder / "data.extxyz"])


def test_the_md_template_is_runnable(capsys):
    assert main(["template", "md"]) == 0
    job = validate(MDJob, tomllib.loads(capsys.readouterr().out), "md")
    assert job.job.model is not None


# ----- failures -------------------------------------------------------------------------------------------------------

MISTAKES = [
    (["trian"], 2, ["No such command 'trian'", "--help"]),
    (["train"], 2, ["Missing argument", "train --help"]),
    (["train", "x", "--fast"], 2, ["--fast"]),
    (["evaluate", "m"], 2, ["DATA"]),
    (["train", "absent.toml"], 1, ["no configuration file at absent.toml", "template"]),
    (["train", "{folder}/train.toml", "--set", "model.featurs=3"], 1, ["featurs", "did you mean 'features'"]),
    (["train", "{folder}/train.toml", "--set", "trian.max_epochs=3"], 1, ["trian", "did you mean 'train'"]),
    (["train", "{folder}/train.toml", "--set", "nonsense"], 1, ["section.key=value"]),
    (["train", "{folder}/train.toml", "--set", "model.name=shnet"], 1, ["unknown model 'shnet'", "schnet"]),
    (["train", "{folder}/train.toml"], 1, ["holds a run with another configuration", "max_epochs"]),
    (["md", "{folder}/md.toml", "--set", "job.structure=absent.xyz"], 1, ["no structure at 'absent.xyz'"]),
    (["md", "{folder}/md.toml", "--set", "md.timestep=1"], 1, ["timestep_fs"]),
    (["report", "{folder}"], 1, ["no result.json", "give the folder"]),
    (["check-data", "absent.xyz"], 1, ["no data file at absent.xyz"]),
    (["check-data", "{folder}/train.toml"], 1, ["cannot read"]),
    (["stress", "m", "t", "--field", "bins", "--radius", "2"], 1, ["--field bins has none"]),
    (["stress", "m", "t", "--bins", "20", "--axis", "x"], 1, ["--bins, --axis belong to", "add --field planes"]),
    (["template", "dance"], 1, ["templates for train, transfer", "'dance'"]),
    (["template", "train", "--model", "lennard_jones"], 1, ["analytic"]),
    (["template", "md", "--model", "schnet"], 1, ["template train"]),
    (["evaluate", "absent", "{folder}/data.extxyz", "--out", "{out}"], 1, ["no checkpoint at absent"]),
    (["evaluate", "{folder}/train.toml", "{folder}/data.extxyz", "--out", "{out}"], 1, ["corrupt"]),
    (["evaluate", "{folder}/run/training_state.pt", "{folder}/data.extxyz", "--out", "{out}"], 1, ["pickle"]),
]  # fmt: skip


@pytest.mark.parametrize(("words", "status", "expected"), MISTAKES, ids=[" ".join(m[0][:4]) for m in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_to_do(trained, tmp_path, capsys, words, status, expected):
    line = fails(capsys, *(word.format(folder=trained, out=tmp_path / "out") for word in words), status=status)
    for part in expected:
        assert part in line


def test_bad_data_is_one_line(trained, tmp_path, capsys):
    model = trained / "run" / "model.safetensors"
    (tmp_path / "empty.extxyz").write_text("")
    ase.io.write(tmp_path / "bare.extxyz", Atoms("ArAr", [[0, 0, 0], [0, 0, 3]]))
    gold = cases.crystals(1)[0]
    gold.calc.atoms.numbers[:] = gold.numbers[:] = 79
    cases.write(tmp_path / "gold.extxyz", gold)
    for name, words in (("empty", "is empty"), ("bare", "no labels"), ("gold", "Au (Z=79)")):
        line = fails(capsys, "evaluate", model, tmp_path / f"{name}.extxyz", "--out", tmp_path / "out")
        assert words in line
    assert not (tmp_path / "out").exists()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(model.read_bytes()[:500])
    assert "truncated" in fails(capsys, "evaluate", cut, trained / "data.extxyz", "--out", tmp_path / "out")


def test_folders_that_cannot_be_written(trained, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    model, data = trained / "run" / "model.safetensors", trained / "data.extxyz"
    assert str(tmp_path) in fails(capsys, "evaluate", model, data, "--out", tmp_path / "file")
    assert "cannot make" in fails(capsys, "train", trained / "train.toml", "--set", f"output={tmp_path}/file/run")
    assert str(tmp_path) in fails(capsys, "md", trained / "md.toml", "--set", f"job.output={tmp_path}/file/run")


def test_debug_shows_where(capsys):
    for words in (["--debug", "report", "absent"], ["report", "absent", "--debug"]):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "Traceback" in error
        assert error.splitlines()[-1].startswith("ase-mlcalc: ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_without_the_name_of_a_file(monkeypatch, capsys, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("ase_mlcalc.report.write_report", full)
    assert f"{os.strerror(number)}: free some" in fails(capsys, "report", ".")


def test_what_nobody_thought_of_is_one_line_too(monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("ase_mlcalc.report.write_report", broken)
    assert "unexpected RuntimeError: first second (run again with --debug" in fails(capsys, "report", ".")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_and_closed_pipe():
    with open("/dev/full", "w") as full:
        status, _, error = program("-h", stdout=full)
    assert (status, error) == (1, "ase-mlcalc: No space left on device: free some; what was written so far is kept\n")
    for words in (["-h"], ["template", "md"]):  # through rich, and without
        reader, writer = os.pipe()
        os.close(reader)
        status, _, error = program(*words, stdout=writer)
        os.close(writer)
        assert (status, error) == (1, "ase-mlcalc: the program that read the output closed it early\n")


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_is_one_line_and_leaves_a_report(trained, tmp_path):
    # shells start background jobs with SIGINT ignored, which the child would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = python(
        "-m", "ase_mlcalc", "md", trained / "md.toml",
        "--set", f"job.output={tmp_path}/md", "--set", "md.time_ps=1000",
    )  # fmt: skip
    thermo = tmp_path / "md" / "thermo.csv"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (thermo.exists() and len(thermo.read_text().splitlines()) > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert error == "ase-mlcalc: interrupted; what was written so far is kept\n"
    assert "Interrupted by the user" in (tmp_path / "md" / "report.html").read_text()


def test_the_real_program(trained, tmp_path):
    status, out, error = program(
        "evaluate", trained / "run" / "model.safetensors", trained / "data.extxyz", "--out", tmp_path
    )  # fmt: skip
    assert (status, error) == (0, "")
    assert "forces" in out


# ----- the package around it ------------------------------------------------------------------------------------------


def test_public_names_are_there_and_known_to_type_checkers():
    tree = ast.parse((ROOT / "ase_mlcalc" / "__init__.py").read_text())
    typed = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    public = set(ase_mlcalc.__all__) - {"__version__"}
    assert public <= typed
    assert public == ase_mlcalc._WHERE.keys()
    for name in ase_mlcalc.__all__:
        assert getattr(ase_mlcalc, name) is not None
        assert name in dir(ase_mlcalc)
    with pytest.raises(AttributeError, match="no attribute 'MLCalculatr'"):
        _ = ase_mlcalc.MLCalculatr


def test_importing_the_package_is_light():
    process = python("-c", "import ase_mlcalc, sys; assert not {'torch', 'numpy', 'ase'} & set(sys.modules)")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error


@pytest.mark.skipif(shutil.which("make") is None or not (ROOT / "Makefile").exists(), reason="needs make")
def test_the_makefile_keeps_what_the_user_set():
    def data(**given):
        environment = {key: value for key, value in os.environ.items() if key != "ASE_MLCALC_DATA"} | given
        result = subprocess.run(  # noqa: S603
            [shutil.which("make"), "--no-print-directory", "-s", "-f", "Makefile", "-f", "-", "shown"],
            input="shown:\n\t@echo data=$$ASE_MLCALC_DATA\n", cwd=ROOT, env=environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return result.stdout.strip()

    assert data(ASE_MLCALC_DATA="/mine") == "data=/mine"
    shared = (ROOT / ".." / "shared" / "data").resolve()
    assert data() == (f"data={shared}" if shared.is_dir() else "data=")


@pytest.mark.slow
def test_the_wheel_holds_everything(tmp_path):
    source = tmp_path / "source"  # building leaves files behind
    shutil.copytree(ROOT / "ase_mlcalc", source / "ase_mlcalc", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    process = python("-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, source)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    (wheel,) = tmp_path.glob("ase_mlcalc-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {"ase_mlcalc/py.typed", "ase_mlcalc/report/page.jinja", "ase_mlcalc/cli/verbs.py"} <= names
    assert {f"ase_mlcalc/data/sets/water16_{level}.extxyz.gz" for level in ("gfn1", "gfn2")} <= names
    assert not [name for name in names if name.startswith("tests/")]
    assert "Requires-Dist: torch>=2.6" in metadata  # any torch that is there already will do
