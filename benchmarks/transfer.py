"""From GFN1-xTB to GFN2-xTB with few frames (``make bench-transfer``): transfer and Δ-learning against starting anew.

On the shipped water16 set, whose frames are labelled at both levels.  A model of GFN1-xTB is trained once.  Then, with
25, 50, 100 and 200 frames of GFN2-xTB (validation frames among them), three are trained: one that starts at random,
one that starts from the weights of the first (``train.start_from``, its defaults), and one that learns the difference
to it (``data.base``).  All take as many steps, 600 with 50 frames and in proportion to the square root of their number;
the one that starts at random is also trained four times as long.

Frames come from four chains of molecular dynamics.  Training frames are drawn from the first 1.5 ps of each, errors are
measured on the last 0.36 ps, 0.12 ps later; no frame of these was seen at either level.

About half an hour on one core.  A killed benchmark goes on where it stopped.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from rich.console import Console
from rich.table import Table

from ase_mlcalc.config import validate
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.data.sets import water16
from ase_mlcalc.files import write_text
from ase_mlcalc.plots import COLORS, GREY, logarithmic, new_axes, new_figure, save
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.train import train

ORDER_SEED = 16
"""Of the random order in which the shipped files hold their frames, see examples/water16/make_data.py."""
CHAINS = (0, 133, 266, 399)
"""First frame of each chain, in the order of time."""
LEARNED, GAP, TESTED = 100, 8, 24
"""Frames of a chain that are drawn from, left out, and measured on; 15 fs apart."""
METHODS = {
    "scratch": "from scratch",
    "scratch-long": "from scratch, 4 × as long",
    "delta": "Δ-learning",
    "transfer": "transfer",
}


class Frames(NamedTuple):
    """Files of frames at one level."""

    pool: Path
    """In random order, the same at both levels."""
    test: Path


def write_frames(level: str, folder: Path) -> Frames:
    """Sort the shipped frames by time, and keep apart what is measured on."""
    shuffled: list[Atoms] = list(ase.io.iread(water16(level), index=":"))
    frames = [shuffled[k] for k in np.argsort(np.random.default_rng(ORDER_SEED).permutation(len(shuffled)))]
    temperatures = [frames[k].info["temperature_K"] for k in (*CHAINS, *(k - 1 for k in CHAINS[1:]))]
    if temperatures != [300.0, 400.0, 500.0, 600.0, 300.0, 400.0, 500.0]:
        raise SystemExit("the shipped frames are in another order than they were made in; run make_data.py")
    pool = [frames[start + k] for start in CHAINS for k in range(LEARNED)]
    test = [frames[start + LEARNED + GAP + k] for start in CHAINS for k in range(TESTED)]
    pool = [pool[k] for k in np.random.default_rng(0).permutation(len(pool))]
    files = Frames(folder / f"{level}-pool.extxyz", folder / f"{level}-test.extxyz")
    for path, structures in zip(files, (pool, test), strict=True):
        if not path.exists():
            ase.io.write(path, structures, format="extxyz")
    return files


def errors(name: str, job: dict[str, Any], folder: Path) -> dict[str, float]:
    """Train, or take what was trained before; errors on the test frames."""
    print(f"{name}:", flush=True)
    result = train(validate(TrainJob, {"output": folder / name, **job}, name))
    assert result.test is not None
    return {
        "force_mae_meV_per_A": result.test.force_mae_meV_per_A,
        "energy_mae_meV_per_atom": result.test.energy_mae_meV_per_atom,
        "minutes": result.minutes,
    }


def job_of(method: str, n_frames: int, new: Frames, base: Path, steps: int, seed: int) -> dict[str, Any]:
    """A training with the first frames of the pool; so many steps with 50 of them."""
    train_on = new.pool.with_name(f"{new.pool.stem}-{n_frames}.extxyz")
    if not train_on.exists():
        ase.io.write(train_on, ase.io.read(new.pool, f":{n_frames}"), format="extxyz")
    data: dict[str, Any] = {"train": train_on, "test": new.test}
    training: dict[str, Any] = {"seed": seed}
    model: dict[str, Any] = {"name": "equivariant"}
    if method == "transfer":
        training["start_from"] = base
        model = {}
    elif method == "delta":
        data["base"] = {"model": base}
    steps = round(steps * (n_frames / 50) ** 0.5) * (4 if method == "scratch-long" else 1)
    per_epoch = math.ceil((n_frames - max(1, n_frames // 10)) / 2)  # frames of 48 atoms go two by two
    training["max_epochs"] = math.ceil(steps / per_epoch)
    return {"data": data, "model": model, "train": training}


def measured_against(base: Path, new: Frames) -> dict[str, float]:
    """Errors of the model of the lower level as it is, on the test frames of the higher one: forces alone."""
    from ase_mlcalc import load
    from ase_mlcalc.accelerate import with_kernels
    from ase_mlcalc.training.metrics import evaluate

    metrics = evaluate(with_kernels(load(base)), read_frames([new.test]))
    assert metrics.force_mae_meV_per_A is not None
    return {"force_mae_meV_per_A": metrics.force_mae_meV_per_A}


def draw(path: Path, found: dict[str, Any], sizes: list[int]) -> None:
    """Force and energy errors over the number of frames."""
    figure = new_figure(8.4, 3.9)
    panels = (("force_mae_meV_per_A", "force MAE / meV/Å"), ("energy_mae_meV_per_atom", "energy MAE / meV/atom"))
    for position, (key, label) in enumerate(panels):
        axes = new_axes(figure, 1, 2, position)
        for (method, name), color in zip(METHODS.items(), COLORS, strict=False):
            values = np.array([[run[key] for run in found[method][str(n)]] for n in sizes])
            mean = np.exp(np.log(values).mean(axis=1))
            axes.plot(sizes, mean, "o-", color=color, label=name)
            if values.shape[1] > 1:
                axes.fill_between(sizes, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2, lw=0)
        if key in found["lower model"]:
            axes.axhline(found["lower model"][key], color=GREY, ls=":", label="model of GFN1, no frames")
        axes.axhline(found["base"][key], color=GREY, ls="--", label="model of GFN1 at GFN1, 400 frames")
        axes.set_xlabel("frames of GFN2-xTB")
        axes.set_ylabel(label)
        logarithmic(axes)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        if position == 0:
            axes.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.94))  # below the dots
    save(figure, path)


def show(found: dict[str, Any], sizes: list[int], console: Console) -> None:
    """One row a number of frames."""
    table = Table("frames", *METHODS.values(), "transfer / scratch", title="MAE of force / meV/Å, energy / meV/atom")
    for n in sizes:
        mean = {
            method: [
                float(np.exp(np.mean([np.log(run[key]) for run in found[method][str(n)]])))
                for key in ("force_mae_meV_per_A", "energy_mae_meV_per_atom")
            ]
            for method in METHODS
        }
        cells = (f"{forces:.1f}, {energy:.2f}" for forces, energy in mean.values())
        ratios = (mean["transfer"][0] / mean[method][0] for method in ("scratch", "scratch-long"))
        table.add_row(str(n), *cells, ", ".join(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)
    base, lower = found["base"], found["lower model"]
    console.print(
        f"model of GFN1: {base['force_mae_meV_per_A']:.1f} meV/Å on GFN1, {lower['force_mae_meV_per_A']:.1f} on GFN2"
    )


def main() -> None:
    """Train what is missing, then table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/transfer"), help="kept for going on")
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 50, 100, 200], help="frames of the new level")
    parser.add_argument("--steps", type=int, default=600, help="of a training with 50 frames")
    parser.add_argument("--base-epochs", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="default: transfer.png in --out")
    options = parser.parse_args()
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    old, new = (write_frames(level, folder) for level in ("gfn1", "gfn2"))
    lower = {
        "data": {"train": old.pool, "test": old.test},
        "model": {"name": "equivariant"},
        "train": {"max_epochs": options.base_epochs},
    }
    found: dict[str, Any] = {"base": errors("gfn1", lower, folder)}
    base = folder / "gfn1" / "model.safetensors"
    found["lower model"] = measured_against(base, new)
    for n in options.sizes:
        for method in METHODS:
            runs = [
                errors(
                    f"{method}-{n}-{seed}" if seed else f"{method}-{n}",
                    job_of(method, n, new, base, options.steps, seed),
                    folder,
                )
                for seed in range(options.seeds)
            ]
            found.setdefault(method, {})[str(n)] = runs
    write_text(folder / "transfer.json", json.dumps(found, indent=1) + "\n")
    draw(options.picture or folder / "transfer.png", found, options.sizes)
    show(found, options.sizes, Console())


if __name__ == "__main__":
    main()
