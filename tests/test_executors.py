"""Tasks as jobs of an executor: the same answers as from processes, whatever happens to jobs and commands."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import ase.io
import executor_cases as cases
import numpy as np
import pytest
from ase.build import bulk
from label_calculators import structures
from work_cases import as_context

from ase_mlcalc.active.rounds import Round
from ase_mlcalc.campaigns import trainings
from ase_mlcalc.campaigns.config import CampaignTable
from ase_mlcalc.cli import main
from ase_mlcalc.config import validate
from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.labelling import label
from ase_mlcalc.sampling import SampleJob, sample
from ase_mlcalc.study import StudyJob, run_study
from ase_mlcalc.study.identity import identity
from ase_mlcalc.training import members
from ase_mlcalc.workers import Executor, Task, exchange, jobs, work_on
from ase_mlcalc.workers.exchange import Exchange
from ase_mlcalc.workers.job import Order, do_task

TESTS = Path(__file__).parent
THREADS = Executor(name="executor_cases:Threads")
DETACHED = Executor(name="executor_cases:Detached")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(exchange, "BEAT_S", 0.2)
    monkeypatch.setattr(jobs, "TICK_S", 0.05)
    monkeypatch.setattr("ase_mlcalc.workers.pool.TICK_S", 0.05)


def work(tasks, folder, executor=THREADS, n_workers=2, **options):
    with work_on(tasks, n_workers, 1, folder / "logs", None, lambda _: None, executor=executor, **options) as running:
        yield from running


def done(tasks, folder, executor=THREADS, **options):
    return {each.number: each for each in work(tasks, folder, executor, **options)}


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.05)


def lines(path):
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


# ----- the same as in processes -----


def several():
    return [
        Task.of(cases.square, value=3),
        Task.of(cases.refuse),
        Task.of(cases.die, status=7),
        Task.of(cases.settings),
    ]


def test_answers_are_those_of_processes(tmp_path):
    here = done(several(), tmp_path / "here", None)
    there = done(several(), tmp_path / "there")
    assert there[0].result == {"square": 9}
    assert there[3].result == {"threads": "1", "cwd": str(Path.cwd()), "executor_cases": cases.__file__}
    assert there[1].error == "this cannot be done"
    assert there[2].error == "its process ended by itself with status 7"
    assert [there[k][:3] for k in range(4)] == [here[k][:3] for k in range(4)]
    left = sorted(path.name for path in (tmp_path / "there").rglob("*.txt"))
    assert left == ["worker-1.txt", "worker-1.txt"], "what failed can be looked into, and nothing else is left"


def test_nothing_is_left_where_all_is_well(tmp_path):
    assert len(done([Task.of(cases.square, value=2)] * 3, tmp_path)) == 3, "also of tasks that are the same"
    assert not (tmp_path / "logs" / "executor").exists()


def test_tasks_are_taken_as_there_is_room(tmp_path):
    taken = []

    def tasks():
        for k in range(5):
            taken.append(k)
            yield Task.of(cases.square, value=k)

    for over, each in enumerate(work(tasks(), tmp_path)):
        assert len(taken) <= over + 2
        assert each.result == {"square": each.number**2}
    assert taken == list(range(5))


def test_setup_and_limits_of_time(tmp_path):
    path = tmp_path / "words"
    tasks = [Task.of(cases.slow, path=str(path), word="long", seconds=100), Task.of(cases.square, value=1)]
    found = done(tasks, tmp_path, setup=Task.of(cases.say, path=str(path), line="setup"), timeout_s=3.0)
    assert found[0].error == "took longer than 3 s and was stopped"
    assert found[1].result == {"square": 1}
    assert sorted(lines(path)) == ["long begins", "setup", "setup"]


def test_who_is_at_work_is_known(tmp_path):
    seen = []
    tasks = [Task.of(cases.slow, path=str(tmp_path / "words"), word=str(k), seconds=1.0) for k in range(2)]
    with work_on(tasks, 1, 1, tmp_path / "logs", None, seen.append, executor=THREADS) as running:
        for _ in running:
            pass
    busy = [numbers for numbers in seen if numbers]
    assert [numbers for k, numbers in enumerate(busy) if not k or numbers != busy[k - 1]] == [{0}, {1}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": Executor(name="executor_cases:NoQueue")}, "FileNotFoundError: no such program: sbatch"),
        ({"setup": Task.of(cases.never)}, "a worker process cannot be started: no licence here"),
    ],
)
def test_jobs_that_cannot_be_started_are_no_failures_of_tasks(tmp_path, options, message):
    found = []
    with pytest.raises(MLCalcError, match=f"a job cannot be started: .*{message}"):
        found.extend(work([Task.of(cases.square, value=k) for k in range(3)], tmp_path, **options))
    assert not found


# ----- jobs and commands that die -----


def test_a_dead_job_takes_nothing_with_it(tmp_path):
    found = done([Task.of(cases.kill_job), Task.of(cases.square, value=2)], tmp_path, DETACHED)
    assert found[0].error.startswith("its job died (RuntimeError: node failed with status -9); see ")
    assert found[1].result == {"square": 4}


def test_jobs_are_told_to_stop(tmp_path):
    path = tmp_path / "words"
    tasks = [Task.of(cases.slow, path=str(path), word="a", seconds=100), Task.of(cases.square, value=1)]
    running = work(tasks, tmp_path)
    assert next(running).number == 1
    until(lambda: lines(path))
    running.close()
    assert lines(path) == ["a begins", "a stops"]


COMMAND = """
import sys
sys.path.insert(0, {tests!r})
import executor_cases as cases
from pathlib import Path
from ase_mlcalc.workers import Executor, Task, work_on
tasks = [Task.of(cases.slow, path={path!r}, word=str(k), seconds=1.5) for k in range(4)]
executor = Executor(name="executor_cases:Detached")
with work_on(tasks, 2, 1, Path({logs!r}), None, lambda _: None, executor=executor) as running:
    for _ in running:
        pass
"""


def test_a_killed_command_loses_nothing_and_repeats_nothing(tmp_path):
    path = tmp_path / "words"
    code = COMMAND.format(tests=str(TESTS), path=str(path), logs=str(tmp_path / "logs"))
    command = subprocess.Popen([sys.executable, "-c", code])  # noqa: S603
    until(lambda: len(lines(path)) >= 2)
    command.send_signal(signal.SIGKILL)
    command.wait()
    with pytest.raises(ConfigError, match=f"jobs of an earlier command are still at work in {tmp_path}"):
        done([Task.of(cases.square, value=1)], tmp_path, None)
    tasks = [Task.of(cases.slow, path=str(path), word=str(k), seconds=1.5) for k in range(4)]
    found = done(tasks, tmp_path, DETACHED)
    assert {k: each.result for k, each in found.items()} == {k: str(k) for k in range(4)}
    assert sorted(lines(path)) == sorted(f"{k} {what}" for k in range(4) for what in ("begins", "ends"))


def test_answers_that_nobody_heard_are_found(tmp_path):
    path = tmp_path / "words"
    tasks = [Task.of(cases.slow, path=str(path), word=word, seconds=0.0) for word in "ab"]
    left = Exchange(tmp_path / "logs" / "executor")
    order(left, tasks[0], left.take())
    assert (left.folder / "tasks").exists()
    found = done(tasks, tmp_path)
    assert [found[k].result for k in (0, 1)] == ["a", "b"]
    assert lines(path) == ["a begins", "a ends", "b begins", "b ends"]


def key_of(task):
    return hashlib.sha256(task.encode().encode()).hexdigest()[:24]


def order(there, task, token):
    """Do a task as a job of the command with this token; the word that it ends with."""
    asked = Order(task, None, key_of(task), str(there.folder), token, 1, None, str(Path.cwd()), list(sys.path), 0.2)
    return json.loads(do_task(asked.encode()))["state"]


def test_a_job_of_an_earlier_command_leaves_its_task(tmp_path):
    there = Exchange(tmp_path)
    old, new = there.take(), there.take()
    task = Task.of(cases.say, path=str(tmp_path / "words"), line="done")
    assert order(there, task, old) == "left"
    assert not (tmp_path / "words").exists()
    assert order(there, task, new) == "over"
    there.stop()
    assert order(there, task, new) == "left"
    assert lines(tmp_path / "words") == ["done"]


def age(place):
    """Make the last sign of life of a job old."""
    os.utime(place.folder / exchange.AT_WORK, (1.0, 1.0))


def test_what_a_dead_job_had_begun_is_done_again(tmp_path):
    task = Task.of(cases.square, value=5)
    place = Exchange(tmp_path / "logs" / "executor").place(key_of(task))
    place.begin(0.0)  # and then its node goes down
    cases.Recorded.submitted.clear()
    waited = []

    def tick(at_work):
        if len(waited) < 5:
            assert not cases.Recorded.submitted, "it may be at work"
            waited.append(at_work)
        elif len(waited) == 5:
            age(place)
            waited.append(at_work)

    executor = Executor(name="executor_cases:Recorded")
    with work_on([task], 1, 1, tmp_path / "logs", None, tick, executor=executor) as running:
        (found,) = running
    assert found.result == {"square": 25}
    assert waited == [{0}] * 6


def test_a_job_without_a_sign_of_life_is_given_up(tmp_path):
    path = tmp_path / "words"
    task = Task.of(cases.slow, path=str(path), word="a", seconds=100)
    place = Exchange(tmp_path / "logs" / "executor").place(key_of(task))
    frozen = []

    def tick(_):
        if lines(path):
            if not frozen:
                frozen.append(cases.Detached.processes[-1])
                os.kill(frozen[0].pid, signal.SIGSTOP)
            age(place)

    try:
        with work_on([task], 1, 1, tmp_path / "logs", None, tick, executor=DETACHED) as running:
            (found,) = running
    finally:
        for process in frozen:
            process.kill()
    assert "no sign of life any more" in found.error


def test_another_command_takes_over(tmp_path):
    path = tmp_path / "words"
    task = Task.of(cases.slow, path=str(path), word="a", seconds=3.0)

    def take_over(_):
        if lines(path) and not tokens:
            tokens.append(Exchange(tmp_path / "logs" / "executor").take())

    tokens = []
    with (
        work_on([task], 1, 1, tmp_path / "logs", None, take_over, executor=DETACHED) as running,
        pytest.raises(ConfigError, match="another command has taken over"),
    ):
        list(running)
    assert done([task], tmp_path, DETACHED)[0].result == "a"
    assert lines(path) == ["a begins", "a ends"], "its job went on"


# ----- which executor -----


def test_what_is_submitted_is_one_function_with_text(tmp_path):
    cases.Recorded.made.clear()
    cases.Recorded.submitted.clear()
    executor = Executor(name="executor_cases:Recorded", options={"queue": "long"}, resources={"nodes": 1})
    done([Task.of(cases.square, value=2)], tmp_path, executor)
    assert cases.Recorded.made == [{"queue": "long", "resource_dict": {"nodes": 1}}]
    ((function, text),) = cases.Recorded.submitted
    assert function is do_task
    asked = json.loads(text)
    assert asked["task"] == ["executor_cases:square", {"value": 2}]
    assert Path(asked["exchange"]).is_absolute()
    assert asked["cwd"] == str(Path.cwd())
    assert str(TESTS) in asked["paths"]


@pytest.fixture
def stand_in(monkeypatch):
    """In place of executorlib: what its executors are made with."""
    cases.Recorded.made.clear()
    names = ["SingleNodeExecutor", "SlurmClusterExecutor", "SlurmJobExecutor"]
    module = types.ModuleType("executorlib")
    module.__all__ = ["BaseExecutor", "get_cache_data", *names]
    for name in names:
        setattr(module, name, cases.Recorded)
    monkeypatch.setitem(sys.modules, "executorlib", module)
    return cases.Recorded.made


def test_a_queue_is_told_what_a_task_needs(tmp_path, stand_in):
    resources = {"partition": "cpu", "run_time_max": 3600}
    Executor(name="SlurmClusterExecutor", resources=resources).make(4, tmp_path).shutdown()
    Executor(name="SlurmJobExecutor", resources={"threads_per_core": 8}, options={"max_cores": 64}).make(1, tmp_path)
    assert stand_in == [
        {
            "disable_dependencies": True,
            "cache_directory": str(tmp_path / "cache"),
            "refresh_rate": 1.0,
            "resource_dict": {"threads_per_core": 4, **resources},
        },
        {"disable_dependencies": True, "max_cores": 64, "resource_dict": {"threads_per_core": 8}},
    ]
    with pytest.raises(ConfigError, match=r"no executor 'SlurmExecutor'; there are SingleNodeExecutor, Slurm.*:Class"):
        Executor(name="SlurmExecutor").make(1, tmp_path)
    with pytest.raises(ConfigError, match="no executor 'BaseExecutor'"):
        Executor(name="BaseExecutor").make(1, tmp_path)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorlib", None)
    with pytest.raises(ConfigError, match=r'cannot be imported .*pip install "ase-mlcalc\[executors\]"'):
        done([Task.of(cases.square, value=1)], tmp_path, Executor(name="SingleNodeExecutor"))
    for name, message in [
        ("executor_cases:Thread", "executor_cases has no executor 'Thread'"),
        ("no_such_package:Pool", "executor 'no_such_package:Pool' cannot be imported"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Executor(name=name).make(1, tmp_path)
    with pytest.raises(ConfigError, match="executor_cases:Threads does not take what it was given"):
        Executor(name="executor_cases:Threads", options={"colour": "red"}).make(1, tmp_path)


def test_a_task_is_one_process():
    with pytest.raises(ConfigError, match=r"cores = 4 would start as many processes with MPI.*threads_per_core"):
        validate(Executor, {"name": "SlurmJobExecutor", "resources": {"cores": 4}}, "my file")
    with pytest.raises(ConfigError, match="a table of its own"):
        validate(Executor, {"name": "SlurmJobExecutor", "options": {"resource_dict": {}}}, "my file")


# ----- campaigns -----


def study(folder, executor=None):
    raw = {
        "study": {
            "output": str(folder / "study"),
            "models": ["ase.calculators.emt:EMT"],
            "structures": [str(folder / "copper.extxyz")],
            "temperatures_K": [300],
            "timesteps_fs": [2],
            "seeds": 1,
            "scans": False,
            "workers": 1,
        },
        "md": {"ensemble": "nve", "time_ps": 0.02},
    }
    return StudyJob.model_validate(raw if executor is None else {**raw, "executor": executor})


def sampling(executor=None):
    raw = {"sample": {"structures": ["copper.extxyz"]}, "forces": {"calculator": "ase.calculators.emt:EMT"}}
    return SampleJob.model_validate(raw if executor is None else {**raw, "executor": executor})


@pytest.mark.slow
def test_a_study_is_the_same_wherever_it_runs(tmp_path):
    ase.io.write(tmp_path / "copper.extxyz", bulk("Cu", cubic=True))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "copper.extxyz").write_bytes((tmp_path / "copper.extxyz").read_bytes())
    here = run_study(study(tmp_path), progress=False)
    there = run_study(study(tmp_path / "there", {"name": "executor_cases:Threads"}), progress=False)
    assert [run.status for run in there.runs] == ["stable"]
    name = "study/runs/EMT/copper/300K_2fs/seed0/thermo.csv"
    assert (tmp_path / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    assert here.groups[0].n_stable == there.groups[0].n_stable == 1
    again = run_study(study(tmp_path / "there"), progress=False)  # and goes on without it
    assert again.groups == there.groups


def test_labels_by_an_executor_are_labels(tmp_path):
    given = structures(4)
    arguments = {"fails": [1]}
    options = {"calculator": "label_calculators:Springs", "arguments": arguments, "workers": 2, "progress": False}
    label(given, out=tmp_path / "here.extxyz", **options)
    result = label(given, out=tmp_path / "there.extxyz", executor=THREADS, **options)
    assert (result.n_labelled, result.n_failed) == (3, 1)
    pairs = zip(ase.io.read(tmp_path / "here.extxyz", ":"), ase.io.read(result.out, ":"), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one.get_forces(), other.get_forces())
        assert one.get_potential_energy() == other.get_potential_energy()
    assert ase.io.read(result.failed).info["label_failed"] == "CalculationFailed: SCF not converged in 250 cycles"


def test_label_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ase.io.write("in.extxyz", structures(1))
    Path("executor.toml").write_text('[executor]\nname = "executor_cases:Threads"\n', encoding="utf-8")
    words = ["label", "in.extxyz", "--calculator", "label_calculators:Springs", "--out", "out.extxyz", "--workers", "1"]
    assert main([*words, "--executor", "executor.toml"]) == 0, capsys.readouterr().err
    assert len(ase.io.read("out.extxyz", ":")) == 1
    Path("executor.toml").write_text('[executor]\nnam = "SingleNodeExecutor"\n', encoding="utf-8")
    assert main([*words, "--executor", "executor.toml"]) == 1
    assert "unknown key 'executor.nam'; did you mean 'name'?" in capsys.readouterr().err


def test_where_a_campaign_runs_does_not_change_what_it_is(tmp_path):
    ase.io.write(tmp_path / "copper.extxyz", bulk("Cu", cubic=True))
    assert identity(study(tmp_path)) == identity(study(tmp_path, {"name": "SlurmClusterExecutor"}))


def test_campaigns_are_handed_to_the_executor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("copper.extxyz", bulk("Cu", cubic=True))
    given = []

    @as_context
    def work_on(*_, executor, **__):
        given.append(executor)
        yield from ()

    for module in ("campaigns.trainings", "sampling.run", "study.run"):
        monkeypatch.setattr(f"ase_mlcalc.{module}.work_on", work_on)
    trainings.make([], 0, CampaignTable(), tmp_path, None, executor=THREADS, shown=False)
    with pytest.raises(MLCalcError, match="no run came to its end"):
        sample(sampling({"name": "SlurmJobExecutor", "resources": {"threads_per_core": 2}}), progress=False)
    run_study(study(tmp_path, {"name": "FluxJobExecutor"}), progress=False)
    assert [executor.name for executor in given] == [THREADS.name, "SlurmJobExecutor", "FluxJobExecutor"]
    assert given[1].resources == {"threads_per_core": 2}


class _Interrupting:
    """What an interrupt makes of a task that is over."""

    def __getattr__(self, name):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "module",
    ["active.rounds", "campaigns.trainings", "labelling.run", "sampling.run", "study.run", "training.members"],
)
def test_no_task_goes_on_after_an_error(tmp_path, monkeypatch, module):
    """Tasks have stopped before the error reaches anyone who keeps it, and with it what raised it."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("copper.extxyz", bulk("Cu", cubic=True))
    none = types.SimpleNamespace
    learn = none(output=tmp_path, n_workers=1, threads=1)
    learning = Round(none(learn=learn, executor=None), none(species=(29,)), [], "", None, print, progress=False)
    springs = {"calculator": "label_calculators:Springs", "out": tmp_path / "out.extxyz"}
    begin = {
        "active.rounds": lambda: learning._assess([]),
        "campaigns.trainings": lambda: trainings.make(
            [], 0, CampaignTable(), tmp_path, None, executor=None, shown=False
        ),
        "labelling.run": lambda: label(structures(1), **springs, workers=1, progress=False),
        "sampling.run": lambda: sample(sampling(), progress=False),
        "study.run": lambda: run_study(study(tmp_path), progress=False),
        "training.members": lambda: members._train_at_once(tmp_path, [], 2, none(say=print)),
    }
    stopped = []

    @as_context
    def work_on(*_, **__):
        try:
            yield _Interrupting()
        finally:
            stopped.append(module)

    monkeypatch.setattr(f"ase_mlcalc.{module}.work_on", work_on)
    with pytest.raises(KeyboardInterrupt) as kept:
        begin[module]()
    assert stopped == [module], kept


# ----- executorlib itself -----


def test_single_node_executor(tmp_path):
    pytest.importorskip("executorlib", reason='needs pip install "ase-mlcalc[executors]"', exc_type=ImportError)
    found = done(several()[:3], tmp_path, Executor(name="SingleNodeExecutor"))
    assert found[0].result == {"square": 9}
    assert found[1].error == "this cannot be done"
    assert found[2].error == "its process ended by itself with status 7"
    with pytest.raises(ConfigError, match=r"SlurmJobExecutor does not take what it was given: partition: Extra inputs"):
        Executor(name="SlurmJobExecutor", resources={"partition": "cpu"}).make(1, tmp_path)


SBATCH = """#!/bin/sh
# a queue that starts the first jobs at once, on this machine, and the others never
for script in "$@"; do :; done
cp "$script" "$QUEUE/$$"
if [ "$(ls "$QUEUE" | wc -l)" -gt "$QUEUE_ROOM" ]; then set -- sleep 1000; else set -- sh "$script"; fi
setsid "$@" > /dev/null 2>&1 &
echo $! | tee -a "$QUEUE.submitted"
"""
SQUEUE = """#!/bin/sh
ps -e -o pid= | while read -r pid; do echo "$pid|me|R|job|/"; done
"""
SCANCEL = """#!/bin/sh
echo "$1" >> "$QUEUE.cancelled"
kill -- "-$1"
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Programs with the names of those of SLURM, and a folder with the scripts that were submitted."""
    for package in ("executorlib", "pysqa", "h5py"):
        pytest.importorskip(package, reason='needs pip install "ase-mlcalc[executors]"', exc_type=ImportError)
    programs, scripts = tmp_path / "bin", tmp_path / "scripts"
    programs.mkdir()
    scripts.mkdir()
    for name, text in [("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)]:
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(scripts))
    monkeypatch.setenv("QUEUE_ROOM", "100")
    return scripts


def test_jobs_of_a_queue(tmp_path, queue):
    resources = {"partition": "cpu", "run_time_max": 7200, "threads_per_core": 4}
    executor = Executor(name="SlurmClusterExecutor", resources=resources)
    found = done(several(), tmp_path / "campaign", executor)
    assert found[0].result == {"square": 9}
    assert found[1].error == "this cannot be done"
    assert found[2].error == "its process ended by itself with status 7"
    assert found[3].result["cwd"] == str(Path.cwd())
    scripts = [path.read_text(encoding="utf-8") for path in queue.iterdir()]
    assert len(scripts) == 4
    for line in ("#SBATCH --partition=cpu", "#SBATCH --time=120", "#SBATCH --ntasks=4"):
        assert all(line in script for script in scripts)
    assert str(tmp_path / "campaign" / "logs" / "executor" / "cache") in scripts[0]


def test_jobs_of_a_queue_are_told_to_stop(tmp_path, queue, monkeypatch):
    monkeypatch.setenv("QUEUE_ROOM", "2")
    path = tmp_path / "words"
    first = [Task.of(cases.slow, path=str(path), word="a", seconds=100), Task.of(cases.square, value=1)]
    executor = Executor(name="SlurmClusterExecutor", resources={"partition": "cpu"})
    running = work([*first, Task.of(cases.square, value=2)], tmp_path, executor, n_workers=3)
    assert next(running).number == 1
    until(lambda: lines(path))
    running.close()
    assert lines(path) == ["a begins", "a stops"]
    *_, waiting = lines(queue.with_name("scripts.submitted"))  # executorlib also cancels what is over
    assert waiting in lines(queue.with_name("scripts.cancelled")), "that which was not started"
    assert not Exchange(tmp_path / "logs" / "executor").is_anyone_at_work()
