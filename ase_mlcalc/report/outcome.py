"""How a run ended: the sentence that comes first, the table of its stages, and what monitors found."""

from collections.abc import Sequence

from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.result import UNFINISHED
from ase_mlcalc.report.energy import conserved_name
from ase_mlcalc.report.page import Section, State, Table, Verdict, Words
from ase_mlcalc.report.stage import Event, Stage
from ase_mlcalc.report.temperature import canonical_check
from ase_mlcalc.report.words import UNKNOWN, counted, listed, number, plus_minus, sentence, slope_words

_MOST_EVENTS = 60


def verdicts(stages: Sequence[Stage]) -> list[Verdict]:
    """What a run amounts to: a sentence with numbers about its last stage, and what to do if it did not end well."""
    last = stages[-1]
    found = [Verdict(_state(last), verdict_sentence(last))]
    what, _, advice = last.outcome.value.partition("; ")
    if advice and last.outcome is not Outcome.COMPLETED and what:
        found.append(Verdict("advice", sentence(advice), "What to do" if last.failed else "How to go on"))
    noted = [(stage, event) for stage in stages for event in stage.events if not event.stops]
    if noted:
        monitors = listed(sorted({event.monitor for _, event in noted}))
        found.append(
            Verdict("note", f"Monitors noted {counted(len(noted), 'finding')} on the way ({monitors}); see below.")
        )
    doubts = dict.fromkeys(note for stage in stages for note in stage.notes)
    return found + [Verdict("note", sentence(note)) for note in doubts]


def verdict_sentence(stage: Stage) -> str:
    """A stage in one sentence: how it ended, after what time, at which temperature, and how its energy drifts."""
    what = stage.outcome.value.partition("; ")[0]
    if stage.outcome in UNFINISHED:
        return sentence(f"{what}: {_reached(stage)}{_at(stage)}{_in_brackets(stage.detail)}")
    if stage.failed:
        what = what.removeprefix("stopped: ")
        return sentence(f"failed after {_reached(stage)}{_at(stage)}: {what}{_in_brackets(stage.detail)}")
    if stage.n_frames is not None:
        return sentence(f"no failure found in {_reached(stage)}{_at(stage)}{_quality(stage)}")
    return sentence(f"stable for {number(stage.time_ps, 4)} ps{_at(stage)}{_quality(stage)}")


def _state(stage: Stage) -> State:
    if stage.outcome in UNFINISHED:
        return "open"
    return "bad" if stage.failed else "good"


def _reached(stage: Stage) -> str:
    if stage.n_frames is not None:
        time = "" if stage.time_ps is None else f", {number(stage.time_ps, 4)} ps"
        return f"{counted(stage.n_frames, 'frame')}{time}"
    if stage.time_ps is None:
        return "an unknown time"
    planned = f" of {number(stage.planned_ps, 4)}" if stage.planned_ps is not None else ""
    return f"{number(stage.time_ps, 4)}{planned} ps"


def _at(stage: Stage) -> str:
    """The temperature: that of the thermostat, or the mean at constant energy."""
    if stage.target_K is not None and len(stage.target_K):
        first, last = float(stage.target_K[0]), float(stage.target_K[-1])
        return f" at {number(first, 4)} K" if first == last else f", from {number(first, 4)} to {number(last, 4)} K"
    temperatures = stage.column("temperature_K")
    return "" if temperatures is None else f" at {float(temperatures.mean()):.0f} K"


def _in_brackets(detail: str) -> str:
    return f" ({detail.strip().rstrip('.')})" if detail.strip() else ""


def _quality(stage: Stage) -> str:
    """How well it ran, as far as that was measured."""
    words = ""
    if (check := canonical_check(stage)) is not None:
        words += f"; mean temperature {plus_minus(*check.mean_K, sign=False)} K"
    if stage.drift is not None:
        told = "" if stage.drift.significant else ", which is not told from zero"
        name = "drift" if stage.ensemble == "nve" else f"drift of the {conserved_name(stage)}"
        words += f"; {name} {slope_words(stage.drift)} meV/atom/ps{told}"
    elif stage.heating is not None and stage.conserved_eV is None:
        words += f"; the potential gives no energy; the temperature changes by {slope_words(stage.heating)} K/ps"
    elif stage.ensemble == "nve":
        words += "; too few rows to measure a drift"
    elif stage.ensemble is None:
        words += "; the ensemble is not known, so that no drift is measured"
    return words


def stages_section(stages: Sequence[Stage]) -> Section:
    """All stages in a table."""
    columns = ("stage", "ensemble", "outcome", "thermostat / K", "time / ps", "temperature / K",
               "drift / meV/atom/ps", "ms/step", "ns/day")  # fmt: skip
    table = Table(
        columns,
        [_row(stage) for stage in stages],
        "Temperatures are mean ± standard deviation over the stage; drifts of the conserved energy are slope ± "
        "standard error.",
        words=("ensemble", "outcome"),
    )
    return Section("Stages", [table])


def _row(stage: Stage) -> list[str]:
    temperatures = stage.column("temperature_K")
    targets = stage.target_K
    thermostat = UNKNOWN
    if targets is not None and len(targets):
        thermostat = f"{targets[0]:g}" + (f" to {targets[-1]:g}" if targets[-1] != targets[0] else "")
    planned = "" if stage.planned_ps is None else f" of {number(stage.planned_ps, 4)}"
    return [
        stage.name,
        stage.description,
        stage.outcome.name.lower().replace("_", " "),
        thermostat,
        UNKNOWN if stage.time_ps is None else f"{number(stage.time_ps, 4)}{planned}",
        UNKNOWN if temperatures is None else f"{temperatures.mean():.1f} ± {temperatures.std():.1f}",
        UNKNOWN if stage.drift is None else slope_words(stage.drift),
        number(stage.ms_per_step),
        number(stage.ns_per_day),
    ]


def events_section(stages: Sequence[Stage]) -> Section | None:
    """What monitors found, in order; ``None`` if nobody watched."""
    found = [(stage, event) for stage in stages for event in stage.events]
    if not any(stage.watched for stage in stages) and not found:
        return None
    if not found:
        return Section("Monitors", [Words("The monitors that watched the run found nothing.")])
    rows = [_event_row(stage, event) for stage, event in found[:_MOST_EVENTS]]
    left_out = "" if len(found) <= _MOST_EVENTS else f" The first {_MOST_EVENTS} of {len(found)} are shown."
    caption = "Times are within the stage. “Stopped” ended the run; the others were only noted." + left_out
    timed = any(event.time_ps is not None for _, event in found)
    columns = ("time / ps" if timed else "frame", "stage", "monitor", "outcome", "finding", "effect")
    table = Table(columns, rows, caption, words=("stage", "monitor", "outcome", "finding", "effect"))
    return Section("Monitors", [table])


def _event_row(stage: Stage, event: Event) -> list[str]:
    outcome = event.outcome.name.lower().replace("_", " ")
    effect = "stopped" if event.stops else "noted"
    when = number(event.time_ps, 5) if event.time_ps is not None or event.step is None else str(event.step)
    return [when, stage.name, event.monitor, outcome, event.detail, effect]
