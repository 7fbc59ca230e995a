"""How learning went from round to round, in four panels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ase_mlcalc.active.summary import Learned, RoundSummary
from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, save, whole_ticks

Rounds = Sequence[RoundSummary]
MOST_FRACTIONS = 14
"""Rounds whose bars have room for "15/16" above them; with more there is only the first number."""


def draw_learning(path: Path, learned: Learned) -> None:
    """Draw spread, force error, number of labels and survival over the rounds."""
    figure = new_figure(10.5, 7.2)
    for position, draw in enumerate((draw_spread, draw_errors, draw_labels, draw_survival)):
        draw(new_axes(figure, 2, 2, position), learned.rounds)
    save(figure, path)


def draw_spread(axes: Axes, rounds: Rounds) -> None:
    """Largest expected force error of an atom in the frames of each round, against the trust levels.

    The actual error on validation structures stands beside it: trust levels below it stop runs where they begin.
    """
    known = [each for each in rounds if each.uncertainty_eV_per_A is not None]
    number = np.array([each.number for each in known])
    if known:
        values = np.array([each.uncertainty_eV_per_A for each in known])
        for low, high, label, strength in ((0, 4, "90 % of frames", 0.2), (1, 3, "half of the frames", 0.4)):
            axes.bar(
                number, values[:, high] - values[:, low], bottom=values[:, low], width=0.5 if low == 0 else 0.3,
                color=COLORS[0], alpha=strength, linewidth=0, label=label,
            )  # fmt: skip
        axes.plot(number, values[:, 2], "o", color=COLORS[0], markersize=5, label="median")
    else:
        words = "no frames between start and stop"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=GREY)
    every = np.array([each.number for each in rounds])
    for key, name, color in (
        ("threshold_eV_per_A", "worth a label above", COLORS[2]),
        ("stop_eV_per_A", "run ends above", COLORS[1]),
    ):
        axes.plot(every, [getattr(each, key) for each in rounds], ".--", color=color, linewidth=1.2, label=name)
    actual = [(each.number, each.error_rms_eV_per_A) for each in rounds if each.error_rms_eV_per_A is not None]
    if actual:
        axes.plot(*zip(*actual, strict=True), "D", color=COLORS[4], markersize=4, label="actual, rms of validation")
    logarithmic(axes)
    axes.use_sticky_edges = False  # the lowest bar would end at the frame
    axes.margins(y=0.12)
    _finish(axes, rounds, "largest expected force error / eV/Å")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8, ncols=3)


def draw_errors(axes: Axes, rounds: Rounds) -> None:
    """Mean absolute force error on test and validation structures."""
    parts: tuple[tuple[str, Callable[[RoundSummary], object], str], ...] = (
        ("test structures", lambda each: each.test, COLORS[0]),
        ("validation structures", lambda each: each.validation, COLORS[4]),
    )
    for name, of_round, color in parts:
        points = [
            (each.number, error)
            for each in rounds
            if (error := getattr(of_round(each), "force_mae_meV_per_A", None)) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=color, linewidth=1.5, markersize=5, label=name)
    logarithmic(axes)
    _finish(axes, rounds, "force MAE / meV/Å")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8, ncols=2)


def draw_labels(axes: Axes, rounds: Rounds) -> None:
    """Reference calculations up to each round, and those of them that failed."""
    number = [each.number for each in rounds]
    asked = np.cumsum([each.n_asked for each in rounds])
    failed = np.cumsum([each.n_failed for each in rounds])
    axes.bar(number, asked - failed, width=0.6, color=COLORS[0], label="labelled")
    if failed[-1]:
        axes.bar(number, failed, bottom=asked - failed, width=0.6, color=COLORS[1], label="failed")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8, ncols=2)
    for x, height in zip(number, asked.tolist(), strict=True):
        axes.annotate(f"{height}", (x, height), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.margins(y=0.12)
    whole_ticks(axes.yaxis)
    _finish(axes, rounds, "reference calculations in all")


def draw_survival(axes: Axes, rounds: Rounds) -> None:
    """Which part of the runs survived, and how long they were."""
    number = [each.number for each in rounds]
    share = [100.0 * each.n_stable / each.n_runs for each in rounds]
    axes.bar(number, share, width=0.6, color=COLORS[2], label="of the runs")
    time = [100.0 * each.mean_survival_ps / each.planned_ps for each in rounds]
    axes.plot(number, time, "D", color=COLORS[6], markersize=4, label="of the planned time, on average", clip_on=False)
    few = len(rounds) <= MOST_FRACTIONS
    before = None
    for each, height in zip(rounds, map(max, share, time), strict=True):
        words = f"{each.n_stable}/{each.n_runs}" if few else f"{each.n_stable}"
        axes.annotate(
            words, (each.number, height), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7.5
        )  # fmt: skip
        if each.planned_ps != before:  # said once, where it changes: words at every bar would run into each other
            axes.axvline(each.number - 0.5, color=GREY, linewidth=0.6, linestyle=":")
            axes.text(each.number - 0.4, 122.0, f"{each.planned_ps:.3g} ps", fontsize=7.5, color=GREY)
            before = each.planned_ps
    axes.set_ylim(0.0, 130.0)
    axes.set_yticks([0, 25, 50, 75, 100])
    _finish(axes, rounds, "survived / %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8, ncols=2)


def _finish(axes: Axes, rounds: Rounds, label: str) -> None:
    axes.set_xlim(rounds[0].number - 0.6, rounds[-1].number + 0.6)
    whole_ticks(axes.xaxis)
    axes.set_xlabel("round")
    axes.set_ylabel(label)
