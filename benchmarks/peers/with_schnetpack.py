"""SchNetPack in its own environment: its Python interface for training, and its ASE calculator.

Sizes and training are those of the program's configurations for rMD17 (20 Gaussians, weights 0.01 and 0.99 of energy
and forces in kcal/mol, AdamW, learning rate 1e-3, mean energy per atom taken out), in float32, with its average of the
weights.  What suits minutes instead of days: few structures in a step, because steps are what a short run lacks, and a
learning rate brought down by a cosine within the run.
"""

import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytorch_lightning
import torch
import torchmetrics
from ase import units
from ase.calculators.calculator import Calculator
from torch.utils.data import dataloader

# its calculator unpickles whole models, which torch otherwise refuses; they are those that were trained here
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
# release 2.1 of SchNetPack, the last one for Python 3.11, asks for a type variable of torch by its old name
if not hasattr(dataloader, "T_co"):
    dataloader.T_co = dataloader._T_co  # noqa: SLF001

import schnetpack as spk
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import (
    AddOffsets,
    CastTo32,
    CastTo64,
    MatScipyNeighborList,
    RemoveOffsets,
    SkinNeighborList,
    SubtractCenterOfMass,
)

from peers.clock import CosineByClock
from peers.job import Job
from peers.watch import of_module

BATCH = 5
LEARNING_RATE = 1e-3
EMA_DECAY = 0.995
GAUSSIANS = 20
SKIN_ANGSTROM = 0.5
BEST = "best_model"
KCAL_PER_MOL = units.kcal / units.mol
REPRESENTATIONS = {"schnet": spk.representation.SchNet, "painn": spk.representation.PaiNN}


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"schnetpack": version("schnetpack")}


def train(job: Job) -> dict[str, Any]:
    """Train until the minutes are over; the model with the best validation error is kept."""
    os.chdir(job.out)  # it leaves a lock file where it is started
    torch.set_num_threads(job.threads)
    pytorch_lightning.seed_everything(0)
    data = _data(job)
    limits: dict[str, Any] = (
        {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1}
        if job.minutes is None
        else {"max_epochs": 100_000, "max_time": {"seconds": round(60 * job.minutes)}}
    )
    keep = spk.train.ModelCheckpoint(model_path=str(job.out / BEST), dirpath=str(job.out), monitor="val_loss")
    trainer = pytorch_lightning.Trainer(
        accelerator="gpu" if job.device == "cuda" else "cpu",
        callbacks=[keep, spk.train.ExponentialMovingAverage(EMA_DECAY)],
        default_root_dir=str(job.out),
        enable_progress_bar=False,
        logger=pytorch_lightning.loggers.CSVLogger(str(job.out), name="log"),
        **limits,
    )
    begin = time.monotonic()
    trainer.fit(_task(job), datamodule=data)
    return {
        "network": str(job.out / BEST),
        "minutes": (time.monotonic() - begin) / 60,
        "epochs": trainer.current_epoch,
        "settings": {
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "schedule": "cosine",
            "ema_decay": EMA_DECAY,
        },
    }


def _data(job: Job) -> spk.data.AtomsDataModule:
    """The structures in the program's own data base, in its units for rMD17."""
    frames = [ase.io.read(job.data / f"{part}.extxyz", ":") for part in ("train", "valid")]
    base = spk.data.ASEAtomsData.create(
        str(job.out / "data.db"),
        distance_unit="Ang",
        property_unit_dict={"energy": "kcal/mol", "forces": "kcal/mol/Ang"},
    )
    labels = [
        {
            "energy": torch.tensor([atoms.get_potential_energy() / KCAL_PER_MOL]).numpy(),
            "forces": atoms.get_forces() / KCAL_PER_MOL,
        }
        for part in frames
        for atoms in part
    ]
    base.add_systems(labels, [atoms for part in frames for atoms in part])
    n_train, n_valid = map(len, frames)
    split = job.out / "split.npz"
    order = np.arange(n_train + n_valid)
    np.savez(split, train_idx=order[:n_train], val_idx=order[n_train:], test_idx=order[:0])
    return spk.data.AtomsDataModule(
        str(job.out / "data.db"),
        batch_size=BATCH,
        num_train=n_train,
        num_val=n_valid,
        num_test=0,
        split_file=str(split),
        val_batch_size=10,
        num_workers=0,
        transforms=[
            SubtractCenterOfMass(),
            RemoveOffsets("energy", remove_mean=True),
            MatScipyNeighborList(cutoff=job.cutoff),
            CastTo32(),
        ],
    )


def _task(job: Job) -> spk.task.AtomisticTask:
    features = job.network["features"]
    representation = REPRESENTATIONS[job.network["representation"]](
        n_atom_basis=features,
        n_interactions=job.network["interactions"],
        radial_basis=spk.nn.GaussianRBF(n_rbf=GAUSSIANS, cutoff=job.cutoff),
        cutoff_fn=spk.nn.CosineCutoff(job.cutoff),
    )
    model = spk.model.NeuralNetworkPotential(
        representation=representation,
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=features, output_key="energy"),
            spk.atomistic.Forces(energy_key="energy", force_key="forces"),
        ],
        postprocessors=[CastTo64(), AddOffsets("energy", add_mean=True)],
    )
    outputs = [
        spk.task.ModelOutput(
            name=name,
            loss_fn=torch.nn.MSELoss(),
            loss_weight=weight,
            metrics={"mae": torchmetrics.MeanAbsoluteError()},
        )
        for name, weight in (("energy", 0.01), ("forces", 0.99))
    ]
    return spk.task.AtomisticTask(
        model=model,
        outputs=outputs,
        optimizer_cls=torch.optim.AdamW,
        optimizer_args={"lr": LEARNING_RATE},
        scheduler_cls=CosineByClock,
        scheduler_args={"minutes": job.minutes or 1.0},
    )


def calculator(network: Path, run: dict[str, Any], device: str) -> Calculator:
    """With the neighbour list that the program has for molecular dynamics."""
    cutoff = _cutoff(network)
    return SpkCalculator(
        model_file=str(network),
        neighbor_list=SkinNeighborList(MatScipyNeighborList(cutoff), cutoff_skin=SKIN_ANGSTROM),
        energy_unit="kcal/mol",
        position_unit="Ang",
        device=device,
        **run,
    )


def _cutoff(network: Path) -> float:
    model = torch.load(network, map_location="cpu")
    return float(model.representation.cutoff)


def time_model(made: SpkCalculator, device: str) -> Callable[[], float]:
    """Watch the seconds that the model takes of the calculator's."""
    return of_module(made.model, device)
