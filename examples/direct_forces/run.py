"""Forces predicted directly, against forces that are derivatives of an energy, on small molecules.

    python examples/direct_forces/run.py --quick
    python examples/direct_forces/run.py                   # hours; the same command goes on after a kill
    python examples/direct_forces/run.py --only accuracy speed

The full mode reads rMD17, see docs/data.md.  The quick mode labels a few frames of ethanol with GFN2-xTB (the extra
xtb).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import KCAL_EV, LeftOut, Study, main, needs

from ase_mlcalc.data.read import read_frames
from ase_mlcalc.training.side_by_side import compare_files

KCAL_MEV = 1000 * KCAL_EV
MODELS = ("tensor_field", "schnet", "equivariant")
MOLECULES = ("ethanol", "benzene", "toluene", "aspirin", "naphthalene", "malonaldehyde", "salicylic", "uracil")
THESIS = {
    "benzene": (0.19, 0.31),
    "toluene": (0.39, 0.57),
    "malonaldehyde": (1.00, 0.66),
    "salicylic": (0.78, 0.85),
    "aspirin": (1.09, 1.35),
    "ethanol": (0.73, 0.39),
    "uracil": (0.60, 0.56),
    "naphthalene": (0.30, 0.58),
}
"""Table 3.1 of S. Batzner (2019): force errors in kcal/mol/Å of direct prediction and of SchNet, 1000 structures of the
original MD17."""
THESIS_CALL_MS = {"aspirin": (7.0, 91.0), "benzene": (4.1, 42.0), "ethanol": (3.8, 27.0)}
"""Table 3.3: prediction on a CPU, ms."""
THESIS_MINUTES = {
    "ethanol": (174, 1893),
    "benzene": (9, 2957),
    "toluene": (22, 2118),
    "naphthalene": (25, 3463),
    "aspirin": (8, 995),
}
"""Table 3.5: minutes to an error within 10 % of that of the worse model, on a K80."""
MACE = {
    "aspirin": 6.6,
    "benzene": 0.3,
    "ethanol": 2.1,
    "malonaldehyde": 4.1,
    "naphthalene": 1.6,
    "salicylic": 3.1,
    "toluene": 1.5,
    "uracil": 2.1,
}
"""Force errors on rMD17 in meV/Å: I. Batatia et al., NeurIPS 2022."""
EPOCHS = {"tensor_field": 20, "schnet": 20, "equivariant": 20}


@dataclass(frozen=True)
class Long:
    """A long training of `equivariant`."""

    model: Mapping[str, Any]
    epochs: Mapping[str, int]
    """By molecule."""
    members: int = 1


LONG = {
    "defaults": Long({}, {"ethanol": 650, "benzene": 2000, "toluene": 400}),
    "smooth": Long({"l_max": 3, "radial_decay": 2.0}, {"ethanol": 400, "benzene": 300, "toluene": 250, "aspirin": 150}),
    "committee": Long({"radial_decay": 2.0}, {"ethanol": 200}, members=4),
}


def molecules(study: Study) -> Sequence[str]:
    """Of this study."""
    return ("ethanol",) if study.quick else MOLECULES


def data(study: Study, molecule: str) -> dict[str, Any]:
    """``[data]`` of a training: rMD17, or in quick mode a few frames that are made here."""
    if study.quick:
        import quick_ethanol

        needs("tblite", 'pip install "ase-mlcalc[xtb]"')
        train, test = quick_ethanol.files(study.out / "data")
        return {"train": train, "test": test, "n_validation": 4}
    train, test = study.data(f"rmd17/{molecule}_train.npz", f"rmd17/{molecule}_test.npz")
    return {"train": train, "test": test, "n_validation": 50}


# ----- accuracy and cost ----------------------------------------------------------------------------------------------


def accuracy(study: Study) -> None:
    """Force errors of the three families on all molecules, beside the thesis."""
    import training_time

    rows, times = [], []
    for molecule in molecules(study):
        own = data(study, molecule)
        jobs = {
            name: {
                "data": own,
                "model": study.model(name),
                "train": {"max_epochs": 1 if study.quick else EPOCHS[name], "validate_every": 1},
            }
            for name in MODELS
        }
        stage = f"accuracy/{molecule}"
        found = study.train(stage, jobs)
        measured = [None if one.test is None else one.test.force_mae_meV_per_A / KCAL_MEV for one in found.values()]
        hours = [training_time.core_hours(study.out / stage / name) for name in MODELS]
        rows.append([molecule, *THESIS.get(molecule, (None, None)), *measured, *hours])
        times.append([molecule, *THESIS_MINUTES.get(molecule, (None, None))])
        times[-1] += training_time.to_common_error(*(study.out / stage / name for name in ("tensor_field", "schnet")))
        heads = ["force MAE / kcal/mol/Å", "direct, thesis", "SchNet, thesis", *(f"`{name}`" for name in MODELS)]
        study.table("accuracy", [*heads, *(f"core-hours, `{name}`" for name in MODELS)], rows, keys=1)
        heads = ["minutes of training", "direct, thesis (K80)", "SchNet, thesis (K80)", "`tensor_field`", "`schnet`"]
        study.table("training", [*heads, "ratio", "to a force MAE of / kcal/mol/Å"], times, keys=1)
        study.keep("accuracy", study.kept("accuracy") | {row[0]: row[1:6] for row in rows})


def speed(study: Study) -> None:
    """Time of a prediction, calls of all models in turn."""
    rows = []
    for molecule in ("ethanol",) if study.quick else THESIS_CALL_MS:
        checkpoints = [study.checkpoint(f"accuracy/{molecule}", name) for name in MODELS]
        out = study.out / "speed" / molecule
        compared = compare_files(checkpoints, [data(study, molecule)["test"]], out, repeats=5 if study.quick else 200)
        rows.append([molecule, *THESIS_CALL_MS[molecule], *(row.ms_per_call for row in compared)])
    heads = ["ms per prediction", "direct, thesis", "SchNet, thesis", *(f"`{name}`" for name in MODELS)]
    study.table("speed", heads, rows, keys=1)


def reach(study: Study) -> None:
    """Long trainings of `equivariant`, beside the published errors of MACE; kept is the one that validates better."""
    import training_time

    rows = []
    for kind, long in LONG.items():
        for molecule, epochs in (("ethanol", 2),) if study.quick else long.epochs.items():
            job = {
                "data": data(study, molecule),
                "model": study.model("equivariant", **long.model),
                "train": {"max_epochs": epochs, "members": long.members},
            }
            (one,) = study.train(f"reach/{molecule}", {kind: job}).values()
            error = None if one.test is None else one.test.force_mae_meV_per_A
            hours = training_time.core_hours(study.out / "reach" / molecule / kind)
            rows.append([molecule, kind, MACE[molecule], error, epochs, hours])
            heads = ["force MAE / meV/Å", "model", "MACE, published", "`equivariant`", "epochs", "core-hours"]
            study.table("reach", heads, rows, keys=2)
            best = study.kept("reach").get(molecule)
            if one.validation is not None and error is not None:
                found = [one.validation.force_mae_meV_per_A, error]
                study.keep("reach", study.kept("reach") | {molecule: found if best is None else min(found, best)})


# ----- dynamics -------------------------------------------------------------------------------------------------------


def start(study: Study, molecule: str) -> Path:
    """The structure of lowest energy among those of the training set."""
    path = study.out / "starts" / f"{molecule}.extxyz"
    if not path.exists():
        frames = read_frames([data(study, molecule)["train"]])
        best = min(frames, key=lambda frame: float(frame.labels.energy)).atoms
        path.parent.mkdir(exist_ok=True)
        ase.io.write(path, Atoms(best.numbers, best.positions))
    return path


def md(study: Study) -> None:
    """Heating at constant energy: the protocol of the thesis with 8 seeds for each temperature."""
    import heating

    rows = []
    for molecule in ("ethanol",) if study.quick else ("toluene", "benzene", "naphthalene"):
        sources = {name: study.checkpoint(f"accuracy/{molecule}", name) for name in MODELS}
        rows += heating.heat(study, molecule, start(study, molecule), sources)
        study.table("heating", heating.HEATING_COLUMNS, rows, keys=3)


def work(study: Study) -> None:
    """The heat that follows from the errors of the forces along trajectories of an accurate model of energies."""
    import heating

    rows = []
    for molecule in ("ethanol",) if study.quick else ("toluene", "benzene", "naphthalene"):
        sources = {name: study.checkpoint(f"accuracy/{molecule}", name) for name in MODELS}
        rows += heating.explain(study, molecule, start(study, molecule), sources)
        study.table("explained", heating.EXPLAINED_COLUMNS, rows, keys=3)


def warning(study: Study) -> None:
    """A committee beside a run: does its spread rise before a bond breaks, and how early?"""
    import spread_warning

    molecule = "ethanol" if study.quick else "toluene"
    spread_warning.show(study, data(study, molecule), start(study, molecule))


# ----------------------------------------------------------------------------------------------------------------------


def summary(study: Study) -> None:
    """Published figures, the same kind of model here, and the best."""
    accurate, reached = study.kept("accuracy"), study.kept("reach")
    if not accurate and not reached:
        raise LeftOut("make the stage accuracy or reach first")
    rows = []
    for molecule in accurate | reached:
        direct, schnet, *ours = accurate.get(molecule, [*THESIS[molecule], None, None, None])
        tensor_field, ours_schnet, equivariant = (None if one is None else one * KCAL_MEV for one in ours)
        _, long = reached.get(molecule, (None, None))
        published = [None if one is None else one * KCAL_MEV for one in (direct, schnet)]
        rows.append([molecule, *published, MACE.get(molecule), tensor_field, ours_schnet, equivariant, long])
    heads = ["force MAE / meV/Å", "direct, thesis", "SchNet, thesis", "MACE, published"]
    heads += ["`tensor_field`", "`schnet`", "`equivariant`", "`equivariant`, long"]
    study.table("summary", heads, rows, keys=1, fill=True)


STAGES = {
    "accuracy": accuracy,
    "speed": speed,
    "md": md,
    "work": work,
    "warning": warning,
    "reach": reach,
    "summary": summary,
}


def run(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """All stages, or some; returns what was left out and why."""
    return main(__file__, __doc__, STAGES, arguments)


if __name__ == "__main__":
    run()
