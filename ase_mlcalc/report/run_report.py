"""`write_report`: one self-contained HTML page about a run, made from the files of its folder alone."""

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from jinja2 import Environment, StrictUndefined

from ase_mlcalc import plots
from ase_mlcalc.errors import DataError
from ase_mlcalc.files import write_text
from ase_mlcalc.md.drift import Slope
from ase_mlcalc.md.frames import read_trajectory
from ase_mlcalc.md.outcome import Outcome
from ase_mlcalc.md.result import RunResult, read_results
from ase_mlcalc.md.thermo import THERMO_FILE, Series, read_thermo
from ase_mlcalc.report.stresses import StressSample, gather_stresses
from ase_mlcalc.stress.invariants import pressure, von_mises

REPORT_FILE = "report.html"


class _Picture(NamedTuple):
    title: str
    caption: str
    path: Path

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode("ascii")


class _StageRows(NamedTuple):
    result: RunResult
    rows: Series
    offset_ps: float


def write_report(run_folder: Path | str) -> Path:
    """Write ``report.html`` (self-contained), ``report.json`` and the pictures of a run beside its files.

    Parameters
    ----------
    run_folder : path
        Written by `run_md` or `run_job`; a run that is at work or was killed can be reported on too.

    Returns
    -------
    Path
        The HTML page.

    Raises
    ------
    DataError
        The folder holds no run, or its files are damaged.
    """
    folder = Path(run_folder)
    results = read_results(folder)
    if not results:
        raise DataError(f"no result.json in {folder}, so it holds no run; give the folder that a run was written to")
    thermo = read_thermo(folder / THERMO_FILE)
    results = [_as_far_as_it_came(result, thermo) for result in results]
    stages = _on_one_axis(results, thermo)
    pictures = [_draw_thermo(folder / "thermo.png", stages)] if stages else []
    drifting = [stage for stage in stages if stage.result.drift or stage.result.heating]
    if drifting:
        pictures.append(_draw_drift(folder / "drift.png", drifting))
    stress_stage, sample = _last_stresses(results)
    if sample is not None and sample.adds_up:
        pictures.append(_draw_stresses(folder / "stresses.png", sample, stress_stage))
    summary = _stress_summary(sample, stress_stage)
    _write_numbers(folder / "report.json", results, summary)
    write_text(folder / REPORT_FILE, _render(folder, results, pictures, summary))
    return folder / REPORT_FILE


def _as_far_as_it_came(result: RunResult, thermo: dict[str, Series]) -> RunResult:
    """The result of a stage; one that wrote none, being at work or killed, is read off its rows."""
    if result.outcome is not Outcome.RUNNING or result.name not in thermo:
        return result
    rows = thermo[result.name]
    reached = {"steps_done": int(rows["step"][-1]), "time_ps": float(rows["time_ps"][-1])}
    if np.isfinite(rows["temperature_K"]).all():
        reached["temperature_mean_K"] = float(rows["temperature_K"].mean())
        reached["temperature_std_K"] = float(rows["temperature_K"].std())
    return result.model_copy(update=reached)


def _on_one_axis(results: Sequence[RunResult], thermo: dict[str, Series]) -> list[_StageRows]:
    """Stages that have rows, each with the time at which it starts."""
    stages, offset = [], 0.0
    for result in results:
        if result.name in thermo:
            rows = thermo[result.name]
            stages.append(_StageRows(result, rows, offset))
            offset += float(rows["time_ps"][-1])
    return stages


def _draw_thermo(path: Path, stages: Sequence[_StageRows]) -> _Picture:
    time = np.concatenate([stage.offset_ps + stage.rows["time_ps"] for stage in stages])

    def column(name: str, *, per_atom: bool = False) -> plots.Array:
        return np.concatenate([s.rows[name] / (s.result.n_atoms if per_atom else 1) for s in stages])

    spans = [plots.Stage(s.result.name, s.offset_ps, s.offset_ps + float(s.rows["time_ps"][-1])) for s in stages]
    targets = [
        (span.start_ps, span.end_ps, stage.result.config.temperature_K)
        for span, stage in zip(spans, stages, strict=True)
        if stage.result.config.ensemble == "nvt"
    ]
    traces = [plots.Trace("temperature / K", time, column("temperature_K"), targets)]
    for name, words in (("potential_eV", "potential energy"), ("total_eV", "total energy")):
        energies = column(name, per_atom=True)
        if np.isfinite(energies).any():
            reference = round(float(np.nanmean(energies)), 3)
            note = f"zero is {reference:.3f} eV/atom".replace("-", "−")
            traces.append(plots.Trace(f"{words}\nmeV/atom", time, 1000.0 * (energies - reference), note=note))
    if np.isfinite(column("pressure_GPa")).any():
        traces.append(plots.Trace("pressure / GPa", time, column("pressure_GPa")))
    plots.time_traces(path, [trace for trace in traces if np.isfinite(trace.values).any()], spans)
    caption = (
        "Stages follow one another on one time axis. Dashed: temperature of the thermostat. The pressure is "
        "−tr(stress)/3 plus the kinetic part, of the whole cell."
    )
    return _Picture("Temperature, energy and pressure", caption, path)


def _draw_drift(path: Path, stages: Sequence[_StageRows]) -> _Picture:
    panels = []
    for stage in stages:
        result, time = stage.result, stage.rows["time_ps"]
        if result.drift is not None:
            values, line, unit = 1000.0 * stage.rows["total_eV"] / result.n_atoms, result.drift, "meV/atom"
            label = "total energy / meV/atom"
        elif result.heating is not None:
            values, line, unit, label = stage.rows["temperature_K"], result.heating, "K", "temperature / K"
        else:
            continue
        text = f"{_plus_minus(line)} {unit}/ps\nrms about the line {line.rms:.2g} {unit}"
        label += "\nfrom the start of the line"
        panels.append(plots.DriftPanel(result.name, label, time, values, line.slope, line.intercept, text))
    plots.drift_plot(path, panels)
    caption = (
        "Least-squares line through the total energy per atom (the temperature where a potential gives no energy). "
        "The standard error allows for correlated residuals by block averaging (Flyvbjerg and Petersen 1989)."
    )
    return _Picture("Energy drift at constant energy", caption, path)


def _last_stresses(results: Sequence[RunResult]) -> tuple[RunResult, StressSample | None]:
    """Per-atom stresses of the last stage that holds any: earlier stages prepare, the last one counts."""
    for result in reversed(results):
        sample = gather_stresses(read_trajectory(result.trajectory))
        if sample is not None:
            return result, sample
    return results[-1], None


def _elements(sample: StressSample) -> list[str]:
    return sorted(set(sample.symbols.tolist()), key=lambda symbol: int(atomic_numbers[symbol]))


def _draw_stresses(path: Path, sample: StressSample, stage: RunResult) -> _Picture:
    of = {symbol: sample.stresses_GPa[sample.symbols == symbol] for symbol in _elements(sample)}
    panels = [
        plots.HistogramPanel("pressure of an atom / GPa", {key: pressure(value) for key, value in of.items()}),
        plots.HistogramPanel("von Mises stress of an atom / GPa", {k: von_mises(value) for k, value in of.items()}),
        plots.HistogramPanel("shear components yz, xz, xy / GPa", {k: value[:, 3:].ravel() for k, value in of.items()}),
    ]
    plots.histograms(path, panels)
    caption = (
        f"Stage {stage.name}, {sample.n_frames} frames, potential part only. {_definition(stage)} Each atom is given "
        "the mean volume V/N, so that the mean over atoms is the stress of the structure. How stress is split over "
        "atoms is a convention; only the sum over atoms is physical."
    )
    return _Picture("Per-atom stress", caption, path)


def _definition(stage: RunResult) -> str:
    if stage.stress_definition == "edge":
        return "Definition “edge”: half of the virial of each edge to each of its ends, symmetric part."
    if stage.stress_definition is not None:
        return f"Definition “{stage.stress_definition}”."
    return f"Split over atoms as {stage.calculator} does it."


def _stress_summary(sample: StressSample | None, stage: RunResult) -> dict[str, Any] | None:
    if sample is None:
        return None
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
        "stage": stage.name,
        "definition": stage.stress_definition,
        "n_frames": sample.n_frames,
        "sum_rule_error_GPa": sample.sum_error_GPa,
        "sums_to_stress": sample.adds_up,
        "elements": elements,
    }


def _write_numbers(path: Path, results: Sequence[RunResult], stresses: dict[str, Any] | None) -> None:
    numbers = {"format": 1, "stages": [result.numbers() for result in results], "stresses": stresses}
    write_text(path, json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _plus_minus(line: Slope) -> str:
    """A slope with its standard error, rounded to two digits of the error; a power of ten keeps small ones short."""
    if line.stderr <= 0:
        return f"{line.slope:+.3g} ± 0".replace("-", "−")
    power = int(np.floor(np.log10(line.stderr)))
    if power < -3:
        exponent = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"({line.slope / 10.0**power:+.1f} ± {line.stderr / 10.0**power:.1f})×10{exponent}"
    else:
        digits = max(0, 1 - power)
        text = f"{line.slope:+.{digits}f} ± {line.stderr:.{digits}f}"
    return text.replace("-", "−")


def _verdict(result: RunResult) -> str:
    """What a stage amounts to, in plain words."""
    done = f"{result.time_ps:.4g} ps, {result.steps_done} steps of {result.config.timestep_fs:g} fs"
    if result.outcome is not Outcome.COMPLETED:
        return f"{result.outcome.value[0].upper()}{result.outcome.value[1:]}. Reached {done}. {result.detail}".strip()
    words = f"Ran to its end ({done})."
    if result.drift is not None:
        size = f"{_plus_minus(result.drift)} meV/atom/ps"
        verdict = "a drift" if result.drift.significant else "no drift that could be told from zero"
        words += f" The total energy shows {verdict}: {size} (standard error)."
    elif result.heating is not None:
        words += f" The potential gives no energy; the temperature changes by {_plus_minus(result.heating)} K/ps."
    elif result.config.ensemble == "nve":
        words += " Too few rows to measure an energy drift."
    return words


def _table(results: Sequence[RunResult]) -> list[dict[str, str]]:
    def shown(value: float | None, pattern: str) -> str:
        return "–" if value is None else format(value, pattern)

    table = []
    for result in results:
        config, nvt = result.config, result.config.ensemble == "nvt"
        temperature = f"{shown(result.temperature_mean_K, '.1f')} ± {shown(result.temperature_std_K, '.1f')}"
        table.append(
            {
                "stage": result.name,
                "ensemble": f"NVT, Langevin {config.friction_per_ps:g}/ps" if nvt else "NVE, velocity Verlet",
                "thermostat / K": f"{config.temperature_K:g}" if nvt else "–",
                "time / ps": f"{result.time_ps:.4g} of {config.steps * config.timestep_fs / 1000:.4g}",
                "temperature / K": "–" if result.temperature_mean_K is None else temperature,
                "drift / meV/atom/ps": "–" if result.drift is None else _plus_minus(result.drift),
                "ms/step": shown(result.ms_per_step, ".3g"),
                "ns/day": shown(result.ns_per_day, ".3g"),
            }
        )
    return table


def _render(
    folder: Path, results: Sequence[RunResult], pictures: Sequence[_Picture], stresses: dict[str, Any] | None
) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("ase_mlcalc.report").joinpath("run_report.jinja").read_text(encoding="utf-8")
    last = results[-1]
    return environment.from_string(source).render(
        title=folder.resolve().name,
        structure=f"{last.formula}, {last.n_atoms} atoms",
        calculator=last.calculator + (f", {last.dtype}" if last.dtype else ""),
        verdicts=[
            {
                "name": result.name,
                "text": _verdict(result),
                "state": {Outcome.COMPLETED: "good", Outcome.RUNNING: "open"}.get(result.outcome, "bad"),
            }
            for result in results
        ],
        table=_table(results),
        pictures=pictures,
        stresses=stresses,
    )
