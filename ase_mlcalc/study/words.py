"""What a study found, in sentences."""

import math
from collections.abc import Sequence

from ase_mlcalc.study.summary import GroupSummary, RunSummary

ELSEWHERE = 0.2
"""Of the nominal temperature; half of it is lost from the minimum of a harmonic potential."""


def verdict(groups: Sequence[GroupSummary], runs: Sequence[RunSummary]) -> str:
    """One sentence: a group by its numbers, several models by how many of their runs were stable."""
    left = sum(run.status in ("waiting", "unfinished") for run in runs)
    errors = sum(run.status == "error" for run in runs)
    more = (f"; {left} of {len(runs)} runs are still to be made" if left else "") + (
        f"; {errors} of {len(runs)} runs could not be made" if errors else ""
    )
    more += _temperature_note(groups)
    if len(groups) == 1:
        return describe_group(groups[0]) + more
    parts = []
    for model in dict.fromkeys(group.model for group in groups):
        own = [group for group in groups if group.model == model]
        ended = sum(group.n_stable + group.n_failed for group in own)
        parts.append(f"{model}: stable {sum(group.n_stable for group in own)}/{ended}")
    return "; ".join(parts) + more


def describe_group(group: GroupSummary) -> str:
    """A group in a sentence: "stable 16/16 for 15 ps at 2000 K; drift 0.004 ± 0.001 meV/atom/ps"."""
    ended = group.n_stable + group.n_failed
    condition = f"{group.planned_ps:g} ps {_at(group)}"
    parts = [f"stable {group.n_stable}/{ended} for {condition}" if ended else f"no run of {condition} has ended"]
    if group.median_time_to_failure_ps is not None:
        parts.append(f"half of them failed within {group.median_time_to_failure_ps:.3g} ps")
    if group.reasons:
        parts.append(", ".join(f"{count} {name}" for name, count in group.reasons.items()))
    if group.drift_meV_per_atom_per_ps is not None:
        parts.append(f"drift {plus_minus(group.drift_meV_per_atom_per_ps, group.drift_stderr or 0.0)} meV/atom/ps")
    elif group.heating_K_per_ps is not None:
        parts.append(f"heating {plus_minus(group.heating_K_per_ps, group.heating_stderr or 0.0)} K/ps")
    return "; ".join(parts)


def _at(group: GroupSummary) -> str:
    if _is_elsewhere(group):
        return f"at {group.temperature_mean_K:.0f} K on average, begun with {group.temperature_K:g} K"
    return f"at {group.temperature_K:g} K"


def _is_elsewhere(group: GroupSummary) -> bool:
    """Whether runs at constant energy were at quite another temperature than they were begun with."""
    mean, nominal = group.temperature_mean_K, group.temperature_K
    return group.ensemble == "nve" and mean is not None and abs(mean - nominal) > ELSEWHERE * nominal


def _temperature_note(groups: Sequence[GroupSummary]) -> str:
    means = [group.temperature_mean_K or 0.0 for group in groups if _is_elsewhere(group)]
    if not means:
        return ""
    between = f"{min(means):.0f}" + (f" to {max(means):.0f}" if len(means) > 1 else "")
    return (
        f"; at constant energy runs were at {between} K on average, not at the temperature they began with: a structure"
        ' at rest turns half of its kinetic energy into potential energy; study.equilibration = "langevin" warms it up'
    )


def plus_minus(value: float, error: float) -> str:
    """A value with its error to two significant digits of the error, "0.0041 ± 0.0012"."""
    if error <= 0.0 or not math.isfinite(error):
        return f"{value:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    if decimals > 6:
        return f"{value:.2e} ± {error:.1e}"
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
