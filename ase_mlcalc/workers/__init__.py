"""Worker processes: many tasks side by side, in processes that may die without taking anything with them."""

from ase_mlcalc.workers.cores import available_cores
from ase_mlcalc.workers.lock import workers_lock
from ase_mlcalc.workers.pool import work_on
from ase_mlcalc.workers.progress import TaskProgress
from ase_mlcalc.workers.protocol import Done, Task

__all__ = ["Done", "Task", "TaskProgress", "available_cores", "work_on", "workers_lock"]
