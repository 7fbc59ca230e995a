"""Calls and steps of molecular dynamics of all contenders, in turn."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np

from peers.contenders import Contender
from peers.remote import Worker, WorkerError
from peers.structures import Case

TURN_S = 0.3
"""Time of one turn of one contender, if a call is shorter."""
MOST_IN_A_TURN = 150
LEAST_STEPS = 25
"""Steps in a turn of ours, so that the mean holds what rebuilding a neighbour list costs; peers rebuild every step."""
COMPILING_S = 1800.0
"""How long the first call may take beside its own time."""
LEAST_TURNS, ENOUGH_S = 3, 300.0
"""Large structures have fewer turns: about so many seconds for all contenders together."""
QUANTITIES = ("call", "step")
"""What tables are made of; calls that also ask for stress are measured beside them."""


class Pace(NamedTuple):
    """How much is measured."""

    turns: int
    limit_s: float
    """Longest call that is waited for."""


def turn_counts(call_s: float, *, ours: bool) -> tuple[int, int]:
    """How many calls and steps make a turn."""
    calls = int(np.clip(round(TURN_S / call_s), 1, MOST_IN_A_TURN))
    return calls, max(calls, LEAST_STEPS) if ours else calls


def too_slow(call_s: float, limit_s: float) -> str:
    """What is said of a contender that is left out."""
    return f"about {call_s:.0f} s for a call, more than {limit_s:g} s"


def expected_call_s(before: Mapping[str, Any] | None, n_atoms: int) -> float:
    """From the next smaller structure of the same kind; cost grows at least with the number of atoms."""
    return 0.0 if before is None else before["call_s"] * n_atoms / before["atoms"]


class Entrant(NamedTuple):
    """Who is measured, and how much in a turn."""

    worker: Worker
    calls: int
    steps: int
    everything: tuple[str, ...]
    """Properties that are asked for beside forces alone; empty: none."""


def turns_that_fit(entrants: Mapping[str, Entrant], call_s: Mapping[str, float], turns: int) -> int:
    """How many turns are taken."""
    asked = {name: e.calls * (2 if e.everything else 1) + e.steps for name, e in entrants.items()}
    seconds = sum(count * call_s[name] for name, count in asked.items())
    return turns if seconds * turns <= ENOUGH_S else max(LEAST_TURNS, int(ENOUGH_S / seconds))


def in_turn(entrants: Mapping[str, Entrant], turns: int, failed: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    """Seconds per call, per step and so on: one number for each turn.

    Contenders take turns in an order that rotates.  One that fails is taken out and entered in `failed`; its times up
    to then are not returned.
    """
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in entrants}
    order = list(entrants)
    for turn in range(turns):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            if name in failed:
                continue
            try:
                for quantity, seconds in _one_turn(entrants[name]).items():
                    taken[name].setdefault(quantity, []).append(seconds)
            except WorkerError as error:
                failed[name] = str(error)
    return {name: times for name, times in taken.items() if name not in failed}


def _one_turn(entrant: Entrant) -> dict[str, float]:
    worker, n = entrant.worker, entrant.steps
    times = {"call": float(np.median(worker.ask("calls", count=entrant.calls)["seconds"]))}
    if entrant.everything:
        asked = {"count": entrant.calls, "properties": entrant.everything}
        times["everything"] = float(np.median(worker.ask("calls", **asked)["seconds"]))
    steps = worker.ask("steps", count=n)
    return times | {"step": steps["seconds"] / n, "outside": (steps["seconds"] - steps["model_seconds"]) / n}


def figures(taken: Mapping[str, Mapping[str, Sequence[float]]], reference: str) -> dict[str, dict[str, Any]]:
    """Milliseconds and ratios to the reference; ratios are taken within a turn, so that a drifting speed cancels."""
    found: dict[str, dict[str, Any]] = {}
    for name, times in taken.items():
        found[name] = {"turns": len(times["call"])}
        for quantity in QUANTITIES:
            ms = 1e3 * np.array(times[quantity])
            found[name][quantity] = {"ms": float(np.median(ms)), "fastest_ms": float(ms.min())}
            if reference in taken:
                found[name][quantity] |= _ratio("ratio", times[quantity], taken[reference][quantity])
        found[name] |= _ratio("outside_model", times["outside"], times["step"])
        if "everything" in times:
            found[name] |= _ratio("everything_over_forces", times["everything"], times["call"])
    return found


def _ratio(name: str, values: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    ratios = np.array(values) / np.array(others)
    return {name: float(np.median(ratios)), f"{name}_stderr": _stderr(ratios)}


def _stderr(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def measure(
    case: Case,
    workers: Mapping[str, tuple[Contender, Worker]],
    networks: Mapping[str, Path],
    pace: Pace,
    smaller: Mapping[str, Any] | None,
    *,
    reference: str,
    device: str,
    threads: int,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All contenders on one structure.

    Parameters
    ----------
    case : Case
    workers : mapping
        Contenders that can be had, with their processes.
    networks : mapping
        File of the network of each contender, for the elements of the case.
    pace : Pace
    smaller : mapping, optional
        The result for the next smaller structure of the same kind, which tells who would take too long.
    reference : str
        What ratios are taken to.
    """
    file = folder / f"{case.name}.extxyz"
    ase.io.write(file, case.atoms)
    n_atoms = len(case.atoms)
    left_out: dict[str, str] = {}
    entrants: dict[str, Entrant] = {}
    memory: dict[str, float] = {}
    call_s: dict[str, float] = {}
    for name, (contender, worker) in workers.items():
        if smaller is not None and name in smaller["left_out"]:
            left_out[name] = smaller["left_out"][name]
            continue
        before = None if smaller is None else smaller["first"].get(name)
        expected_s = expected_call_s(before, n_atoms)
        expected_MB = 0.0 if before is None else before["MB"] * n_atoms / before["atoms"]
        if expected_s > pace.limit_s:
            left_out[name] = too_slow(expected_s, pace.limit_s)
        elif expected_MB > available_MB():
            left_out[name] = f"needs about {expected_MB / 1000:.0f} GB of memory"
        if name in left_out:
            continue
        try:
            run = {"network": str(networks[name]), "run": contender.run, "device": device, "threads": threads}
            worker.ask("open", **run)
            first = worker.ask("structure", timeout_s=COMPILING_S + 10 * pace.limit_s, file=str(file.absolute()))
            memory[name] = worker.ask("peak")["MB"]
        except WorkerError as error:
            left_out[name] = str(error)
            say(f"{contender.title}: {error}")
            continue
        call_s[name] = first["next_s"]
        if first["next_s"] > pace.limit_s:
            left_out[name] = too_slow(first["next_s"], pace.limit_s)
            continue
        everything = contender.everything if case.atoms.pbc.all() and len(contender.everything) > 1 else ()
        entrants[name] = Entrant(worker, *turn_counts(first["next_s"], ours=contender.ours), everything)
    taken = in_turn(entrants, turns_that_fit(entrants, call_s, pace.turns), left_out)
    return {
        "structure": case.name,
        "atoms": n_atoms,
        "device": device,
        "threads": threads,
        "models": figures(taken, reference),
        "left_out": left_out,
        "first": {name: {"atoms": n_atoms, "call_s": call_s[name], "MB": memory[name]} for name in call_s},
    }


def available_MB() -> float:
    """Memory that a process may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    free = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 0.8 * free[0] / 1024 if free else float("inf")
