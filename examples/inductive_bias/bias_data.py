"""Frames of both materials: sampled, and labelled by the reference."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.calculator import Calculator
from bias_models import job, place, present, small
from common import Study
from materials import GESE2, SIC, Material, germanium_selenide, silicon_carbide

from ase_mlcalc import MLCalculator
from ase_mlcalc.foreign import make_foreign
from ase_mlcalc.labelling import label
from ase_mlcalc.md import MDConfig, run_md
from ase_mlcalc.sampling import SampleJob, sample


def sampled(
    study: Study, material: Material, name: str, start: Path, forces: Mapping[str, Any], **changes: Any
) -> list[Atoms]:
    """Frames of molecular dynamics at all temperatures, none left out."""
    folder = place(study, material, name)
    keys = {
        "sample.output": folder,
        "sample.structures": [str(start)],
        "sample.temperatures_K": material.temperatures_K,
        "sample.workers": study.workers,
        "forces": dict(forces),
        "md.timestep_fs": material.timestep_fs,
    }
    if study.quick:
        changes["sample.seeds"] = changes.get("sample.seeds", [0])[:1]
        changes |= {"sample.discard_ps": 0.01, "md.time_ps": 0.05, "md.frames_every_fs": 10}
    found = sample(study.job(SampleJob, "sample.toml", keys | changes))
    return ase.io.read(found.out, ":")


def labelled(study: Study, material: Material, name: str, frames: Sequence[Atoms]) -> Path:
    """Frames with labels of the reference; none is calculated twice."""
    reference, out = material.reference(study), place(study, material, f"{name}.extxyz")
    label(
        frames, reference.calculator, out,
        arguments=reference.arguments, level=reference.level, workers=study.workers, threads=1,
    )  # fmt: skip
    return out


def started(study: Study, material: Material, name: str, make: Callable[[], Atoms]) -> Path:
    """A structure that runs start from, made once."""
    path = place(study, material, f"{name}.extxyz")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        ase.io.write(path, make())
    return path


def sic_data(study: Study) -> None:
    """1000 frames of 64 atoms, 100 test frames of 512 atoms from runs of their own."""
    forces = SIC.reference(study).forces
    cell = started(study, SIC, "start", lambda: silicon_carbide(small(study, 2, 1)))
    large = started(study, SIC, "start-large", lambda: silicon_carbide(small(study, 4, 1)))
    train = sampled(study, SIC, "sample", cell, forces, **{"sample.seeds": [0, 1]})
    labelled(study, SIC, "train", train)
    test = sampled(study, SIC, "sample-test", large, forces, **{"sample.seeds": [9], "md.time_ps": 1.5})
    labelled(study, SIC, "test", test)


def large_sic(study: Study) -> Path:
    """125 training frames of 512 atoms: nearly as many atoms as in the 1000 of 64."""
    forces = SIC.reference(study).forces
    frames = sampled(
        study, SIC, "sample-large", present(study, SIC, "start-large"), forces,
        **{"sample.seeds": [5], "sample.n_structures": 125, "md.frames_every_fs": 200},
    )  # fmt: skip
    return labelled(study, SIC, "train-large", frames)


def gese2_data(study: Study) -> None:
    """Short runs of the reference, a potential of them, 603 frames of its runs; test frames of the reference's own."""
    forces = GESE2.reference(study).forces
    start = started(study, GESE2, "start", lambda: melted(study))
    brief = {"sample.discard_ps": 0.2, "md.frames_every_fs": 20}
    first = sampled(study, GESE2, "sample-first", start, forces, **brief, **{"md.time_ps": 0.7})
    data = {"train": labelled(study, GESE2, "first", first), "n_validation": small(study, 10, 2)}
    study.train("GeSe2/sampler", {"equivariant": job(study, "equivariant", data, epochs=40)})
    sampler = sampler_of(study, "GeSe2/sampler")
    train = sampled(
        study, GESE2, "sample", start, sampler,
        **{"sample.seeds": [1, 2, 3], "md.time_ps": 3.85, "sample.n_structures": 603},
    )  # fmt: skip
    labelled(study, GESE2, "train", train)
    test = sampled(study, GESE2, "sample-test", start, forces, **brief, **{"sample.seeds": [9], "md.time_ps": 0.6})
    labelled(study, GESE2, "test", test)


def more_gese2(study: Study) -> Path:
    """Twice as many training frames again, from runs of the same potential with other seeds."""
    frames = sampled(
        study, GESE2, "sample-more", present(study, GESE2, "start"), sampler_of(study, "GeSe2/sampler"),
        **{"sample.seeds": [5, 6, 7, 8, 10, 11], "md.time_ps": 3.85, "sample.n_structures": 1206},
    )  # fmt: skip
    return labelled(study, GESE2, "train-more", frames)


def larger_gese2(study: Study) -> Path:
    """30 test frames of 576 atoms, from runs of the same potential."""
    start = started(study, GESE2, "start-large", lambda: doubled(study))
    frames = sampled(
        study, GESE2, "sample-large", start, sampler_of(study, "GeSe2/sampler"),
        **{"sample.seeds": [9], "sample.n_structures": 30, "md.time_ps": 2.5, "md.frames_every_fs": 200},
    )  # fmt: skip
    return labelled(study, GESE2, "test-large", frames)


def sampler_of(study: Study, stage: str) -> dict[str, Any]:
    """``[forces]`` of a trained potential; a quick one has learned nothing that could run, so that is the reference."""
    model = str(study.checkpoint(stage, "equivariant"))
    return GESE2.reference(study).forces if study.quick else {"model": model}


def reference_of_gese2(study: Study) -> Calculator:
    """The potential that labels, in this process."""
    reference = GESE2.reference(study)
    return make_foreign(reference.calculator, reference.arguments, named=("calculator", "arguments"))


def melted(study: Study) -> Atoms:
    """Atoms on random sites, molten at 3000 K and cooled to 1100 K by the reference."""
    atoms = germanium_selenide(small(study, 72, 12))
    atoms.calc = reference_of_gese2(study)
    return cooled(study, atoms, "melt", 3000, time_ps=1.0)


def doubled(study: Study) -> Atoms:
    """Eight copies of that, 576 atoms, at 1800 K until they differ and cooled to 1100 K by the sampling potential."""
    atoms = ase.io.read(present(study, GESE2, "start")) * small(study, 2, 1)
    if study.quick:  # its potential has learned nothing that could run
        atoms.calc = reference_of_gese2(study)
    else:
        atoms.calc = MLCalculator(study.checkpoint("GeSe2/sampler", "equivariant"))
    return cooled(study, atoms, "melt-large", 1800, time_ps=small(study, 5.0, 0.05))


def cooled(study: Study, atoms: Atoms, name: str, from_K: float, time_ps: float) -> Atoms:
    """The end of molecular dynamics whose temperature falls to 1100 K."""
    blind = {name: {"use": False} for name in ("distances", "force", "energy", "temperature", "lattice")}
    melt = MDConfig(
        temperature_K=from_K, temperature_end_K=1100, timestep_fs=2, time_ps=time_ps,
        frames_every_fs=20, stresses_every_fs=0, monitors=blind,
    )  # fmt: skip
    folder = place(study, GESE2, name)
    run_md(atoms, melt, folder)
    return ase.io.read(next(folder.glob("*.traj")), -1)
