"""Section: per-atom stress of a run's frames, per element, and whether the atoms add up to the structure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ase_mlcalc.plots import COLORS, draw_histogram, new_axes, new_figure
from ase_mlcalc.report.page import PANEL, Gallery, Picture, Remark, Section, Table, Verdict, picture
from ase_mlcalc.report.stage import Stage
from ase_mlcalc.report.words import counted, number, plus_minus
from ase_mlcalc.stress.invariants import pressure, von_mises

Array = NDArray[np.float64]


class StressSample(NamedTuple):
    """Per-atom stresses of M atoms gathered from frames."""

    symbols: NDArray[np.str_]
    """(M,) element of each atom."""
    stresses_GPa: Array
    """(M, 6) xx yy zz yz xz xy, referred to the mean volume per atom, so that their mean is the stress."""
    n_frames: int
    sum_error_GPa: float
    """Largest deviation of the sum over atoms from the stress of its frame."""
    sum_scale_GPa: float
    """Largest stress component, to judge the deviation by."""

    @property
    def adds_up(self) -> bool:
        """The atoms of every frame sum to its stress within a thousandth of the scale."""
        return self.sum_error_GPa <= 1e-3 * max(self.sum_scale_GPa, 1e-3)


def gather_stresses(frames: Iterable[Atoms]) -> StressSample | None:
    """Per-atom stresses of all frames that hold them; ``None`` if none does.

    Stored stresses are divided by the volume V of the cell (they sum to the stress); times the number of atoms
    they are referred to V/N, the usual reading of "stress of an atom".
    """
    symbols, stresses, errors, scales = [], [], [0.0], [0.0]
    for frame in frames:
        results = {} if frame.calc is None else frame.calc.results
        if "stresses" not in results:
            continue
        stresses_n6 = np.asarray(results["stresses"], dtype=float)
        symbols.append(np.array(frame.get_chemical_symbols()))
        stresses.append(stresses_n6 * len(frame) / units.GPa)
        if "stress" in results:
            total = np.asarray(results["stress"], dtype=float)
            errors.append(float(np.abs(stresses_n6.sum(axis=0) - total).max()) / units.GPa)
            scales.append(float(np.abs(total).max()) / units.GPa)
    if not stresses:
        return None
    return StressSample(np.concatenate(symbols), np.concatenate(stresses), len(stresses), max(errors), max(scales))


class StageStresses(NamedTuple):
    """Per-atom stresses and the stage that they are of."""

    stage: Stage
    sample: StressSample


def last_stresses(stages: Sequence[Stage]) -> StageStresses | None:
    """Per-atom stresses of the last stage that holds any: earlier stages prepare, the last one counts."""
    for stage in reversed(stages):
        sample = gather_stresses(stage.frames())
        if sample is not None:
            return StageStresses(stage, sample)
    return None


def stresses_section(found: StageStresses | None) -> Section | None:
    """Distributions and a table per element; a warning in their place if the atoms do not add up."""
    if found is None:
        return None
    sample = found.sample
    if not sample.adds_up:
        text = (
            "The per-atom stresses of this calculator do not sum to its stress (they differ by "
            f"{number(sample.sum_error_GPa, 2)} GPa), so their normalisation is unknown and they are not shown."
        )
        return Section("Per-atom stress", [Remark(Verdict("bad", text))])
    rows = [
        [element, str(numbers["n"]), *(_mean(numbers, name) for name in ("pressure", "von_mises"))]
        for element, numbers in stress_numbers(found)["elements"].items()
    ]
    caption = (
        "Mean ± standard deviation over atoms and frames. The atoms sum to the stress of the structure within "
        f"{number(sample.sum_error_GPa, 2)} GPa."
    )
    table = Table(("element", "samples", "pressure / GPa", "von Mises stress / GPa"), rows, caption)
    return Section("Per-atom stress", [Gallery(_pictures(found)), table])


def stress_numbers(found: StageStresses) -> dict[str, Any]:
    """Means and deviations per element, for ``report.json``."""
    sample = found.sample
    elements = {}
    for symbol in _elements(sample) if sample.adds_up else []:
        mine = sample.stresses_GPa[sample.symbols == symbol]
        p, q = pressure(mine), von_mises(mine)
        elements[symbol] = {
            "n": len(mine),
            "pressure_mean_GPa": float(p.mean()),
            "pressure_std_GPa": float(p.std()),
            "von_mises_mean_GPa": float(q.mean()),
            "von_mises_std_GPa": float(q.std()),
        }
    return {
        "stage": found.stage.name,
        "definition": found.stage.stress_definition,
        "n_frames": sample.n_frames,
        "sum_rule_error_GPa": sample.sum_error_GPa,
        "sums_to_stress": sample.adds_up,
        "elements": elements,
    }


def _elements(sample: StressSample) -> list[str]:
    return sorted(set(sample.symbols.tolist()), key=lambda symbol: int(atomic_numbers[symbol]))


def _mean(numbers: dict[str, Any], name: str) -> str:
    return f"{plus_minus(numbers[f'{name}_mean_GPa'], numbers[f'{name}_std_GPa'], sign=False)}"


def _pictures(found: StageStresses) -> list[Picture]:
    sample = found.sample
    where = f"Stage {found.stage.name}, {counted(sample.n_frames, 'frame')}, potential part only. "
    share = (
        "Each atom is given the mean volume V/N, so that the mean over atoms is the stress of the structure. How "
        "stress is split over atoms is a convention; only the sum over atoms is physical."
    )
    return [
        _histogram(sample, "stress-pressure", "pressure of an atom", pressure, where + _definition(found.stage)),
        _histogram(sample, "stress-von-mises", "von Mises stress of an atom", von_mises, share),
        _histogram(
            sample, "stress-shear", "shear stress of an atom", lambda values: values[:, 3:].ravel(),
            "Components yz, xz and xy together.",
        ),
    ]  # fmt: skip


def _histogram(
    sample: StressSample, name: str, label: str, invariant: Callable[[Array], Array], caption: str
) -> Picture:
    values = {symbol: invariant(sample.stresses_GPa[sample.symbols == symbol]) for symbol in _elements(sample)}
    figure = new_figure(*PANEL)
    axes = new_axes(figure, 1, 1, 0)
    draw_histogram(axes, values, list(COLORS) * len(values))
    axes.set_ylim(0.0, 1.12 * axes.get_ylim()[1])
    axes.set(xlabel=f"{label} / GPa", ylabel="probability density / 1/GPa")
    axes.legend(loc="best", frameon=False, fontsize=8.5)
    means = ", ".join(f"{symbol} {number(float(each.mean()))} GPa" for symbol, each in values.items())
    return picture(figure, name, alt=f"Distribution of the {label} by element; means: {means}", caption=caption)


def _definition(stage: Stage) -> str:
    if stage.stress_definition == "edge":
        return "Definition “edge”: half of the virial of each edge to each of its ends, symmetric part."
    if stage.stress_definition is not None:
        return f"Definition “{stage.stress_definition}”."
    return f"Split over atoms as {stage.calculator or 'the program that wrote it'} does it."
