"""Our models and other programs side by side, in one run (``make bench``): speed, accuracy, and the plane of both.

Each program runs in a virtual environment of its own, which is made at the first run, as a process that answers
requests, so that calls of ours and theirs alternate.  All through their ASE calculators, in float32, with a cutoff of
5 Å, with as many threads.  Networks that are timed have random weights, since cost does not depend on them; networks
whose errors are given are trained for the same time on the same structures by the tools of their own programs.

Everything goes to ``--out``: ``bench.json`` with all figures, ``accuracy_cost.png``, and a folder for each part.  Parts
that are finished are kept; a benchmark that was killed goes on where it stopped.  Speed is measured anew when the
sources of this package have changed.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import ase.io
import torch
from peers import accuracy, results, speed
from peers.contenders import CONTENDERS, CUTOFF_ANGSTROM, Contender
from peers.environments import InstallError, python_of
from peers.remote import Worker, WorkerError
from peers.structures import TRAINED_ON, Case, cases, data_folder, write_anything, write_data_sets
from rich.console import Console

import ase_mlcalc
from ase_mlcalc.files import write_text

REPORT = "bench.json"
PICTURE = "accuracy_cost.png"


def main() -> None:
    """Install, time, train, report."""
    arguments = _arguments()
    chosen = [c for c in CONTENDERS if any(fnmatch(c.name, pattern) for pattern in arguments.only)]
    if not chosen:
        raise SystemExit(f"nobody is called {' or '.join(arguments.only)}; there are:\n" + _lines(CONTENDERS))
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    pythons, missing = _environments(chosen, arguments.envs or out / "envs", arguments.torch.split())
    chosen = [contender for contender in chosen if contender.program in pythons]
    report: dict[str, Any] = {
        "machine": machine(),
        "cutoff_A": CUTOFF_ANGSTROM,
        "dtype": "float32",
        "minutes": arguments.minutes,
        "trained_on": f"1000 structures of rMD17 {TRAINED_ON}",
        "missing": missing,
        "speed": [],
        "accuracy": {},
    }
    if "speed" not in arguments.skip:
        pace = speed.Pace(arguments.turns, arguments.limit_s)
        for device in arguments.device:
            for threads in arguments.threads:
                report["speed"] += time_all(chosen, pythons, out, pace, device, threads, arguments.largest)
                _write(out, report)
    if "accuracy" not in arguments.skip:
        threads = max(arguments.threads)
        report["accuracy"] = train_all(chosen, pythons, out, arguments.minutes, arguments.device[-1], threads)
        _write(out, report)
    show(report, chosen, out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--envs", type=Path, help="folder of the environments; default: envs in the output folder")
    parser.add_argument("--torch", default="torch==2.13.0", help="what pip installs as torch in each environment")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=["*"], help="names or patterns such as 'nequip-*'")
    parser.add_argument("--skip", nargs="+", choices=["speed", "accuracy"], default=[])
    parser.add_argument("--threads", nargs="+", type=int, default=[os.cpu_count() or 1, 1])
    parser.add_argument(
        "--device",
        nargs="+",
        choices=["cpu", "cuda"],
        default=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"],
        help="training takes the last one; default: the processor, and a GPU if there is one",
    )
    parser.add_argument("--largest", type=int, default=12288, help="atoms of the largest structure")
    parser.add_argument("--limit-s", type=float, default=15.0, help="who takes longer for a call is left out")
    parser.add_argument("--turns", type=int, default=9, help="of each contender on each structure")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training of each network")
    parser.add_argument("--quick", action="store_true", help="a short look: up to 192 atoms, 5 turns, 1 minute")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.largest, arguments.turns, arguments.minutes = min(192, arguments.largest), 5, 1.0
    return arguments


def _lines(contenders: Sequence[Contender]) -> str:
    return "\n".join(contender.name for contender in contenders)


def _environments(
    chosen: Sequence[Contender], envs: Path, torch_words: Sequence[str]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Interpreters of the programs, and why others are not there."""
    pythons: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for program in dict.fromkeys(contender.program for contender in chosen):
        try:
            pythons[program] = python_of(program, envs, torch_words)
        except InstallError as error:
            missing[program] = str(error)
            say(f"{program} cannot be installed: {error}")
    return pythons, missing


def say(line: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


# ----- speed -----


def time_all(
    chosen: Sequence[Contender],
    pythons: dict[str, Path],
    out: Path,
    pace: speed.Pace,
    device: str,
    threads: int,
    largest: int,
) -> list[dict[str, Any]]:
    """All structures on one device with one number of threads; what was measured before is read."""
    folder = out / "speed" / f"{device}-{threads}"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers: dict[str, tuple[Contender, Worker]] = {}
        for contender in chosen:
            log = folder / "logs" / f"{contender.name}.log"
            worker = Worker(pythons[contender.program], contender.program, threads, log)
            workers[contender.name] = (contender, stack.enter_context(worker))
        versions: dict[str, Any] = {}
        structures = cases(largest)
        for number, case in enumerate(structures, start=1):
            asked = {"sources": sources(), "chosen": [c.name for c in chosen], "pace": list(pace)}
            file = folder / f"{case.name}.json"
            stored = json.loads(file.read_text()) if file.exists() else {}
            if stored.get("asked") == asked:
                found.append(stored)
                continue
            say(f"speed, {device}, {threads} threads: {case.name}, {len(case.atoms)} atoms ({number} of "
                f"{len(structures)})")  # fmt: skip
            networks, failed = _networks(workers, case, out / "networks", device, threads)
            ready = {name: pair for name, pair in workers.items() if name in networks}
            smaller = next((part for part in reversed(found) if _same_kind(part, case)), None)
            measured = speed.measure(
                case, ready, networks, pace, smaller,
                reference=chosen[0].name, device=device, threads=threads, folder=folder, say=say,
            )  # fmt: skip
            measured["left_out"] |= failed
            for name in measured["models"]:
                program = workers[name][0].program
                if program not in versions:
                    versions[program] = workers[name][1].ask("versions")
            measured |= {"asked": asked, "edges_per_atom": case.edges_per_atom(CUTOFF_ANGSTROM), "versions": versions}
            write_text(file, json.dumps(measured, indent=1))
            found.append(measured)
    return found


def _same_kind(part: dict[str, Any], case: Case) -> bool:
    """Whether the cost on one structure tells that on the other: molecules are too small to tell anything."""
    return bool(case.atoms.pbc.all()) and part["structure"].split("-")[0] == case.name.split("-")[0]


def _networks(
    workers: dict[str, tuple[Contender, Worker]], case: Case, folder: Path, device: str, threads: int
) -> tuple[dict[str, Path], dict[str, str]]:
    """Files of networks with random weights for the elements of the structure, made once, and who has none."""
    elements = "".join(case.species)
    data = folder / f"data-{elements}"
    if not (data / "valid.extxyz").exists():
        data.mkdir(parents=True, exist_ok=True)
        write_anything(data, case.species)
    networks: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for name, (contender, worker) in workers.items():
        try:
            networks[name] = _network(
                contender, worker, data.absolute(), case.species, folder.absolute(), device, threads
            )
        except WorkerError as error:
            failed[name] = str(error)
            say(f"{contender.title}: {error}")
    return networks, failed


def _network(
    contender: Contender, worker: Worker, data: Path, species: Sequence[str], folder: Path, device: str, threads: int
) -> Path:
    # compiled networks hold the number of threads that they were compiled for
    ahead = contender.program == "nequip" and contender.compiled
    made_for = f"{contender.weights}-{''.join(species)}"
    job = {"network": contender.network, "data": str(data), "species": list(species), "cutoff": CUTOFF_ANGSTROM}
    job |= {"minutes": None, "device": device, "threads": threads}
    trained = _once(
        folder / made_for, "train", f"{contender.label}: a network of random weights", worker, job, asked(contender)
    )
    if not ahead:
        return trained
    place = folder / f"{made_for}-{device}-{threads}"
    say_what = f"{contender.label}: compiling for {threads} threads"
    return _once(place, "compiled", say_what, worker, job | {"trained": str(trained)}, asked(contender))


def asked(contender: Contender) -> dict[str, Any]:
    """What a network with random weights belongs to."""
    return accuracy.asked_of(contender, 0.0, device="", threads=0) | {"sources": sources() if contender.ours else ""}


def _once(place: Path, do: str, what: str, worker: Worker, job: dict[str, Any], wanted: dict[str, Any]) -> Path:
    """The file of a network, made unless it is there."""
    note = place / "network.json"
    stored = json.loads(note.read_text()) if note.exists() else {}
    if stored.get("asked") != json.loads(json.dumps(wanted)):
        say(what)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        made = worker.ask(do, timeout_s=1800, out=str(place), **job)
        stored = {"asked": wanted, "network": made["network"]}
        write_text(note, json.dumps(stored))
    return Path(stored["network"])


def sources() -> str:
    """A hash of the package's sources."""
    digest = hashlib.sha256()
    root = Path(ase_mlcalc.__file__).parent
    for path in sorted(p for p in root.rglob("*") if p.suffix in {".py", ".cpp", ".h", ".hpp"}):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


# ----- accuracy -----


def train_all(
    chosen: Sequence[Contender], pythons: dict[str, Path], out: Path, minutes: float, device: str, threads: int
) -> dict[str, Any]:
    """Each network after so many minutes, one at a time; what was trained before is read."""
    if data_folder() is None:
        say("no accuracy: set ASE_MLCALC_DATA, docs/data.md says which public files go there")
        return {}
    data = out / "data"
    counts = write_data_sets(data)
    say(f"structures of {TRAINED_ON}: " + ", ".join(f"{n} {part}" for part, n in counts.items()))
    species = sorted(set(_symbols(data / "train.extxyz")))
    networks = list({contender.weights: contender for contender in reversed(chosen)}.values())[::-1]
    found: dict[str, Any] = {}
    for number, contender in enumerate(networks, start=1):
        wanted = accuracy.asked_of(contender, minutes, device=device, threads=threads)
        folder = out / "accuracy" / contender.weights
        result = accuracy.finished(folder, wanted)
        if result is None:
            left = (len(networks) - number + 1) * minutes
            say(f"training {contender.weights} ({number} of {len(networks)}), {minutes:g} minutes; "
                f"all done about {time.strftime('%H:%M', time.localtime(time.time() + 66 * left))}")  # fmt: skip
            try:
                result = accuracy.train(contender, pythons[contender.program], data, species, folder, wanted)
                say(f"{contender.weights}: force MAE {result[results.FORCE]:.1f} meV/Å")
            except WorkerError as error:
                result = {"error": str(error)}
                say(f"{contender.weights}: {error}")
        found[contender.weights] = result
    return found


def _symbols(path: Path) -> list[str]:
    return list(ase.io.read(path, index=0).symbols)


# ----- what comes out -----


def machine() -> dict[str, Any]:
    """Where this runs."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] \
        if info.exists() else []  # fmt: skip
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _write(out: Path, report: dict[str, Any]) -> None:
    write_text(out / REPORT, json.dumps(report, indent=1, ensure_ascii=False))


def show(report: dict[str, Any], chosen: Sequence[Contender], out: Path) -> None:
    """Print tables and draw the picture."""
    console = Console(width=max(150, Console().width))
    for quantity in speed.QUANTITIES if report["speed"] else ():
        for table in results.speed_table(report, chosen, quantity):
            console.print(table)
    if report["accuracy"]:
        console.print(results.accuracy_table(report, chosen))
    for note in results.notes(report, chosen):
        console.print(f"- {note}", markup=False, highlight=False)
    found = results.points(report, chosen, TRAINED_ON)
    if found:
        title = f"rMD17 {TRAINED_ON}: {report['minutes']:g} minutes of training, {max(1, os.cpu_count() or 1)} cores"
        results.draw_plane(out / PICTURE, found, title)
        console.print(f"wrote {out / PICTURE}", highlight=False)
    console.print(f"wrote {out / REPORT}", highlight=False)


if __name__ == "__main__":
    main()
