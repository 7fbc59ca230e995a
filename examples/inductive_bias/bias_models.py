"""Trainings of the study, their errors beside published ones, and the table of all results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import LeftOut, Study
from materials import GESE2, SIC, Material

from ase_mlcalc import accelerate
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.training.metrics import compare_frames, measure
from ase_mlcalc.training.side_by_side import compare_files

N_VALIDATION = 50
TRAININGS: dict[str, dict[str, Any]] = {
    "equivariant": {
        "model": {"name": "equivariant", "cutoff": 5.0, "n_interactions": 1},
        "train": {"max_epochs": 15, "batch_size": 1, "device": "cpu"},  # has a kernel for it
    },
    "plain": {
        "model": {"name": "body_order", "terms": ["message_passing"]},
        "train": {"max_epochs": 12, "batch_size": 2},
    },
    "decomposed": {"model": {"name": "body_order"}, "train": {"max_epochs": 12, "batch_size": 2}},
}
"""Without data and output; in epochs, so that a busy machine makes nothing worse."""
MODELS = tuple(TRAININGS)


def small(study: Study, full: Any, quick: Any) -> Any:
    """A number of full mode, or that of quick mode."""
    return quick if study.quick else full


def place(study: Study, material: Material, *parts: str) -> Path:
    """A file of a material."""
    return study.out.joinpath(material.name, *parts)


def job(study: Study, name: str, data: Mapping[str, Any], epochs: int | None = None, **changes: Any) -> dict[str, Any]:
    """One of `TRAININGS`, with changes of its model; a quick one is small and short."""
    model, train = TRAININGS[name]["model"] | changes, dict(TRAININGS[name]["train"])
    if epochs is not None:
        train["max_epochs"] = epochs
    if study.quick:
        train |= {"max_epochs": 1}
        if name != "equivariant":
            model |= {"features": 8}
    return {"model": model, "train": train, "data": dict(data)}


def models(material: Material) -> Callable[[Study], None]:
    """Train and test all models of a material."""

    def made(study: Study) -> None:
        data = {"train": present(study, material, "train"), "n_validation": small(study, N_VALIDATION, 2)}
        test = present(study, material, "test")
        stage = f"{material.name}/models"
        study.train(stage, {name: job(study, name, data) for name in MODELS})
        errors(study, material, stage, MODELS, test)

    return made


def further(
    study: Study,
    material: Material,
    stage: str,
    data: Sequence[Path],
    epochs: int | None = None,
    **changes: Any,
) -> dict[str, Path]:
    """`equivariant` once more, with other data or as another model: train and test ``equivariant-STAGE``."""
    name, folder = f"equivariant-{stage}", f"{material.name}/{stage}"
    split = {"train": list(data), "n_validation": small(study, N_VALIDATION, 2)}
    study.train(folder, {name: job(study, "equivariant", split, epochs, **changes)})
    errors(study, material, folder, [name], present(study, material, "test"))
    return {name: study.checkpoint(folder, name)}


def present(study: Study, material: Material, name: str) -> Path:
    """A file of an earlier stage; without it, this one is left out."""
    path = place(study, material, f"{name}.extxyz")
    if not path.exists():
        raise LeftOut(f"{path} is not there; make the stage {material.name}-data first")
    return path


def errors(
    study: Study, material: Material, stage: str, names: Sequence[str], test: Path, where: str | None = None
) -> None:
    """RMSE on training and test frames beside the published ones; `where` tells other test frames from the usual."""
    checkpoints = [study.checkpoint(stage, name) for name in names]
    found = {}
    for part, file, index in (("test", test, ":"), ("train", present(study, material, "train"), "::10")):
        out = place(study, material, f"compared-{file.stem}")
        rows = compare_files(checkpoints, [file], out, index=index, batch_size=1)
        found[part] = dict(zip(names, rows, strict=True))
    kept = study.kept("errors")
    for name in names:
        test_row, train_row = found["test"][name], found["train"][name]
        kept.setdefault(material.name, {})[name if where is None else f"{name}, {where}"] = {
            "energy": test_row.metrics.energy_rmse_meV_per_atom,
            "force": test_row.metrics.force_rmse_meV_per_A,
            "train energy": train_row.metrics.energy_rmse_meV_per_atom,
            "train force": train_row.metrics.force_rmse_meV_per_A,
        }
    study.keep("errors", kept)
    columns = [
        "model", "energy RMSE / meV/atom, published", "test", "train", "force RMSE / meV/Å, published", "test ",
        "train ",
    ]  # fmt: skip
    rows = []
    for name, own in kept[material.name].items():
        energy, force = material.reported.get(name, (None, None))
        errors_of = [energy, own["energy"], own["train energy"], force, own["force"], own["train force"]]
        rows.append([titled(name), *errors_of])
    study.table(f"{material.name}-errors", columns, rows, keys=1)
    summary(study)


def titled(name: str) -> str:
    """A model, and where it was tested, as tables show it."""
    model, *where = name.split(", ")
    return ", ".join([f"`{model}`", *where])


def by_temperature(study: Study, material: Material, checkpoints: Mapping[str, Path], test: Path) -> None:
    """Errors on test frames of each temperature; energies by their mean and their spread about it."""
    frames, rows = read_frames([test]), []
    of_frames = np.array([float(frame.atoms.info["temperature_K"]) for frame in frames])
    for name, checkpoint in checkpoints.items():
        compared = compare_frames(accelerate.with_kernels(accelerate.load(checkpoint)), frames, 1)
        for temperature in np.unique(of_frames):
            own = compared.of(torch.from_numpy(of_frames == temperature))
            energies = 1000 * (own.prediction.energy - own.labels.energy) / torch.bincount(own.system)
            spread = energies.std(correction=0)
            cells = [float(energies.mean()), float(spread), measure(own).force_rmse_meV_per_A]
            rows.append([f"`{name}`", float(temperature), *cells])
    columns = ["model", "T / K", "mean energy error / meV/atom", "spread about it", "force RMSE / meV/Å"]
    study.table(f"{material.name}-temperatures", columns, rows, keys=2)


def summary(study: Study) -> None:
    """Published figures beside ours, for docs/results.md."""
    found, lived = study.kept("errors"), study.kept("survival")
    published = {("SiC", "plain"): "stable", ("GeSe2", "plain"): "collapses", ("GeSe2", "decomposed"): "stable"}
    rows = []
    for material in (SIC, GESE2):
        for name in dict.fromkeys([*found.get(material.name, {}), *lived.get(material.name, {}), *material.reported]):
            measured = found.get(material.name, {}).get(name, {})
            energy, force = material.reported.get(name, (None, None))
            survived = lived.get(material.name, {}).get(name)
            rows.append([
                f"{material.name}, {titled(name)}", energy, measured.get("energy"), force, measured.get("force"),
                published.get((material.name, name)),
                None if survived is None else f"{survived['stable']} of {survived['runs']}",
            ])  # fmt: skip
    columns = [
        "", "energy RMSE / meV/atom, published", "here", "force RMSE / meV/Å, published", "here ",
        "15 ps, published", "stable runs here",
    ]  # fmt: skip
    study.table("summary", columns, rows, keys=1, fill=True)
