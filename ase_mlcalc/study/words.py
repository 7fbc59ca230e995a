"""What a study found, in sentences."""

import math
from collections.abc import Sequence

from ase_mlcalc.study.summary import GroupSummary, RunSummary


def verdict(groups: Sequence[GroupSummary], runs: Sequence[RunSummary]) -> str:
    """One sentence: a group by its numbers, several models by how many of their runs were stable."""
    left = sum(run.status in ("waiting", "unfinished") for run in runs)
    errors = sum(run.status == "error" for run in runs)
    more = (f"; {left} of {len(runs)} runs are still to be made" if left else "") + (
        f"; {errors} of {len(runs)} runs could not be made" if errors else ""
    )
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
    condition = f"{group.planned_ps:g} ps at {group.temperature_K:g} K"
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


def plus_minus(value: float, error: float) -> str:
    """A value with its error to two significant digits of the error, "0.0041 ± 0.0012"."""
    if error <= 0.0 or not math.isfinite(error):
        return f"{value:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    if decimals > 6:
        return f"{value:.2e} ± {error:.1e}"
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
