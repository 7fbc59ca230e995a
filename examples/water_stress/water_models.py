"""Trainings of the study, by stage: the keys of a training job without its data and output.

Lengths are in epochs of 400 frames with 375 atoms, so that a busy machine makes nothing worse.
"""

from typing import Any

AS_THEN = {"optimizer": "adamw", "learning_rate": 1e-3, "loss": {"norm": "mse"}}
"""Adam and a squared error, as the earlier study had."""
GAT_OF_THEN = {
    "name": "stress_gat",
    "part": "total",
    "positions": True,
    "velocities": True,
    "edge_vectors": False,
    "heads": 1,
}
SMALL = {"name": "stress_equivariant", "cutoff": 4.5, "features": 32, "edge_features": 16}
WITHOUT_PPPM = "labels-without-pppm"

MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "equivariant": {
        "potential-part": {
            "model": {"name": "stress_equivariant", "cutoff": 6.0},
            "train": {"max_epochs": 6, "batch_size": 1},
        },
        "total": {
            "model": {"name": "stress_equivariant", "cutoff": 6.0, "part": "total"},
            "train": {"max_epochs": 4, "batch_size": 1},
        },
    },
    "published": {
        "mlp": {
            "model": {"name": "stress_mlp", "part": "total"},
            "train": {"max_epochs": 150, "batch_size": 16, **AS_THEN},
        },
        "gat-5A": {"model": GAT_OF_THEN, "train": {"max_epochs": 20, "batch_size": 4, **AS_THEN}},
        "gat-15A": {
            "model": GAT_OF_THEN | {"cutoff": 15.0, "n_blocks": 1},
            "train": {"max_epochs": 3, "batch_size": 4, **AS_THEN},
        },
    },
    "energy": {
        "equivariant": {
            "model": {"name": "equivariant", "cutoff": 5.0, "n_interactions": 1},
            "train": {"max_epochs": 5, "batch_size": 1},
        },
        "equivariant-local": {
            "model": {"name": "equivariant", "cutoff": 6.0, "n_interactions": 0},
            "train": {"max_epochs": 5, "batch_size": 1},
        },
    },
    "limits": {  # each differs in one thing from `base`
        "base": {"model": SMALL, "train": {"max_epochs": 3, "batch_size": 1}},
        "cutoff-3A": {"model": SMALL | {"cutoff": 3.0}, "train": {"max_epochs": 3, "batch_size": 1}},
        "cutoff-6A": {"model": SMALL | {"cutoff": 6.0}, "train": {"max_epochs": 3, "batch_size": 1}},
        "no-messages": {"model": SMALL | {"n_interactions": 0}, "train": {"max_epochs": 3, "batch_size": 1}},
        "four-times-longer": {"model": SMALL, "train": {"max_epochs": 12, "batch_size": 1}},
        "100-frames": {"model": SMALL, "train": {"max_epochs": 12, "batch_size": 1}, "data": {"n_train": 100}},
        WITHOUT_PPPM: {"model": SMALL, "train": {"max_epochs": 3, "batch_size": 1}},
    },
    "other": {
        "gat-edges": {"model": {"name": "stress_gat"}, "train": {"max_epochs": 8, "batch_size": 1}},
        "pointcloud": {"model": {"name": "stress_pointcloud"}, "train": {"max_epochs": 8, "batch_size": 1}},
    },
    "published-box": {
        "mlp-4275": {
            "model": {"name": "stress_mlp", "part": "total"},
            "train": {"max_epochs": 30, "batch_size": 16, **AS_THEN},
        }
    },
}
