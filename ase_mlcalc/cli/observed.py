"""What ``ase-mlcalc observables`` measures, and how it shows it."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ase_mlcalc.analysis import ComparisonRow, Observables, TrajectoryFile, compare_observables, measure_observables
from ase_mlcalc.analysis.observables import KINDS
from ase_mlcalc.analysis.observables_plots import why_not_diffusive
from ase_mlcalc.config import apply_overrides
from ase_mlcalc.errors import ConfigError


def measure(
    trajectory: Path,
    reference: Path | None,
    *,
    index: str,
    reference_index: str,
    interval_fs: float | None,
    reference_interval_fs: float | None,
    discard_ps: float,
    cutoffs: Sequence[str],
    fit_ps: tuple[float, float] | None,
    viscosity_mPa_s: float | None,
    n_blocks: int,
) -> tuple[Observables, Observables | None, list[ComparisonRow]]:
    """Measure a trajectory, and its reference first: its cutoffs hold for both."""
    given = apply_overrides({}, cutoffs)
    wrong = [name for name, value in given.items() if not isinstance(value, int | float) or isinstance(value, bool)]
    if wrong:
        raise ConfigError(f"a bond cutoff reads H-O=1.3 (Å), got {given[wrong[0]]!r} for {wrong[0]}")
    frames = TrajectoryFile(trajectory, index)
    expected = None
    if reference is not None:
        expected = measure_observables(
            TrajectoryFile(reference, reference_index), interval_fs=reference_interval_fs, bond_cutoffs_A=given,
            fit_ps=fit_ps, viscosity_mPa_s=viscosity_mPa_s, n_blocks=n_blocks, progress=True,
        )  # fmt: skip
    found = measure_observables(
        frames, interval_fs=interval_fs, discard_ps=discard_ps, bond_cutoffs_A=given, like=expected, fit_ps=fit_ps,
        viscosity_mPa_s=viscosity_mPa_s, n_blocks=n_blocks, progress=True,
    )  # fmt: skip
    return found, expected, [] if expected is None else compare_observables(found, expected)


def describe(found: Observables) -> list[str]:
    """What was looked at, in lines."""
    times = "" if found.length_ps is None else f", {found.length_ps:.4g} ps, one each {found.interval_fs:.4g} fs"
    lines = [f"{found.formula}, {found.n_frames} frames{times}"]
    if found.temperature_K is not None:
        lines.append(f"{found.temperature_K:.1f} K with {found.degrees_of_freedom} degrees of freedom")
    return lines + [f"note: {note}" for note in found.notes]


def scalars_table(found: Observables) -> Table:
    """Coordination numbers and diffusion coefficients with standard errors."""
    table = Table("quantity", "", "value", "", title_justify="left", box=SIMPLE_HEAD)
    for name, (mean, stderr) in found.coordination_means().items():
        bonds = f"within {found.cutoff_of(name):.2f} Å"
        table.add_row("coordination", name, _plus_minus(mean, stderr), bonds)
    for name, one in (found.diffusion or {}).items():
        window = f"fit {one.fit_from_ps:.3g} to {one.fit_to_ps:.3g} ps"
        window += "" if one.diffusive else f"; not diffusive (yet): {why_not_diffusive(one)}"
        value = _plus_minus(1e5 * one.D_cm2_per_s, 1e5 * one.stderr_cm2_per_s)
        table.add_row("diffusion", name, f"{value} 10⁻⁵ cm²/s", window)
    return table


def comparison_table(rows: Sequence[ComparisonRow]) -> Table:
    """Both distances of each curve, beside what chance makes of them."""
    table = Table(
        "observable", "", "", "distance", "by chance", "differs", title_justify="left", box=SIMPLE_HEAD,
        caption="by chance: exceeded once in twenty comparisons when nothing differs", caption_justify="left",
    )  # fmt: skip
    for row in rows:
        names = (KINDS[row.observable].title, row.label)
        for kind, one in (("W1", row.w1), ("L1", row.l1)):
            if one is not None:
                verdict = {True: "[bold red]yes[/bold red]", False: "no", None: "?"}[one.significant]
                value = f"{_plus_minus(one.value, one.stderr)} {one.unit}"
                table.add_row(*names, kind, value, "?" if one.noise is None else f"{one.noise:.2g}", verdict)
                names = ("", "")
    return table


def _plus_minus(value: float, stderr: float | None) -> str:
    """To two digits of the error; a power of ten keeps small ones short."""
    if stderr is None or not stderr > 0.0:
        return f"{value:.3g}"
    power = math.floor(math.log10(stderr))
    if power < -4:
        scale = 10.0**power
        return f"({value / scale:.1f} ± {stderr / scale:.1f})e{power}"
    digits = max(0, 1 - power)
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"
