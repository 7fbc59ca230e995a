"""`sample`: molecular dynamics in worker processes, and of all frames those that differ most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from ase import Atoms
from ase.io.extxyz import write_extxyz
from numpy.typing import NDArray

from ase_mlcalc.data.geometry import G_PER_CM3
from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import atomic_path, exclusive, make_folder
from ase_mlcalc.labelling.structures import bare
from ase_mlcalc.sampling.config import SampleJob
from ase_mlcalc.sampling.farthest import covering_radii, farthest_points, standardized
from ase_mlcalc.sampling.identity import claim
from ase_mlcalc.sampling.picture import draw_sample
from ase_mlcalc.sampling.plan import RUNS, PlannedRun, plan, read_starts, write_starts
from ase_mlcalc.sampling.summary import Sampled, SampledRun, write_summary
from ase_mlcalc.sampling.tasks import Candidates, Wanted, frames_of, read_candidates, run_task
from ase_mlcalc.study.progress import steps_of_job
from ase_mlcalc.workers import TaskProgress, work_on, workers_lock

OUT_FILE, FIGURE_FILE, LOGS = "sample.extxyz", "sample.png", "logs"
RANDOM_ORDERS = 10
"""Of candidates, for comparison."""


def sample(job: SampleJob, *, progress: bool = True) -> Sampled:
    """Sample structures by molecular dynamics, or go on where that was stopped.

    Each structure runs at each temperature and density, once per seed.  Of all frames behind the beginning of the
    runs, those are chosen that leave none of the others far away (`farthest_points` on `StructureDescriptor`).  Runs
    that fail give nothing and are named.

    Writes into the output folder: ``sample.extxyz`` with the chosen structures, the most different first, without
    labels, and in ``info`` where each comes from; ``sample.png``; ``sample.json``; ``runs/`` with the files of each
    run; ``logs/`` with what the workers printed.

    Parameters
    ----------
    job : SampleJob
    progress : bool
        Show a bar on a terminal, else a line now and then.

    Raises
    ------
    ConfigError
        The folder holds another sampling, or another process is at work in it.
    DataError
        A file that cannot be read.
    MLCalcError
        No run came to its end.
    """
    folder = job.sample.output
    structures = read_starts(job)
    species = tuple(sorted({int(z) for atoms in structures.values() for z in atoms.numbers}))
    wanted = Wanted(species, job.sample.cutoff_A, job.sample.discard_ps)
    make_folder(folder)
    with exclusive(folder), workers_lock(folder) as lock:
        claim(job)
        write_starts(job, structures)
        runs = plan(job, structures)
        errors = _make(job, runs, wanted, lock, progress)
        candidates = {
            k: found for k, run in enumerate(runs) if (found := read_candidates(_folder(job, run), wanted)) is not None
        }
        if not candidates:
            raise MLCalcError(f"no run came to its end; the first, {runs[0].name}: {errors.get(0, 'no frames')}")
        return _choose(job, runs, candidates, errors)


def _make(
    job: SampleJob, runs: Sequence[PlannedRun], wanted: Wanted, lock: IO[str] | None, progress: bool
) -> dict[int, str]:
    """Make the runs that are left to be made; why some could not be."""
    folder = job.sample.output
    todo = [k for k, run in enumerate(runs) if read_candidates(_folder(job, run), wanted) is None]
    steps = {k: 0 if k in todo else run.steps for k, run in enumerate(runs)}
    errors: dict[int, str] = {}
    if not todo:
        return errors

    def look(at_work: set[int]) -> None:
        for number in at_work:
            steps[todo[number]] = steps_of_job(runs[todo[number]].job, _folder(job, runs[todo[number]]))
        shown.at(sum(steps.values()), f"{len(todo)} runs to make")
        shown.tick(at_work)

    total = sum(run.steps for run in runs)
    with TaskProgress("sample, time steps", total, sum(steps.values()), shown=progress) as shown:
        tasks = (run_task(runs[k].job, wanted) for k in todo)
        table = job.sample
        with work_on(tasks, table.n_workers, table.threads, folder / LOGS, lock, look, executor=job.executor) as work:
            for done in work:
                k = todo[done.number]
                steps[k] = runs[k].steps
                if done.error is not None:
                    errors[k] = done.error
    return errors


def _choose(
    job: SampleJob, runs: Sequence[PlannedRun], candidates: Mapping[int, Candidates], errors: Mapping[int, str]
) -> Sampled:
    """Of all frames those that differ most, and the files that say which."""
    folder = job.sample.output
    of_run = np.concatenate([np.full(len(found.frames), k) for k, found in candidates.items()])
    frames = np.concatenate([found.frames for found in candidates.values()])
    points = standardized(np.concatenate([found.features for found in candidates.values()]))
    chosen, radius = farthest_points(points, job.sample.n_structures)
    random_radius = _random_radius(points, len(chosen))
    _write(job, runs, [(int(of_run[k]), int(frames[k])) for k in chosen])
    draw_sample(
        folder / FIGURE_FILE,
        points,
        chosen,
        np.array([f"{runs[k].temperature_K:g} K" for k in of_run]),
        np.concatenate([found.energies_eV_per_atom for found in candidates.values()]),
        radius,
        random_radius,
    )
    found = Sampled(
        out=folder / OUT_FILE,
        figure=folder / FIGURE_FILE,
        n_candidates=len(points),
        n_chosen=len(chosen),
        radius=tuple(radius.tolist()),
        random_radius=tuple(random_radius.tolist()),
        runs=tuple(
            SampledRun(
                **{key: getattr(run, key) for key in ("structure", "temperature_K", "density", "seed", "name")},
                n_candidates=int((of_run == k).sum()),
                n_chosen=int((of_run[chosen] == k).sum()),
                error=errors.get(k),
            )
            for k, run in enumerate(runs)
        ),
    )
    write_summary(found, folder)
    return found


def _random_radius(points: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(points))[:n] for _ in range(RANDOM_ORDERS)]
    mean: NDArray[np.float64] = np.mean([covering_radii(points, order) for order in orders], axis=0)
    return mean


def _write(job: SampleJob, runs: Sequence[PlannedRun], chosen: Sequence[tuple[int, int]]) -> None:
    """Write frames, given as run and place in it, with what is known of where they come from."""
    stored = {k: frames_of(_folder(job, runs[k])) for k in {k for k, _ in chosen}}
    with atomic_path(job.sample.output / OUT_FILE) as part, open(part, "w", encoding="utf-8") as file:
        for k, place in chosen:
            write_extxyz(file, [_with_origin(stored[k][place], runs[k])])


def _with_origin(frame: Atoms, run: PlannedRun) -> Atoms:
    """Geometry alone, and in ``info`` where it comes from."""
    atoms = bare(frame)
    atoms.set_momenta(None)
    atoms.info |= {"temperature_K": run.temperature_K, "run": run.name, "time_ps": frame.info["time_ps"]}
    atoms.info.pop("step", None)
    if atoms.pbc.all() and atoms.cell.rank == 3:
        atoms.info["density_g_per_cm3"] = float(atoms.get_masses().sum() / atoms.get_volume() * G_PER_CM3)
    return atoms


def _folder(job: SampleJob, run: PlannedRun) -> Path:
    return job.sample.output / RUNS / run.name
