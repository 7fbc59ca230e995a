"""Worker processes: what they answer, and what happens when they fail, die or take too long."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ase_mlcalc.errors import ConfigError, MLCalcError
from ase_mlcalc.workers import Task, TaskProgress, work_on, workers_lock
from ase_mlcalc.workers.lock import WORKERS_LOCK


def double(value):
    return {"doubled": 2 * value}


def refuse():
    raise ConfigError("this cannot\nbe done")


def break_down():
    raise ZeroDivisionError


def die(status):
    os._exit(status)


def remember(path, word):
    """Put a word into a file; the number of words that this process put there."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(word)
    remember.count = getattr(remember, "count", 0) + 1
    return remember.count


def sleep_with_child(path):
    """Sleep, and have a child process that does; its number is in a file."""
    child = subprocess.Popen(["sleep", "100"])  # noqa: S607
    Path(path).write_text(str(child.pid), encoding="utf-8")
    time.sleep(100)


def done(tasks, folder, n_workers=1, **options):
    with work_on(tasks, n_workers, 1, folder / "logs", None, lambda _: None, **options) as work:
        return {each.number: each for each in work}


def test_results_and_errors_come_back(tmp_path):
    found = done([Task.of(double, value=3), Task.of(refuse), Task.of(break_down), Task.of(double, value="a")], tmp_path)
    assert found[0].result == {"doubled": 6}
    assert (found[1].result, found[1].error) == (None, "this cannot be done")
    assert found[2].error == "ZeroDivisionError"
    assert found[3].result == {"doubled": "aa"}
    assert "Traceback" in (tmp_path / "logs" / "worker-1.txt").read_text(encoding="utf-8")


def test_the_dead_are_replaced(tmp_path):
    found = done([Task.of(die, status=7), Task.of(double, value=1), Task.of(die, status=8)], tmp_path)
    assert "status 7" in found[0].error
    assert found[1].result == {"doubled": 2}
    assert "status 8" in found[2].error


def test_each_process_is_set_up_once(tmp_path):
    path = tmp_path / "words"
    tasks = [Task.of(remember, path=str(path), word="t") for _ in range(3)]
    found = done([*tasks, Task.of(die, status=1), *tasks], tmp_path, setup=Task.of(remember, path=str(path), word="S"))
    assert path.read_text(encoding="utf-8") == "StttSttt"
    assert [found[k].result for k in (0, 1, 2, 4, 5, 6)] == [2, 3, 4, 2, 3, 4], "state stays in the process"


@pytest.mark.parametrize(
    ("setup", "message"), [(Task.of(refuse), "cannot be done"), (Task.of(die, status=9), "status 9")]
)
def test_without_setup_nothing_is_done(tmp_path, setup, message):
    with pytest.raises(MLCalcError, match=f"a worker process cannot be started: .*{message}"):
        done([Task.of(double, value=1)], tmp_path, setup=setup)


def is_there(pid):
    """A process that runs, and is no zombie."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
def test_what_takes_too_long_is_ended_with_its_children(tmp_path):
    path = tmp_path / "child"
    found = done([Task.of(sleep_with_child, path=str(path)), Task.of(double, value=1)], tmp_path, timeout_s=2.0)
    assert found[0].error == "took longer than 2 s and was stopped"
    assert found[1].result == {"doubled": 2}
    end = time.monotonic() + 10.0
    while is_there(int(path.read_text(encoding="utf-8"))):
        assert time.monotonic() < end, "its child goes on"
        time.sleep(0.05)


def test_tasks_are_taken_as_they_are_needed(tmp_path):
    taken = []

    def tasks():
        for k in range(6):
            taken.append(k)
            yield Task.of(double, value=k)

    with work_on(tasks(), 1, 1, tmp_path, None, lambda _: None) as work:
        for each in work:
            assert len(taken) <= each.number + 2
    assert taken == list(range(6))


def test_leaving_the_context_stops_the_tasks(tmp_path):
    with work_on([Task.of(double, value=k) for k in range(3)], 1, 1, tmp_path, None, lambda _: None) as work:
        assert next(work).result == {"doubled": 0}
    assert not list(work)


def test_workers_start_without_torch(tmp_path):
    """Processes that need none are small and there in a moment."""
    code = "import sys, ase_mlcalc.workers.worker, ase_mlcalc.labelling.tasks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


def test_leftover_workers_are_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("ase_mlcalc.workers.lock.LEFTOVER_WAIT_S", 0.2)
    with (
        workers_lock(tmp_path),
        pytest.raises(ConfigError, match=f"still at work in {tmp_path}"),
        workers_lock(tmp_path),
    ):
        pass
    with workers_lock(tmp_path):
        assert (tmp_path / WORKERS_LOCK).exists()


def test_progress_says_how_long_it_takes(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr("ase_mlcalc.workers.progress.time.monotonic", lambda: now)
    with TaskProgress("label", 10, 4) as shown:
        shown.tick(set())
        now = 200.0  # processes start
        shown.tick({0})
        now = 231.0
        shown.over("1 failed")
        shown.over()
        now = 262.0
        shown.over()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "label: 5/10  1 failed  0:02:35 left"
    assert second == "label: 7/10  0:01:02 left"
