"""Calls and steps of molecular dynamics of all contenders, in turn."""

from collections.abc import Callable, Mapping
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
COMPILING_S = 600.0
QUANTITIES = ("call", "step")


class Pace(NamedTuple):
    """How much is measured."""

    turns: int
    limit_s: float
    """Longest call that is waited for."""


def turn_counts(call_s: float, *, ours: bool) -> dict[str, int]:
    """How many calls and steps make a turn."""
    count = int(np.clip(TURN_S / call_s, 1, MOST_IN_A_TURN))
    return {"call": count, "step": max(count, LEAST_STEPS) if ours else count}


def too_slow(call_s: float, limit_s: float) -> str:
    """What is said of a contender that is left out."""
    return f"about {call_s:.0f} s for a call, more than {limit_s:g} s"


def expected_call_s(before: Mapping[str, Any] | None, n_atoms: int) -> float:
    """From the next smaller structure of the same kind; cost grows at least with the number of atoms."""
    return 0.0 if before is None else before["call_s"] * n_atoms / before["atoms"]


def in_turn(
    workers: Mapping[str, Worker], counts: Mapping[str, dict[str, int]], turns: int, failed: dict[str, str]
) -> dict[str, dict[str, list[float]]]:
    """Seconds per call, per step and, within a step, outside the model: one number for each turn.

    Contenders take turns in an order that rotates.  One that fails is taken out and entered in `failed`; its times up
    to then are not returned.
    """
    taken: dict[str, dict[str, list[float]]] = {name: {"call": [], "step": [], "outside": []} for name in workers}
    order = list(workers)
    for turn in range(turns):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            if name in failed:
                continue
            try:
                calls = workers[name].ask("calls", count=counts[name]["call"])["seconds"]
                n = counts[name]["step"]
                steps = workers[name].ask("steps", count=n)
            except WorkerError as error:
                failed[name] = str(error)
                continue
            taken[name]["call"].append(float(np.median(calls)))
            taken[name]["step"].append(steps["seconds"] / n)
            taken[name]["outside"].append((steps["seconds"] - steps["model_seconds"]) / n)
    return {name: times for name, times in taken.items() if name not in failed}


def figures(taken: Mapping[str, dict[str, list[float]]], reference: str) -> dict[str, dict[str, Any]]:
    """Milliseconds and ratios to the reference; ratios are taken within a turn, so that a drifting speed cancels."""
    found: dict[str, dict[str, Any]] = {}
    for name, times in taken.items():
        found[name] = {"turns": len(times["call"])}
        for quantity in QUANTITIES:
            ms = 1e3 * np.array(times[quantity])
            entry = {"ms": float(np.median(ms)), "fastest_ms": float(ms.min())}
            if reference in taken:
                ratios = ms / (1e3 * np.array(taken[reference][quantity]))
                entry |= {"ratio": float(np.median(ratios)), "ratio_stderr": _stderr(ratios)}
            found[name][quantity] = entry
        shares = np.array(times["outside"]) / np.array(times["step"])
        found[name]["outside_model"] = float(np.median(shares))
    return found


def _stderr(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def measure(
    case: Case,
    workers: Mapping[str, tuple[Contender, Worker]],
    networks: Mapping[str, Path],
    pace: Pace,
    smaller: Mapping[str, Any] | None,
    *,
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
        Contenders that can be had, with their processes; the first is what ratios are taken to.
    networks : mapping
        File of the network of each contender, for the elements of the case.
    pace : Pace
    smaller : mapping, optional
        The result for the next smaller structure of the same kind, which tells who would take too long.
    """
    file = folder / f"{case.name}.extxyz"
    ase.io.write(file, case.atoms)
    n_atoms = len(case.atoms)
    left_out: dict[str, str] = {}
    counts: dict[str, dict[str, int]] = {}
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
            say(f"{contender.label}: {error}")
            continue
        call_s[name] = first["next_s"]
        if first["next_s"] > pace.limit_s:
            left_out[name] = too_slow(first["next_s"], pace.limit_s)
            continue
        counts[name] = turn_counts(first["next_s"], ours=contender.ours)
    chosen = {name: worker for name, (_, worker) in workers.items() if name in counts}
    taken = in_turn(chosen, counts, pace.turns, left_out)
    return {
        "structure": case.name,
        "atoms": n_atoms,
        "device": device,
        "threads": threads,
        "models": figures(taken, next(iter(workers))),
        "left_out": left_out,
        "first": {name: {"atoms": n_atoms, "call_s": call_s[name], "MB": memory[name]} for name in call_s},
    }


def available_MB() -> float:
    """Memory that a process may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    free = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return 0.8 * free[0] / 1024 if free else float("inf")
