"""The comparison with other programs, `benchmarks/bench.py`: asking, timing, going on, and what is made of it."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from matplotlib.transforms import Bbox

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import bench  # noqa: E402
from peers import accuracy, environments, results, speed, structures  # noqa: E402
from peers.contenders import CONTENDERS, REQUIREMENTS, Contender  # noqa: E402
from peers.remote import Worker, WorkerError  # noqa: E402

TOY = """
import os, subprocess, sys, time
import numpy as np
from ase.calculators.calculator import Calculator, all_changes

def versions():
    return {"toy": "1"}

class Toy(Calculator):
    implemented_properties = ["energy", "forces", "stress", "stresses"]

    def __init__(self, wait_s):
        super().__init__()
        self.wait_s, self.spent = wait_s, 0.0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        begin = time.perf_counter()
        time.sleep(self.wait_s)
        self.spent += time.perf_counter() - begin
        time.sleep(self.wait_s)
        self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), 0.01), "stress": np.zeros(6)}
        self.results["stresses"] = np.zeros((len(atoms), 6))

def calculator(network, run, device):
    if run.get("broken"):
        raise ValueError("no such thing\\nin two lines")
    return Toy(run["wait_s"])

def time_model(made, device):
    return lambda: made.spent

def train(job):
    if job.network.get("dies"):
        os._exit(7)
    if job.network.get("sleeps"):
        child = subprocess.Popen(["sleep", "600"])
        (job.out / "child").write_text(str(child.pid))
        child.wait()
    network = job.out / "network"
    network.write_text("toy")
    return {"network": str(network), "minutes": 0.0}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A program called toy, in a folder that workers look into before the one of the benchmark."""
    folder = tmp_path / "path" / "peers"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(f"__path__.append({str(BENCHMARKS / 'peers')!r})\n")
    (folder / "with_toy.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    made = []

    def worker():
        made.append(Worker(Path(sys.executable), "toy", 1, tmp_path / "toy.log"))
        return made[-1]

    yield worker
    for each in made:
        each.close()


def job(out, **network):
    out.mkdir()
    return {
        "network": network,
        "data": str(out),
        "species": ["H"],
        "cutoff": 5.0,
        "out": str(out),
        "minutes": 1.0,
        "device": "cpu",
        "threads": 1,
    }


def alive(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


# ----- asking -----


def test_worker_answers_and_says_what_went_wrong(toy, tmp_path):
    worker = toy()
    assert worker.ask("versions")["toy"] == "1"
    worker.ask("open", network="x", run={"broken": True}, device="cpu", threads=1)
    structure = tmp_path / "h2.xyz"
    molecule("H2").write(structure)
    with pytest.raises(WorkerError, match=r"^ValueError: no such thing$"):
        worker.ask("structure", file=str(structure))
    worker.ask("open", network="x", run={"wait_s": 0.02}, device="cpu", threads=1)
    worker.ask("structure", file=str(structure))
    assert len(worker.ask("calls", count=3)["seconds"]) == 3
    steps = worker.ask("steps", count=4)
    assert 0.3 < steps["model_seconds"] / steps["seconds"] < 0.7  # one of the two naps
    # a process that dies is said to have died, and the next request has a new one
    with pytest.raises(WorkerError, match="ended with status 7"):
        worker.ask("train", **job(tmp_path / "dies", dies=True))
    assert worker.ask("versions")["toy"] == "1"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes in /proc")
def test_nothing_is_left_of_a_request_that_took_too_long(toy, tmp_path):
    worker = toy()
    worker.ask("versions")
    out = tmp_path / "sleeps"
    with pytest.raises(WorkerError, match="no answer within"):
        worker.ask("train", timeout_s=2.0, **job(out, sleeps=True))
    child = int((out / "child").read_text())
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.05)
    assert not alive(child)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes in /proc")
def test_nothing_is_left_of_a_benchmark_that_was_killed(toy, tmp_path):
    worker = toy()
    out = tmp_path / "sleeps"
    worker.ask("versions")
    process = worker._process
    process.stdin.write(json.dumps({"do": "train", **job(out, sleeps=True)}).encode() + b"\n")
    process.stdin.flush()
    while not (out / "child").exists() or not (out / "child").read_text():
        time.sleep(0.05)
    child = int((out / "child").read_text())
    assert alive(child)
    process.stdin.close()  # what the system does when the benchmark dies
    process.wait(timeout=10)
    time.sleep(0.1)
    assert not alive(child)


# ----- timing -----


def test_structures():
    atoms = {case.name: len(case.atoms) for case in structures.cases(2000)}
    assert atoms["ethanol"] == 9
    assert [n for name, n in atoms.items() if name.startswith("water")] == [48, 192, 1536]
    water = next(case for case in structures.cases(200) if case.name == "water-192")
    assert water.edges_per_atom(5.0) == pytest.approx(4 / 3 * np.pi * 125 / water.atoms.get_volume() * 192, rel=0.05)


@pytest.mark.parametrize("species", [structures.MOLECULES, structures.WATER])
def test_structures_for_random_networks(species, tmp_path):
    from ase.io import read

    structures.write_anything(tmp_path, species)
    for part in ("train", "valid"):
        for atoms in read(tmp_path / f"{part}.extxyz", ":"):
            assert set(atoms.symbols) == set(species)
            assert atoms.cell.rank == 3
            np.testing.assert_allclose(atoms.arrays["REF_forces"], atoms.get_forces(), atol=1e-6)
            assert np.abs(atoms.get_forces()).max() > 0.01
            assert atoms.info["REF_energy"] == pytest.approx(atoms.get_potential_energy())


def test_ratios_do_not_see_a_machine_that_slows_down():
    slowing = np.array([1.0, 1.5, 4.0, 9.0])
    ours = {"call": 0.01 * slowing, "step": 0.02 * slowing, "outside": 0.002 * slowing}
    theirs = {key: 3 * value for key, value in ours.items()}
    found = speed.figures({"ours": ours, "theirs": theirs}, "ours")
    assert found["theirs"]["step"]["ratio"] == pytest.approx(3.0)
    assert found["theirs"]["step"]["ratio_stderr"] == pytest.approx(0.0, abs=1e-12)
    assert found["theirs"]["step"]["ms"] == pytest.approx(3 * 20 * 2.75)
    assert found["ours"]["step"]["fastest_ms"] == pytest.approx(20.0)
    assert found["ours"]["outside_model"] == pytest.approx(0.1)
    assert "ratio" not in speed.figures({"theirs": theirs}, "ours")["theirs"]["step"]


def test_turns():
    assert speed.turn_counts(1e-3, ours=False) == (150, 150)
    assert speed.turn_counts(0.1, ours=False) == (3, 3)
    assert speed.turn_counts(0.1, ours=True) == (3, speed.LEAST_STEPS)
    entrants = {"a": speed.Entrant(None, 1, 1, ()), "b": speed.Entrant(None, 1, 1, ("forces", "stress"))}
    assert speed.turns_that_fit(entrants, {"a": 1.0, "b": 1.0}, 9) == 9
    assert speed.turns_that_fit(entrants, {"a": 10.0, "b": 10.0}, 9) == 6
    assert speed.turns_that_fit(entrants, {"a": 100.0, "b": 100.0}, 9) == speed.LEAST_TURNS


def test_measure_leaves_out_who_is_slow_or_fails(toy, tmp_path):
    runs = {"ours": {"wait_s": 0.001}, "slow": {"wait_s": 0.3}, "broken": {"broken": True}, "half": {"wait_s": 0.003}}
    workers = {name: (Contender(name, name, "ours", name, {}, run), toy()) for name, run in runs.items()}
    networks = dict.fromkeys(runs, tmp_path / "network")
    said = []

    def measure(case, smaller):
        return speed.measure(
            case, workers, networks, speed.Pace(3, 0.5), smaller,
            reference="ours", device="cpu", threads=1, folder=tmp_path, say=said.append,
        )  # fmt: skip

    small = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[4, 4, 4], pbc=True)
    found = measure(structures.Case("box-2", small, ("H",)), None)
    assert set(found["models"]) == {"ours", "half"}
    assert "more than 0.5 s" in found["left_out"]["slow"]
    assert found["left_out"]["broken"] == "ValueError: no such thing"
    assert said == ["broken: ValueError: no such thing"]
    half = found["models"]["half"]
    assert 1.5 < half["step"]["ratio"] < 4.5
    assert 0.3 < half["outside_model"] < 0.7
    assert 0.4 < half["everything_over_forces"] < 2.5
    # the larger structure: whoever would take too long by the time of the smaller one is not even asked
    large = structures.Case("box-2000", small * (10, 10, 10), ("H",))
    after = measure(large, found | {"first": {"half": {"atoms": 2, "call_s": 0.006, "MB": 0.0}}})
    assert after["left_out"]["half"] == speed.too_slow(6.0, 0.5)
    assert after["left_out"]["slow"] == found["left_out"]["slow"]
    assert set(after["models"]) == {"ours"}
    json.dumps(after)


# ----- training -----


def test_training_goes_on_where_it_stopped(tmp_path):
    ours, theirs = CONTENDERS[0], next(c for c in CONTENDERS if not c.ours)
    for contender in (ours, theirs):
        asked = accuracy.asked_of(contender, 20.0, device="cpu", threads=2)
        folder = tmp_path / contender.name
        assert accuracy.finished(folder, asked) is None
        folder.mkdir()
        (folder / accuracy.RESULT).write_text(json.dumps({"asked": asked, "force_mae_meV_per_A": 1.0}))
        assert accuracy.finished(folder, asked)["force_mae_meV_per_A"] == 1.0
        for change in ({"minutes": 10.0}, {"threads": 1}, {"network": {}}):
            assert accuracy.finished(folder, asked | change) is None
    assert accuracy.asked_of(ours, 20.0, device="cpu", threads=2)["defaults"]["train"]["ema_decay"] > 0


def test_training_of_a_program_from_start_to_errors(toy, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    structures.write_anything(data, structures.WATER)
    (data / "valid.extxyz").rename(data / "test.extxyz")
    contender = Contender("toy", "Toy", "toy", "toy", {}, {})
    asked = {"minutes": 1.0, "device": "cpu", "threads": 1}
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "half of a model").write_text("of a run that was killed")
    with pytest.raises(WorkerError, match="KeyError"):  # this toy has to be told how long to wait
        accuracy.train(contender, Path(sys.executable), data, ["H"], folder, asked)
    assert not (folder / "half of a model").exists()
    assert accuracy.finished(folder, asked) is None


def test_errors_are_those_of_the_calculator(toy, tmp_path):
    structures.write_anything(tmp_path, structures.WATER)
    from ase.io import read

    labelled = read(tmp_path / "train.extxyz", ":")
    error = np.array([0.01 - atoms.get_forces() for atoms in labelled])
    worker = toy()
    worker.ask("open", network="x", run={"wait_s": 0.0}, device="cpu", threads=1)
    found = worker.ask("errors", file=str(tmp_path / "train.extxyz"))
    assert found["structures"] == 5
    assert found["force_mae_meV_per_A"] == pytest.approx(1e3 * np.abs(error).mean())
    assert found["force_rmse_meV_per_A"] == pytest.approx(1e3 * np.sqrt((error**2).mean()))
    energies = [abs(atoms.get_potential_energy()) / len(atoms) for atoms in labelled]
    assert found["energy_mae_meV_per_atom"] == pytest.approx(1e3 * np.mean(energies))


def test_networks_are_made_once(tmp_path):
    class Maker:
        count = 0

        def ask(self, do, **_):
            self.count += 1
            return {"network": f"{do}-{self.count}"}

    maker = Maker()
    place = tmp_path / "network"
    assert bench._once(place, "train", "making", maker, {}, {"size": (1, 2)}) == Path("train-1")
    assert bench._once(place, "train", "making", maker, {}, {"size": (1, 2)}) == Path("train-1")
    assert bench._once(place, "train", "making", maker, {}, {"size": (1, 3)}) == Path("train-2")


# ----- environments -----


def test_environment_is_made_once_and_failure_is_reported(tmp_path, monkeypatch):
    ran = []

    def run(words):
        ran.append(words)
        if "freeze" in words:
            return "numpy==2.0\ntorch==2.13.0+cpu\n"
        if ran and "mace-torch>=0.3.16" in words:
            raise environments.InstallError("no such package")
        return ""

    monkeypatch.setattr(environments, "_run", run)
    assert environments.python_of("ours", tmp_path, ["torch"]) == Path(sys.executable)
    assert not ran
    (tmp_path / "schnetpack").mkdir()
    python = environments.python_of("schnetpack", tmp_path, ["torch"])
    assert python == tmp_path / "schnetpack" / "bin" / "python"
    assert (tmp_path / "schnetpack" / "torch.txt").read_text() == "torch==2.13.0+cpu\n"
    assert ran[-1][-1] in REQUIREMENTS["schnetpack"].alone
    done = len(ran)
    environments.python_of("schnetpack", tmp_path, ["torch"])
    assert len(ran) == done
    environments.python_of("schnetpack", tmp_path, ["torch==2.14"])
    assert len(ran) > done
    (tmp_path / "mace").mkdir()
    contenders = [c for c in CONTENDERS if c.program in ("ours", "mace")]
    pythons, missing = bench._environments(contenders, tmp_path, ["torch"])
    assert set(pythons) == {"ours"}
    assert missing == {"mace": "no such package"}


# ----- what is made of it -----


def made_up_report():
    """As of a run in which everything is known: cost and error of each contender by its place in the list."""
    speeds = []
    for threads, factor in ((2, 1.0), (1, 1.5)):
        models = {
            contender.name: {
                "turns": 9,
                "call": {"ms": factor * 2.0 * 1.4**k, "fastest_ms": 1.0, "ratio": 1.4**k, "ratio_stderr": 0.1},
                "step": {"ms": factor * 2.2 * 1.4**k, "fastest_ms": 1.0, "ratio": 1.4**k, "ratio_stderr": 0.1},
                "outside_model": 0.125,
                "outside_model_stderr": 0.01,
            }
            for k, contender in enumerate(CONTENDERS)
        }
        del models["mace-64"]
        part = {"structure": "aspirin", "atoms": 21, "device": "cpu", "threads": threads, "edges_per_atom": 14.0}
        speeds.append(part | {"models": models, "left_out": {"mace-64": "about 99 s for a call, more than 15 s"}})
    errors = {
        weights: {"minutes": 20.1, "epochs": 30, "force_mae_meV_per_A": 12.0 * 1.15**k,
                            "energy_mae_meV_per_atom": 0.5}
        for k, weights in enumerate(dict.fromkeys(contender.weights for contender in CONTENDERS))
    }  # fmt: skip
    errors["nequip-l2"] = {"error": "RuntimeError: nequip-train failed"}
    return {
        "machine": {},
        "minutes": 20.0,
        "trained_on": "1000 structures",
        "missing": {},
        "speed": speeds,
        "accuracy": errors,
    }


def text_of(*tables):
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    console = Console(file=out, width=200)
    for table in tables:
        console.print(table)
    return out.getvalue()


def test_tables():
    report = made_up_report()
    steps = text_of(*results.speed_table(report, CONTENDERS, "step"))
    assert steps.count("21 atoms") == 2
    assert "2 threads" in steps
    assert "1 thread " in steps
    line = next(line for line in steps.splitlines() if "MACE 64x0e" in line)
    assert "left out" in line
    assert "4.31 (1.96)" in steps
    assert "ratio to equivariant, compiled" in steps
    assert "equivariant, compiled: outside the model" in steps
    assert "12 %" in steps
    accuracy_text = text_of(results.accuracy_table(report, CONTENDERS))
    rows = [line for line in accuracy_text.splitlines() if "│" in line and "MAE" not in line]
    assert len(rows) == len({c.weights for c in CONTENDERS}) - 1  # one of them failed
    assert "12.0" in rows[0]
    said = results.notes(report, CONTENDERS)
    assert any("MACE 64x0e+64x1o, aspirin" in line and "99 s" in line for line in said)
    assert "nequip-l2: not trained: RuntimeError: nequip-train failed" in said


def test_points_take_the_faster_number_of_threads_and_who_has_both_figures():
    found = results.points(made_up_report(), CONTENDERS, "aspirin")
    labels = [point.label for point in found]
    assert "MACE 64x0e+64x1o" not in labels
    assert "NequIP l=2" not in labels
    assert found[0].ms == pytest.approx(2.2)
    assert found[0].ours
    compiled, eager = (point for point in found if point.label == "NequIP l=1")
    assert (compiled.compiled, eager.compiled) == (True, False)
    assert compiled.force_mae == eager.force_mae
    assert compiled.ms < eager.ms  # in this report cost grows along the list
    assert results.points(made_up_report(), CONTENDERS, "ethanol") == []


CROWDED = [
    *(
        (0.9, 12.8),
        (3.2, 12.8),
        (1.1, 10.9),
        (0.6, 34),
        (2.0, 34),
        (6.8, 30),
        (20, 30),
        (18, 28),
        (39, 28),
        (70, 24),
        (50, 23),
    ),
    *((4, 60), (6, 50), (8.7, 33)),
]
"""Cost and error of the contenders, much as they once were."""


@pytest.mark.parametrize("crowded", [False, True])
def test_picture_names_every_network_once_and_hides_nothing(crowded, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(results, "save", lambda figure, _: drawn.append(figure))
    found = results.points(made_up_report(), CONTENDERS, "aspirin")
    if crowded:
        found = [
            results.Point(c.label, ms, mae, c.ours, c.compiled)
            for c, (ms, mae) in zip(CONTENDERS, CROWDED, strict=True)
        ]
    results.draw_plane(tmp_path / "plane.png", found, "a title")
    (figure,) = drawn
    (axes,) = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == sorted({point.label for point in found})
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert all(figure.bbox.contains(x, y) for box in boxes for x, y in (box.min, box.max))
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    centers = [axes.transData.transform((point.ms, point.force_mae)) for point in found]
    markers = [Bbox([center - 5, center + 5]) for center in centers]
    assert not any(box.overlaps(marker) for box in boxes for marker in markers)
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_everybody_has_a_name_of_its_own_and_a_program():
    names = [contender.name for contender in CONTENDERS]
    assert len(set(names)) == len(names)
    for contender in CONTENDERS:
        assert (BENCHMARKS / "peers" / f"with_{contender.program}.py").exists()
        assert contender.ours or contender.program in REQUIREMENTS
    assert CONTENDERS[0].ours
    shared = {}
    for contender in CONTENDERS:
        network = (contender.label, contender.network)
        assert shared.setdefault(contender.weights, network) == network


@pytest.mark.slow
def test_benchmark_of_our_own_from_start_to_report(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(structures.DATA, raising=False)
    words = ["--out", str(tmp_path), "--only", "equivariant", "--largest", "9", "--turns", "2", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["bench.py", *words, "--device", "cpu"])
    bench.main()
    report = json.loads((tmp_path / bench.REPORT).read_text())
    (part,) = report["speed"]
    assert part["models"]["equivariant"]["step"]["ms"] > 0
    assert part["models"]["equivariant"]["step"]["ratio"] == 1.0
    assert 0 < part["models"]["equivariant"]["outside_model"] < 1
    assert part["edges_per_atom"] == 8.0
    part_file = tmp_path / "speed" / "cpu-1" / "ethanol.json"
    before = part_file.stat().st_mtime_ns
    bench.main()  # goes on where it stopped: everything is there
    assert part_file.stat().st_mtime_ns == before
    assert "no accuracy" in capsys.readouterr().out
