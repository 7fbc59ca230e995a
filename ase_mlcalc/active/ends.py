"""When learning ends, and how long the next runs are."""

from collections.abc import Sequence

from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.active.summary import End, RoundSummary
from ase_mlcalc.md.outcome import Outcome

GROWTH = 4.0
"""Of the length of runs, whenever all of them survive."""


def next_length_ps(job: LearnJob, rounds: Sequence[RoundSummary]) -> float:
    """How long the runs of the next round are."""
    if not rounds:
        return job.first_ps
    before = rounds[-1].planned_ps
    return min(job.full_ps, before * GROWTH if rounds[-1].survived else before)


def end_of(job: LearnJob, rounds: Sequence[RoundSummary]) -> End | None:
    """Why learning ends after these rounds; ``None`` if it goes on."""
    last = rounds[-1]
    full = last.planned_ps >= job.full_ps * (1.0 - 1e-9)
    if last.survived and full and last.uncertain_percent <= job.learn.uncertain_percent:
        return "stable"
    longer = last.survived and not full  # needs no label
    if not last.n_chosen and not longer:
        return "nothing new"
    if labels_left(job, rounds) < 1 and not longer:
        return "labels"
    return "rounds" if len(rounds) >= job.learn.rounds else None


def labels_left(job: LearnJob, rounds: Sequence[RoundSummary]) -> int:
    """Reference calculations that may still be made."""
    return max(0, job.learn.max_labels - sum(each.n_asked for each in rounds))


def verdict(job: LearnJob, rounds: Sequence[RoundSummary], end: End | None) -> str:
    """What the rounds came to, in a sentence."""
    last = rounds[-1]
    n_labels = sum(each.n_asked for each in rounds)
    runs = f"{last.n_stable} of {last.n_runs} runs of {last.planned_ps:.4g} ps survived"
    so_far = f"{n_labels} reference calculations in {len(rounds)} round{'s' if len(rounds) > 1 else ''}"
    why = {
        "stable": "stable",
        "nothing new": "ended without a frame that is worth a label",
        "rounds": f"ended after learn.rounds = {job.learn.rounds}, which may be raised",
        "labels": f"ended after learn.max_labels = {job.learn.max_labels}, which may be raised",
        None: "not finished",
    }[end]
    if not last.n_frames:
        reasons = ", ".join(f"{count} {name}" for name, count in last.outcomes.items())
        return f"{why}: all {last.n_runs} runs stopped where they began ({reasons}){_advice(last)}; {so_far}"
    unsure = f", with {last.uncertain_percent:.3g} % of their frames above the threshold"
    return f"{why}: {runs}{unsure}; {so_far}"


def _advice(last: RoundSummary) -> str:
    if Outcome.UNCERTAIN.name not in last.outcomes:
        return ""
    return (
        ": the members are unsure about the starting structures themselves; train them longer (train.max_epochs) or on "
        "more labelled structures"
    )
