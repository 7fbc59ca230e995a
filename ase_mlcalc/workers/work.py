"""`work_on`: many tasks side by side, in processes of this machine or in jobs of an executor."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.workers.exchange import Exchange
from ase_mlcalc.workers.pool import in_processes
from ase_mlcalc.workers.protocol import Done, Task

if TYPE_CHECKING:
    from ase_mlcalc.workers.executor import Executor

EXCHANGE = "executor"


def work_on(
    tasks: Iterable[Task],
    n_workers: int,
    threads: int,
    logs: Path,
    held_file: IO[str] | None,
    tick: Callable[[set[int]], None],
    *,
    setup: Task | None = None,
    timeout_s: float | None = None,
    executor: "Executor | None" = None,
) -> AbstractContextManager[Iterator[Done]]:
    """Do tasks, several at once, in order: `with work_on(...) as work`, and `work` yields each as it is over.

    A task that fails, or whose process dies, ends with an error of its own.  Leaving the context, by an interrupt for
    example, stops all of them: a task that is at work gets a `KeyboardInterrupt` and time to leave things in order.  It
    is a context because the traceback of an error keeps a loop, and so the tasks, alive.

    Parameters
    ----------
    tasks : iterable of Task
        Taken one at a time, as they can be started.
    n_workers, threads : int
        Tasks at once, and threads of each.
    logs : path
        Folder for what the processes print; jobs of an executor and this command leave word for each other in
        ``executor/`` there.
    held_file : file, optional
        Kept open by processes of this machine: the lock on it (`workers_lock`) lives as long as one of them.
    tick : callable
        Called again and again with the numbers of the tasks at work.
    setup : Task, optional
        Done by each process before its first task; where it fails, nothing can be done.
    timeout_s : float, optional
        Longest that a task may take; its process is killed then.
    executor : Executor, optional
        Where tasks run; default: in processes of this machine.

    Raises
    ------
    MLCalcError
        Processes that die before they are ready, or cannot do `setup`; jobs that cannot be started.
    ConfigError
        An executor that is not there; jobs of an earlier command that are still at work.
    """
    if executor is not None:
        from ase_mlcalc.workers.jobs import in_jobs  # worker processes import this module, and need to start quickly

        exchange = logs / EXCHANGE
        return closing(
            in_jobs(tasks, n_workers, threads, exchange, tick, executor=executor, setup=setup, timeout_s=timeout_s)
        )
    if Exchange(logs / EXCHANGE).is_anyone_at_work():
        raise ConfigError(
            f"jobs of an earlier command are still at work in {logs.parent}; give the command with its executor to go "
            "on with them, or to stop them by Ctrl-C"
        )
    return closing(in_processes(tasks, n_workers, threads, logs, held_file, tick, setup=setup, timeout_s=timeout_s))
