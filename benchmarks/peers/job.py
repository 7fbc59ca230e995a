"""What the programs are asked to do, and how their own tools are run."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Job(NamedTuple):
    """One network to train."""

    network: Mapping[str, Any]
    """Its size, in the words of the program."""
    data: Path
    """Folder with ``train.extxyz`` and ``valid.extxyz``, in eV and Å."""
    species: Sequence[str]
    cutoff: float
    """Å."""
    out: Path
    """Folder of its own, empty."""
    minutes: float | None
    """Wall time of training; None: a step or so, for a network that is only timed."""
    device: str
    threads: int


def run_tool(words: Sequence[str | Path], job: Job, log: str) -> float:
    """Run a program of this environment in the job's folder; minutes that it took.

    Raises
    ------
    RuntimeError
        It failed; the message is the end of its log.
    """
    tool, *options = map(str, words)
    folder = str(Path(__file__).parents[1])
    threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {**os.environ, **threads, "PYTHONPATH": folder}
    begin = time.monotonic()
    with open(job.out / log, "w") as written:
        done = subprocess.run(  # noqa: S603
            [str(Path(sys.executable).parent / tool), *options],
            cwd=job.out,
            env=environment,
            stdout=written,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        last = [line for line in (job.out / log).read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise RuntimeError(f"{tool} failed, see {job.out / log}: {' '.join(last)}")
    return (time.monotonic() - begin) / 60
