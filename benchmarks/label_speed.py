"""How much faster `label` is with several worker processes than with one, of one thread each.

The same structures are labelled twice into fresh folders, the start of the processes counted; both have to write the
same bytes.  On a machine that is busy with other work the ratio of wall times says little, so the load before each part
is printed with it.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from ase_mlcalc.config import apply_overrides
from ase_mlcalc.data.read import read_structures
from ase_mlcalc.data.sets import water16
from ase_mlcalc.files import write_text
from ase_mlcalc.labelling import label


class Timing(NamedTuple):
    """What a labelling took."""

    workers: int
    seconds: float
    """Wall time."""
    cpu_seconds: float
    """Processor time of the workers."""
    load: float
    """Mean number of processes that wanted to run in the minute before."""


def timed(structures, calculator, arguments, out, workers):
    """Label structures; how long that took."""
    load, before, begin = os.getloadavg()[0], _of_children(), time.perf_counter()
    result = label(structures, calculator, out, arguments=arguments, workers=workers, threads=1)
    if result.n_failed:
        raise SystemExit(f"{result.n_failed} structures failed, see {result.failed}")
    return Timing(workers, time.perf_counter() - begin, _of_children() - before, load)


def _of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    """Label twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calculator", default="tblite.ase:TBLite")
    parser.add_argument("--arg", action="append", default=["method=GFN2-xTB", "verbosity=0"])
    parser.add_argument("--structures", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/label-speed"))
    given = parser.parse_args()
    structures = read_structures(water16("gfn2"), index=f":{given.structures}")
    arguments = apply_overrides({}, given.arg)
    with tempfile.TemporaryDirectory(prefix="label-speed-") as folder:
        outs = [Path(folder) / f"{workers}.extxyz" for workers in (1, given.workers)]
        found = [timed(structures, given.calculator, arguments, out, int(out.stem)) for out in outs]
        equal = outs[0].read_bytes() == outs[1].read_bytes()
    ratio = found[0].seconds / found[1].seconds
    table = Table(
        "workers", "s", "processor s", "load before", title=f"{len(structures)} structures of water16, "
        f"{given.calculator}, {os.cpu_count()} cores", title_justify="left",
    )  # fmt: skip
    for one in found:
        table.add_row(str(one.workers), f"{one.seconds:.1f}", f"{one.cpu_seconds:.1f}", f"{one.load:.1f}")
    table.caption = f"{ratio:.2f} times faster; same bytes: {equal}"
    Console().print(table)
    stored = {"ratio": ratio, "same_bytes": equal, "parts": [one._asdict() for one in found]}
    write_text(given.out / "label_speed.json", json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
