"""NequIP in its own environment: ``nequip-train``, ``nequip-compile`` and its ASE calculator.

Training follows the program's tutorial: float32 weights, Adam, force and per-atom energy errors weighted alike, shifts
and scales from the data.  What suits minutes instead of days: few structures in a step, because on a processor a
structure costs the same in any batch and steps are what a short run lacks; the large learning rate of the published
rMD17 models, brought down by a cosine within the run; an average of the weights over the last hundred steps.
"""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator
from nequip.integrations.ase import NequIPCalculator

from peers.job import Job, run_tool
from peers.watch import of_function

BATCH = 5
LEARNING_RATE = 0.01
EMA_DECAY = 0.99
CHECKPOINT = "best.ckpt"


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"nequip": version("nequip"), "e3nn": version("e3nn")}


def train(job: Job) -> dict[str, Any]:
    """Train until the minutes are over; the model with the best validation error is kept."""
    (job.out / "config.yaml").write_text(json.dumps(_config(job), indent=1))  # JSON is YAML
    minutes = run_tool(["nequip-train", "-cp", job.out, "-cn", "config", f"hydra.run.dir={job.out}"], job, "train.log")
    return {
        "network": str(job.out / CHECKPOINT),
        "minutes": minutes,
        "settings": {
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "schedule": "cosine",
            "ema_decay": EMA_DECAY,
        },
    }


def _config(job: Job) -> dict[str, Any]:
    species = list(job.species)
    errors = {"_target_": "nequip.train.EnergyForceMetrics", "coeffs": {"forces_mae": 1.0, "total_energy_mae": None}}
    limits: dict[str, Any] = (
        {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1}
        if job.minutes is None
        else {"max_epochs": 100_000, "max_time": "00:00:{:02d}:{:02d}".format(*divmod(round(60 * job.minutes), 60))}
    )
    checkpoints = {
        "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
        "monitor": "val0_epoch/weighted_sum",
        "dirpath": str(job.out),
        "filename": Path(CHECKPOINT).stem,
    }
    schedule = {
        "scheduler": {"_target_": "peers.clock.CosineByClock", "minutes": job.minutes or 1.0},
        "interval": "step",
    }
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 0,
            "train_file_path": str(job.data / "train.extxyz"),
            "val_file_path": str(job.data / "valid.extxyz"),
            "transforms": [
                {
                    "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                    "model_type_names": species,
                },
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": job.cutoff},
            ],
            "train_dataloader": _loader(BATCH, shuffle=True),
            "val_dataloader": _loader(10),
            "stats_manager": {
                "_target_": "nequip.data.CommonDataStatisticsManager",
                "dataloader_kwargs": {"batch_size": 10},
                "type_names": species,
            },
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "gpu" if job.device == "cuda" else "cpu",
            "enable_progress_bar": False,
            "logger": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": str(job.out), "name": "log"},
            "callbacks": [checkpoints],
            **limits,
        },
        "training_module": {
            "_target_": "nequip.train.EMALightningModule",
            "ema_decay": EMA_DECAY,
            "loss": {
                "_target_": "nequip.train.EnergyForceLoss",
                "per_atom_energy": True,
                "coeffs": {"total_energy": 1.0, "forces": 1.0},
            },
            "val_metrics": errors,
            "optimizer": {"_target_": "torch.optim.Adam", "lr": LEARNING_RATE, "amsgrad": True},
            "lr_scheduler": schedule,
            "model": {
                "_target_": "nequip.model.NequIPGNNModel",
                "seed": 0,
                "model_dtype": "float32",
                "type_names": species,
                "r_max": job.cutoff,
                "num_layers": job.network["layers"],
                "l_max": job.network["l_max"],
                "parity": job.network.get("parity", True),
                "num_features": job.network["features"],
                "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
                "per_type_energy_scales": "${training_data_stats:forces_rms}",
                "per_type_energy_shifts": "${training_data_stats:per_atom_energy_mean}",
            },
        },
    }


def _loader(batch: int, *, shuffle: bool = False) -> dict[str, Any]:
    return {"_target_": "torch.utils.data.DataLoader", "batch_size": batch, "shuffle": shuffle}


def compiled(job: Job, trained: Path) -> dict[str, Any]:
    """The checkpoint as a package of AOTInductor, for the threads of the job."""
    package = job.out / "compiled.nequip.pt2"
    words = ["nequip-compile", trained, package, "--mode", "aotinductor", "--device", job.device, "--target", "ase"]
    return {"network": str(package), "minutes": run_tool(words, job, "compile.log")}


def calculator(network: Path, run: dict[str, Any], device: str) -> Calculator:
    """As the program's documentation makes it."""
    options: dict[str, Any] = {"device": device, "chemical_species_to_atom_type_map": True}
    if run.get("compile"):
        return NequIPCalculator.from_compiled_model(str(network), **options)
    return NequIPCalculator._from_saved_model(str(network), **options)  # noqa: SLF001 (no other way to run eager)


def time_model(made: NequIPCalculator, device: str) -> Callable[[], float]:
    """Watch the seconds that the model takes of the calculator's."""
    made.call_model, seconds = of_function(made.call_model, device)
    return seconds
