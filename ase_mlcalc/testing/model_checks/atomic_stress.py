"""How far an atom sees, and whether each definition of its stress is what it says."""

from functools import partial

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from ase_mlcalc.testing import finite_difference, outcome, structures
from ase_mlcalc.testing.outcome import Judge, NotApplicable
from ase_mlcalc.testing.subject import ModelSubject
from ase_mlcalc.virials import available, virials


def check_depth(subject: ModelSubject, judge: Judge) -> None:
    """What the first atom of a chain is given feels others up to ``depth`` links away, no more and no less."""
    model = subject.model()
    links = model.depth + 2
    link = 0.7 * subject.config.cutoff * np.array([1.0, 0.0, 0.0])
    # bent, because in a straight chain some derivatives vanish
    bend = 0.1 * subject.config.cutoff * np.random.default_rng(8).standard_normal((links + 1, 3))
    numbers = [subject.config.species[k % len(subject.config.species)] for k in range(links + 1)]
    atoms = Atoms(numbers=numbers, positions=np.arange(links + 1)[:, None] * link + bend)
    graph = subject.graph(structures.moving(atoms) if "velocities" in subject.reads else atoms)
    vectors = graph.vectors.clone().requires_grad_()
    raw = model(graph._replace(vectors=vectors))
    given = {name: value for name, value in raw._asdict().items() if value is not None and name != "energy"}
    judge.require(bool(given), "nothing is given to single atoms")
    first = [value[graph.centers == 0] if name == "edge_forces" else value[0] for name, value in given.items()]
    generator = torch.Generator().manual_seed(8)  # components weighted at random, because some add up to nothing
    felt = torch.stack([(value * torch.randn(value.shape, generator=generator)).sum() for value in first]).sum()
    (slope,) = torch.autograd.grad(felt, vectors, materialize_grads=True)
    farthest = max(torch.maximum(graph.centers, graph.neighbors)[slope.abs().sum(dim=1) > 0].tolist(), default=0)
    what = "links of a chain that its first atom feels"
    judge.require(farthest == model.depth, what, farthest, model.depth)


def check_stress_definitions(subject: ModelSubject, judge: Judge) -> None:
    """Every definition of per-atom stress that the model can give sums to the total stress."""
    for name, atoms in {"crystal": subject.crystal, "slab": subject.slab, "one-atom lattice": subject.lattice}.items():
        stress = subject.evaluate(atoms).stress
        if stress is None:
            raise NotApplicable("the model has no stress")
        for definition in available(subject.potential.model):
            atomic = virials(subject.potential, subject.graph(atoms), definition)
            total = stress[0] * atoms.get_volume()
            scale = max(float(atomic.abs().max()), float(total.abs().max()))
            symmetric = 0.5 * (atomic + atomic.mT)
            judge.close(f"{name}: sum of {definition}", symmetric.sum(dim=0), total, outcome.SUMS, scale)


def check_site_stress(subject: ModelSubject, judge: Judge) -> None:
    """Definition ``site``: the derivative of each atom's energy by strain."""
    step = 2e-5

    def energies(strain: NDArray[np.float64], x: float) -> NDArray[np.float64]:
        moved = structures.strained(subject.crystal, x * strain)
        return outcome.array(subject.evaluate(moved).energies)

    site = outcome.array(virials(subject.potential, subject.graph(subject.crystal), "site"))
    judge.above("largest site virial", site, outcome.FORCE_FLOOR)
    for a, b in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] = 1.0
        slopes = finite_difference.central(partial(energies, strain), step)
        largest = float(np.abs(site).max())
        judge.close(f"dU/dε_{'xyz'[a]}{'xyz'[b]}", slopes, site[:, a, b], outcome.FINITE_DIFFERENCE, scale=largest)


def check_heat_stress(subject: ModelSubject, judge: Judge) -> None:
    """Definition ``heat``: in a molecule, how the barycentre of the energy moves when atoms do."""
    atoms = subject.ethanol
    velocities = np.random.default_rng(9).standard_normal((len(atoms), 3))

    def energies(x: float) -> NDArray[np.float64]:
        moved = atoms.copy()
        moved.positions += x * velocities
        return outcome.array(subject.evaluate(moved).energies)

    rates = finite_difference.central(energies, 1e-4)
    work = -(outcome.array(subject.evaluate(atoms).forces) * velocities).sum(axis=1)
    expected = (atoms.positions * (rates - work)[:, None]).sum(axis=0)
    heat = outcome.array(virials(subject.potential, subject.graph(atoms), "heat"))
    flux = -np.einsum("nab,nb->a", heat, velocities)
    scale = max(float(np.abs(heat).max()), float(np.abs(flux).max()))
    judge.above("largest heat virial", heat, outcome.FORCE_FLOOR)
    judge.close("heat flux against the motion of the energy", flux, expected, outcome.FINITE_DIFFERENCE, scale=scale)
