"""From an ASE calculator to believable molecular dynamics with a trained potential, in about two minutes.

Liquid argon is labelled with ASE's Lennard-Jones calculator, a small SchNet is trained on the labels, and molecular
dynamics at constant energy runs with the trained potential alone.  Because the truth is cheap here, it is asked again
at the end: how wrong are forces and stress on structures that the potential itself went to?

Run it anywhere with::

    python examples/quickstart/run.py --out quickstart
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin

from ase_mlcalc import MDConfig, MLCalculator, run_md, train, write_report
from ase_mlcalc.config import validate
from ase_mlcalc.training.config import TrainJob

CUTOFF_ANGSTROM = 6.0
TEMPERATURE_K = 120.0


def reference() -> LennardJones:
    """Argon; energy and forces go smoothly to zero at the cutoff."""
    return LennardJones(epsilon=0.0103, sigma=3.4, rc=CUTOFF_ANGSTROM, smooth=True)


def labelled_argon(n_structures: int, seed: int) -> list[Atoms]:
    """32 argon atoms at three densities and twice the temperature that is simulated later."""
    rng = np.random.default_rng(seed)
    structures: list[Atoms] = []
    for share, lattice_constant in zip(np.array_split(np.arange(n_structures), 3), (5.4, 5.6, 5.8), strict=True):
        atoms = bulk("Ar", "fcc", a=lattice_constant, cubic=True) * (2, 2, 2)
        atoms.calc = reference()
        dynamics = Langevin(
            atoms, 8 * units.fs, temperature_K=2 * TEMPERATURE_K, friction=0.01 / units.fs, fixcm=False, rng=rng
        )
        dynamics.run(100)
        for _ in share:
            dynamics.run(10)
            labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
            snapshot = atoms.copy()
            snapshot.calc = SinglePointCalculator(snapshot, **labels)
            structures.append(snapshot)
    return [structures[k] for k in rng.permutation(n_structures)]


def errors_against_truth(frames: Sequence[Atoms], model: Path) -> tuple[float, float]:
    """Mean absolute errors of forces (meV/Å) and of stress (GPa)."""
    forces, stress = [], []
    truth, learned = reference(), MLCalculator(model)
    for frame in frames:
        forces.append(truth.get_property("forces", frame) - learned.get_property("forces", frame))
        stress.append(truth.get_property("stress", frame) - learned.get_property("stress", frame))
    return 1000 * float(np.abs(forces).mean()), float(np.abs(stress).mean()) / units.GPa


def main(arguments: Sequence[str] | None = None) -> None:
    """Label, train, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("quickstart"), help="folder for all results")
    parser.add_argument("--structures", type=int, default=60, help="labelled structures")
    parser.add_argument("--minutes", type=float, default=1.0, help="time for training")
    parser.add_argument("--time-ps", type=float, default=5.0, help="length of the run at constant energy")
    options = parser.parse_args(arguments)

    data = options.out / "argon.extxyz"
    if not data.exists():
        options.out.mkdir(parents=True, exist_ok=True)
        ase.io.write(data, labelled_argon(options.structures, seed=0))

    job = validate(
        TrainJob,
        {
            "output": options.out / "training",
            "data": {"train": data},
            "model": {"name": "schnet", "cutoff": CUTOFF_ANGSTROM, "features": 32, "n_interactions": 2},
            "train": {"max_minutes": options.minutes},
        },
        "quickstart",
    )
    trained = train(job)

    atoms = ase.io.read(data, index=0)
    atoms.calc = MLCalculator(trained.checkpoint)
    difference = np.abs(atoms.get_stresses().sum(axis=0) - atoms.get_stress()).max()

    config = MDConfig(
        ensemble="nve", temperature_K=TEMPERATURE_K, timestep_fs=5, time_ps=options.time_ps, thermo_every_fs=10
    )
    run_folder = options.out / "md"
    name = f"nve-{1 + len(list(run_folder.glob('nve-*.traj')))}"  # a further run does not touch earlier ones
    result = run_md(atoms, config, run_folder, name=name)
    frames = ase.io.read(result.trajectory, ":")
    force_mae, stress_mae = errors_against_truth(frames, trained.checkpoint)

    print(f"validation force error   {trained.metrics.force_mae_meV_per_A:.2f} meV/Å")
    print(f"per-atom stress          adds up to the stress within {difference:.1e} eV/Å³")
    print(f"molecular dynamics       {result.message}")
    if result.drift is not None:
        print(f"energy drift             {result.drift.slope:.4f} ± {result.drift.stderr:.4f} meV/atom/ps")
    print(f"errors on its own frames {force_mae:.2f} meV/Å in forces, {stress_mae:.4f} GPa in stress")
    print(f"report                   {write_report(run_folder)}")


if __name__ == "__main__":
    main()
