"""Train a model with the package `sgdml`, for comparison; runs in an environment of its own (``pip install sgdml``).

    OMP_NUM_THREADS=1 SGDML_ENV/bin/python benchmarks/sgdml_package.py ethanol_train.npz 200 20 out

reads the first 200 structures of a file in the format of rMD17 (or of the package: R, F, E, z), trains with sigma 20,
writes the model ``out/model.npz`` and predictions ``out/predictions.npz`` for all structures of the file (or of another
file that is named next), and prints seconds as JSON.  ``make bench-models`` calls it where SGDML_PYTHON is set.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sgdml.predict import GDMLPredict
from sgdml.train import GDMLTrain


def main(data: str, n_train: int, sigma: float, out: Path, predict: str | None = None, processes: int = 1) -> None:
    """Symmetries, kernel matrix, solution and energy constant."""
    positions, forces, energies, numbers = arrays(data)
    chosen = {
        "type": "d",
        "name": np.array("benchmark"),
        "theory": np.array("unknown"),
        "z": numbers,
        "R": positions[:n_train],
        "F": forces[:n_train],
        "E": energies[:n_train],
        "r_unit": np.array("Ang"),
        "e_unit": np.array("kcal/mol"),
    }
    trainer = GDMLTrain(max_processes=processes)
    began = time.perf_counter(), time.process_time()
    task = trainer.create_task(chosen, n_train, chosen, 0, sig=sigma, lam=1e-10)
    symmetries_s = time.perf_counter() - began[0]
    model = trainer.train(task)
    seconds = {
        "symmetries_s": symmetries_s,
        "wall_s": time.perf_counter() - began[0],
        "cpu_s": time.process_time() - began[1],
        "permutations": len(task["perms"]),
    }
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "model.npz", **model)
    tested = arrays(predict)[0] if predict else positions
    energy, force = GDMLPredict(model, max_processes=1).predict(tested.reshape(len(tested), -1))
    np.savez(out / "predictions.npz", R=tested, E=energy, F=force.reshape(tested.shape))
    print(json.dumps(seconds))


def arrays(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions, forces, energies and atomic numbers."""
    with np.load(path, allow_pickle=False) as archive:
        names = ("coords", "forces", "energies", "nuclear_charges") if "coords" in archive else ("R", "F", "E", "z")
        positions, forces, energies, numbers = (archive[name] for name in names)
    return positions.astype(float), forces.astype(float), energies.astype(float).ravel(), numbers.astype(int)


if __name__ == "__main__":
    words = sys.argv[1:]
    main(
        words[0],
        int(words[1]),
        float(words[2]),
        Path(words[3]),
        words[4] if len(words) > 4 else None,
        *map(int, words[5:6]),
    )
