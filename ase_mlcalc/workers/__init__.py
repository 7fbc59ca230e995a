"""Worker processes: many tasks side by side, in processes that may die without taking anything with them.

What describes an executor is imported when it is first used: worker processes do without it, and start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ase_mlcalc.workers.cores import available_cores
from ase_mlcalc.workers.lock import workers_lock
from ase_mlcalc.workers.progress import TaskProgress
from ase_mlcalc.workers.protocol import Done, Task
from ase_mlcalc.workers.work import work_on

if TYPE_CHECKING:
    from ase_mlcalc.workers.executor import EXECUTOR_WORDS, Executor

__all__ = ["EXECUTOR_WORDS", "Done", "Executor", "Task", "TaskProgress", "available_cores", "work_on", "workers_lock"]


def __getattr__(name: str) -> Any:
    if name not in ("EXECUTOR_WORDS", "Executor"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.executor"), name)
