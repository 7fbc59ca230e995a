"""The conformance suite of models: the contract and the physics that every `Model` has to satisfy."""

import builtins
import io
import socket
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from ase import Atoms
from pydantic import ValidationError
from torch import Tensor

from ase_mlcalc import checkpoint
from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, ModelConfig
from ase_mlcalc.potential import Baseline, Derived, derive
from ase_mlcalc.properties import SPECS, Properties
from ase_mlcalc.testing import finite_difference, outcome, structures
from ase_mlcalc.testing.fitting import fits
from ase_mlcalc.testing.outcome import CheckFailure, CheckResult, Judge, NotApplicable
from ase_mlcalc.testing.subject import ModelSubject

# small, because cutoffs that are smooth to first order only have kinks in the forces that a wide stencil would average
STEP_ANGSTROM = 1e-4
STEP_STRAIN = 2e-5


# ----- the contract ---------------------------------------------------------------------------------------------------


def check_constructs(subject: ModelSubject, judge: Judge) -> None:
    """The defaults make a model, without files or network, and an unknown key is refused."""

    def forbidden(*_: Any, **__: Any) -> Any:
        judge.fail("the constructor opens files or connections; a model is built from its configuration alone")

    with (
        mock.patch.object(builtins, "open", forbidden),
        mock.patch.object(io, "open", forbidden),
        mock.patch.object(socket.socket, "connect", forbidden),
    ):
        model = subject.model_class(subject.model_class.Config())
    judge.require(model.name in repr(model).lower() or type(model).__name__ in repr(model), "repr does not name it")
    try:
        subject.model_class.Config.model_validate({"no_such_key": 1})
    except ValidationError:
        return
    judge.fail("Config takes an unknown key")


def check_outputs(subject: ModelSubject, judge: Judge) -> None:
    """The declared fields and no others, with their shapes, in the precision of the model, without NaN."""
    for dtype in (torch.float64, torch.float32):
        graph = _in(subject.graph(*subject.everything().values()), dtype)
        raw = subject.model(dtype)(graph)
        judge.require(raw.given() == subject.model_class.outputs, "fields returned", sorted(raw.given()))
        for name in raw.given():
            value: Tensor = getattr(raw, name)
            length = graph.n_atoms if SPECS[name].per == "atom" else graph.n_structures
            expected = (length, *SPECS[name].components)
            judge.require(tuple(value.shape) == expected, f"shape of {name}", tuple(value.shape), expected)
            judge.require(value.dtype == dtype, f"dtype of {name}", value.dtype, dtype)
            judge.require(torch.isfinite(value).all(), f"{name} has NaN or Inf on a check structure")


def check_inputs_untouched(subject: ModelSubject, judge: Judge) -> None:
    """Evaluation changes neither the graph nor the parameters, and a second call gives the same bits."""
    model = subject.model()
    graph = subject.graph(subject.crystal, subject.water)
    before = [field.clone() for field in graph]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    first = derive(model, graph, Baseline())
    with torch.no_grad():
        model(graph)  # the tensors of `graph` themselves: derive hands over copies of some
    second = derive(model, graph, Baseline())
    for name, was, now in zip(Graph._fields, before, graph, strict=True):
        judge.identical(f"graph.{name} after evaluation", now, was)
    for name, value in model.state_dict().items():
        judge.identical(f"model parameter {name} after evaluation", value, state[name])
    _identical(judge, "second call", second, first)


def check_sees_only_vectors(subject: ModelSubject, judge: Judge) -> None:
    """Geometry enters through ``graph.vectors`` alone: otherwise forces and stress would miss a part."""
    model, graph = subject.model(), subject.graph(subject.crystal, subject.water)
    nonsense = graph._replace(
        positions=torch.full_like(graph.positions, torch.nan),
        cell=torch.full_like(graph.cell, torch.nan),
        shifts=torch.full_like(graph.shifts, torch.nan),
    )
    with torch.no_grad():
        _identical(judge, "outputs with other positions, cell and shifts", model(nonsense), model(graph))


def check_save_load(subject: ModelSubject, judge: Judge) -> None:
    """A checkpoint gives back the same bits, in either precision."""
    for dtype in (torch.float64, torch.float32):
        saved = Derived(subject.model(dtype), Baseline({z: -0.1 * z for z in subject.config.species}, 0.7, 1.1, 1.3))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            checkpoint.save(saved, path)
            loaded = checkpoint.load(path)
        judge.require(loaded.dtype == dtype, "dtype after loading", loaded.dtype, dtype)
        judge.require(loaded.model.config == saved.model.config, "configuration after loading", loaded.model.config)
        graph = subject.graph(subject.crystal, subject.ethanol)
        _identical(judge, f"saved and loaded in {dtype}", loaded(graph), saved(graph))


# ----- structures alone and together ----------------------------------------------------------------------------------


def check_batch_equals_single(subject: ModelSubject, judge: Judge) -> None:
    """A structure does not notice which others are evaluated with it, nor their order."""
    named = subject.everything()
    alone = {name: subject.evaluate(atoms) for name, atoms in named.items()}
    for order in (list(named), list(named)[::-1]):
        expected = _joined([alone[name] for name in order])
        _close(judge, "in a batch", subject.evaluate(*(named[name] for name in order)), expected, outcome.SUMS)


def check_no_gradient_across_structures(subject: ModelSubject, judge: Judge) -> None:
    """Outputs of one structure do not depend on the edges of another."""
    graph = subject.graph(subject.crystal, subject.ethanol, subject.water)
    vectors = graph.vectors.clone().requires_grad_()
    raw = subject.model()(graph._replace(vectors=vectors))
    for name in raw.given():
        value: Tensor = getattr(raw, name)
        own = graph.system == 1 if SPECS[name].per == "atom" else torch.arange(graph.n_structures) == 1
        (gradient,) = torch.autograd.grad(value[own].sum(), vectors, retain_graph=True, materialize_grads=True)
        foreign = graph.system[graph.centers] != 1
        judge.identical(f"d {name} / d r of other structures", gradient[foreign], torch.zeros_like(gradient[foreign]))


def check_nonperiodic_in_batch(subject: ModelSubject, judge: Judge) -> None:
    """A molecule among crystals has NaN stress, they have not, and gradients stay finite."""
    model = subject.model()
    graph = subject.graph(subject.crystal, subject.water, subject.slab)
    prediction = derive(model, graph, Baseline(), create_graph=True)
    for name, is_molecule in (("stress", torch.arange(3) == 1), ("stresses", graph.system == 1)):
        value = getattr(prediction, name)
        if value is None:
            continue
        judge.require(torch.isnan(value[is_molecule]).all(), f"{name} of a molecule is a number, but it has no volume")
        judge.require(torch.isfinite(value[~is_molecule]).all(), f"{name} of a crystal beside a molecule is not finite")
    if prediction.forces is not None:
        judge.require(torch.isfinite(prediction.forces).all(), "forces beside a molecule are not finite")
    if subject.model_class.trainable:
        _loss(prediction).backward()
        for name, parameter in model.named_parameters():
            finite = parameter.grad is None or torch.isfinite(parameter.grad).all()
            judge.require(finite, f"gradient of {name} is NaN when a molecule is in the batch")


def check_isolated_atom(subject: ModelSubject, judge: Judge) -> None:
    """An isolated atom has its reference energy and exactly no force."""
    potential = subject.with_baseline(-3.0)
    for number in subject.config.species:
        result = potential(subject.graph(structures.isolated_atom(number)))
        for name in ("energy", "energies"):
            value = getattr(result, name)
            if value is not None:
                reference = [potential.baseline.species_energy[number]]
                judge.close(f"{name} of an isolated atom", value, reference, outcome.SUMS, scale=1.0)
        if result.forces is not None:
            judge.identical("force on an isolated atom", result.forces, np.zeros((1, 3)))


def check_no_edges(subject: ModelSubject, judge: Judge) -> None:
    """A batch without any edge is evaluated and trained on without NaN."""
    pair = subject.water[:2]
    pair.positions[1] += 10 * subject.config.cutoff
    model, graph = subject.model(), subject.graph(pair, subject.lonely)
    judge.require(len(graph.centers) == 0, "the check structure has edges; this is a mistake in the suite")
    prediction = derive(model, graph, Baseline(), create_graph=True)
    for name in ("energy", "energies"):
        value = getattr(prediction, name)
        if value is not None:
            judge.close(f"{name} without edges", value, torch.zeros_like(value), outcome.SUMS, scale=1.0)
    if prediction.forces is not None:
        judge.identical("forces without edges", prediction.forces, torch.zeros_like(prediction.forces))
    if prediction.energy is not None and prediction.energy.requires_grad:
        prediction.energy.sum().backward()
        for name, parameter in model.named_parameters():
            finite = parameter.grad is None or torch.isfinite(parameter.grad).all()
            judge.require(finite, f"gradient of {name} is NaN for a batch without edges")


def check_far_apart(subject: ModelSubject, judge: Judge) -> None:
    """Fragments farther apart than the cutoff do not see each other (size consistency)."""
    far = subject.ethanol.copy()
    far.positions += 10 * subject.config.cutoff
    both = subject.evaluate(subject.water + far)
    alone = [subject.evaluate(subject.water), subject.evaluate(far)]
    for name in both.given() & {"energies", "forces"}:
        judge.close(name, getattr(both, name), torch.cat([getattr(part, name) for part in alone]), outcome.RELABELLED)
    energies = [part.energy for part in alone if part.energy is not None]
    if both.energy is not None:
        total = torch.stack(energies).sum(dim=0)
        judge.close("energy", both.energy, total, outcome.RELABELLED, float(torch.stack(energies).abs().max()))


# ----- symmetries -----------------------------------------------------------------------------------------------------


def check_permutation(subject: ModelSubject, judge: Judge) -> None:
    """The order in which atoms are listed does not matter."""
    for name, atoms in {"crystal": subject.crystal, "ethanol": subject.ethanol}.items():
        order = np.random.default_rng(1).permutation(len(atoms))
        expected = _of_atoms(subject.evaluate(atoms), torch.from_numpy(order))
        _close(judge, f"{name} in another order", subject.evaluate(atoms[order]), expected, outcome.RELABELLED)


def check_translation(subject: ModelSubject, judge: Judge) -> None:
    """Neither where a structure is nor in which cell its atoms are listed matters."""
    rng = np.random.default_rng(2)
    for name, atoms in {"crystal": subject.crystal, "slab": subject.slab, "ethanol": subject.ethanol}.items():
        expected = subject.evaluate(atoms)
        moved, wrapped = atoms.copy(), atoms.copy()
        moved.positions += rng.uniform(-5, 5, 3)
        wrapped.positions += (rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
        _close(judge, f"{name} translated", subject.evaluate(moved), expected, outcome.RELABELLED)
        _close(judge, f"{name} with atoms in other cells", subject.evaluate(wrapped), expected, outcome.RELABELLED)


def check_supercell(subject: ModelSubject, judge: Judge) -> None:
    """Two cells have twice the energy, the same forces and stress, and half the stress on each atom."""
    one, two = subject.evaluate(subject.crystal), subject.evaluate(subject.crystal * (2, 1, 1))
    factors = {"energy": 2.0, "energies": 1.0, "forces": 1.0, "stress": 1.0, "stresses": 0.5}
    for name in two.given():
        value: Tensor = getattr(one, name)
        repeats = 2 if SPECS[name].per == "atom" else 1
        expected = factors[name] * torch.cat([value] * repeats)
        judge.close(f"{name} of a supercell", getattr(two, name), expected, outcome.RELABELLED)


def check_rotation(subject: ModelSubject, judge: Judge) -> None:
    """Energies stay, forces and stress turn with the structure, mirrors included (group O(3))."""
    for name, atoms in {"crystal": subject.crystal, "slab": subject.slab, "ethanol": subject.ethanol}.items():
        before = subject.evaluate(atoms)
        for seed, improper in ((1, False), (2, True)):
            matrix = structures.rotation(seed, improper=improper)
            kind = "mirrored and rotated" if improper else "rotated"
            after = subject.evaluate(structures.rotated(atoms, matrix))
            _close(judge, f"{name} {kind}", after, _turned(before, torch.from_numpy(matrix)), outcome.ROTATED)


def check_declared_not_equivariant(subject: ModelSubject, judge: Judge) -> None:
    """A model that says it is not equivariant is not: flags must not rot."""
    try:
        check_rotation(subject, Judge("rotation"))
    except CheckFailure:
        return
    judge.fail("declares equivariant=False but passes the check of rotations: declare equivariant=True")


# ----- mechanics ------------------------------------------------------------------------------------------------------


def check_forces(subject: ModelSubject, judge: Judge) -> None:
    """Forces are minus the derivative of the energy by positions."""
    for name, atoms in {"crystal": subject.crystal, "water": subject.water, "slab": subject.slab}.items():
        forces = outcome.array(subject.evaluate(atoms).forces)
        judge.above(f"largest force of {name}", forces, outcome.FORCE_FLOOR)
        moves = finite_difference.directions(len(atoms), 6, seed=3)
        slopes = finite_difference.along_displacements(_floats(subject), atoms, moves, STEP_ANGSTROM)
        expected = -np.einsum("kna,na->k", moves, forces)
        largest = float(np.abs(forces).max())
        judge.close(f"{name}: dE/dr against -F", slopes, expected, outcome.FINITE_DIFFERENCE, scale=largest)


def check_stress(subject: ModelSubject, judge: Judge) -> None:
    """Stress is the derivative of the energy by strain, per volume, positive under tension."""
    for name, atoms in {"crystal": subject.crystal, "slab": subject.slab, "one-atom lattice": subject.lattice}.items():
        stress = outcome.array(subject.evaluate(atoms).stress)[0]
        judge.above(f"largest stress of {name}", stress, outcome.STRESS_FLOOR)
        slopes = finite_difference.stress(_floats(subject), atoms, STEP_STRAIN)
        judge.close(f"{name}: (1/V) dE/dε against stress", slopes, stress, outcome.FINITE_DIFFERENCE)


def check_sum_rules(subject: ModelSubject, judge: Judge) -> None:
    """Newton's third law, no torque on molecules, symmetric stress, atoms' shares that add up."""
    for name, atoms in subject.everything().items():
        result = subject.evaluate(atoms)
        conserved = result.energy is not None
        if result.forces is not None and conserved:
            forces = outcome.array(result.forces)
            # one-atom cells and isolated atoms have no force but forces of pairs that cancel
            scale = max(float(np.abs(forces).max()), 1.0)
            judge.close(f"{name}: sum of forces", forces.sum(axis=0), np.zeros(3), outcome.SUMS, scale)
            if not atoms.pbc.any() and subject.model_class.equivariant:
                torque = np.cross(atoms.positions, forces).sum(axis=0)
                judge.close(f"{name}: torque", torque, np.zeros(3), outcome.SUMS, 10 * scale)
        if result.energy is not None and result.energies is not None:
            total = result.energies.sum()[None]
            judge.close(f"{name}: sum of energies", total, result.energy, outcome.SUMS, _size(result.energies))
        if result.stress is not None and result.stresses is not None:
            both = (result.stresses.sum(dim=0)[None], result.stress)
            judge.close(f"{name}: sum of stresses", *both, outcome.SUMS, _size(result.stresses))
            asymmetry = result.stress - result.stress.mT
            judge.close(f"{name}: stress minus its transpose", asymmetry, 0 * asymmetry, outcome.SUMS, _size(both[1]))


def check_smooth_at_cutoff(subject: ModelSubject, judge: Judge) -> None:
    """Energies and forces are continuous while an atom crosses the cutoff of another that has a third neighbour."""
    cutoff, tiny = subject.config.cutoff, 1e-8

    def at(distance: float) -> Properties:
        corner = np.array([0.3, 0.4, 0.1]) * cutoff
        positions = np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0], corner])
        atoms = Atoms(numbers=subject.water.numbers, positions=positions)
        return subject.evaluate(atoms)

    inside, outside, halfway = at(cutoff - tiny), at(cutoff + tiny), at(cutoff / 2)
    for name in inside.given() & {"energies", "energy", "forces"}:
        near, far, control = (outcome.array(getattr(each, name)) for each in (inside, outside, halfway))
        signal = float(np.abs(control - far).max())
        judge.above(f"{name}: effect of an atom at half the cutoff", control - far, 1e-4)
        judge.close(f"{name} across the cutoff", near, far, outcome.CONTINUITY, scale=signal)


# ----- numbers and training -------------------------------------------------------------------------------------------


def check_float32(subject: ModelSubject, judge: Judge) -> None:
    """Single precision agrees with double precision."""
    graph = subject.graph(subject.crystal, subject.ethanol)
    single, double = Derived(subject.model().to(torch.float32))(graph), subject.potential(graph)
    judge.require(
        single.energy is None or single.energy.dtype == torch.float64, "energy is summed in less than float64"
    )
    _close(judge, "float32 against float64", single, double, outcome.SINGLE_PRECISION)


def check_double_backward(subject: ModelSubject, judge: Judge) -> None:
    """A loss on forces and stress reaches every weight, with the right gradient."""
    model, graph = subject.model(), subject.graph(*subject.everything().values())
    _loss(derive(model, graph, Baseline(), create_graph=True)).backward()
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in weights.items():
        if parameter.grad is not None:
            judge.require(torch.isfinite(parameter.grad).all(), f"gradient of {name} is not finite")
    dead = [n for n, p in weights.items() if p.ndim > 1 and (p.grad is None or not p.grad.abs().max() > 0)]
    judge.require(not dead, f"a loss on forces and stress does not reach {', '.join(dead)}")
    # the slope along the gradient itself, by central differences over the parameters
    reached = {name: p for name, p in weights.items() if p.grad is not None}
    gradient = {name: p.grad.clone() for name, p in reached.items() if p.grad is not None}
    start = {name: p.detach().clone() for name, p in reached.items()}
    norm, size = _norm(gradient), _norm(start)
    judge.require(norm > 0, "a loss on forces and stress does not depend on the parameters")
    step, slope = 1e-5 * size, 0.0
    for k, weight in finite_difference.STENCIL.items():
        with torch.no_grad():
            for name, parameter in reached.items():
                parameter.copy_(start[name] + k * step / norm * gradient[name])
        slope += weight / step * float(_loss(derive(model, graph, Baseline())))
    judge.close("d loss / d parameters against differences", slope, norm, outcome.PARAMETER_GRADIENT)


def check_learns(subject: ModelSubject, judge: Judge) -> None:
    """Thirty steps on four structures bring the loss down five-fold."""
    best = fits(subject)
    judge.require(best >= 5.0, "30 steps of Adam reduce the loss on 4 structures", f"{best:.2f}-fold", "5-fold")


# ----- slow -----------------------------------------------------------------------------------------------------------


def check_compile(subject: ModelSubject, judge: Judge) -> None:
    """``torch.compile`` (graph capture of forward and backward) gives the same numbers, for other sizes too."""
    model = subject.model()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    for atoms in (subject.crystal, subject.ethanol):
        graph = subject.graph(atoms)
        results = []
        for run in (model, compiled):
            vectors = graph.vectors.clone().requires_grad_()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's own, where it breaks a graph in two
                raw = run(graph._replace(vectors=vectors))
            total = torch.stack([getattr(raw, name).sum() for name in sorted(raw.given())]).sum()
            results.append((total, *torch.autograd.grad(total, vectors)))
        for what, eager, captured in zip(("outputs", "gradient"), *results, strict=True):
            judge.close(f"{what}, compiled", captured, eager, outcome.COMPILED)


def check_export(subject: ModelSubject, judge: Judge) -> None:
    """``torch.export`` gives the same numbers."""
    model = subject.model().requires_grad_(False)
    graph = subject.graph(subject.crystal, subject.ethanol)
    exported = torch.export.export(model, (graph,), strict=False).module()
    with torch.no_grad():
        _close(judge, "exported", exported(graph), model(graph), outcome.COMPILED)


def check_energy_conservation(subject: ModelSubject, judge: Judge) -> None:
    """Constant-energy dynamics: half the time step, a quarter of the fluctuation (velocity Verlet is of order two)."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    from ase_mlcalc.calculator import MLCalculator

    def fluctuation(timestep_fs: float) -> float:
        atoms = subject.crystal.copy()
        atoms.set_masses(np.full(len(atoms), 16.0))
        atoms.calc = MLCalculator(subject.model())
        atoms.set_momenta(0.3 * np.random.default_rng(4).standard_normal((len(atoms), 3)))
        dynamics = VelocityVerlet(atoms, timestep_fs * units.fs)
        energies = []
        for _ in range(round(50 / timestep_fs)):
            dynamics.run(1)
            energies.append(atoms.get_total_energy())
        return float(np.std(energies))

    coarse, fine = fluctuation(0.5), fluctuation(0.25)
    judge.require(fine > 1e-9, "the energy fluctuates too little to test anything", fine, 1e-9)
    judge.require(3 <= coarse / fine <= 5, "energy fluctuation at 0.5 fs by that at 0.25 fs", coarse / fine, "4 ± 1")


# ----- the suite ------------------------------------------------------------------------------------------------------


def _always(_: type[Model]) -> bool:
    return True


def _energy(cls: type[Model]) -> bool:
    return bool(cls.outputs & {"energy", "energies"})


def _transferable(cls: type[Model]) -> bool:
    return cls.transferable


class ModelCheck(NamedTuple):
    """A check, when it applies, and whether it takes long."""

    function: Callable[[ModelSubject, Judge], None]
    applies: Callable[[type[Model]], bool] = _always
    slow: bool = False

    @property
    def name(self) -> str:
        """The function's name without ``check_``."""
        return self.function.__name__.removeprefix("check_")

    def run(self, subject: ModelSubject) -> None:
        """Raise `CheckFailure`, also where the model itself raises, or `NotApplicable`."""
        try:
            self.function(subject, Judge(self.name))
        except (CheckFailure, NotApplicable):
            raise
        except Exception as error:
            raise CheckFailure(self.name, f"the model raised {type(error).__name__}: {error}") from error


MODEL_CHECKS: tuple[ModelCheck, ...] = (
    ModelCheck(check_constructs),
    ModelCheck(check_outputs),
    ModelCheck(check_inputs_untouched),
    ModelCheck(check_sees_only_vectors),
    ModelCheck(check_save_load),
    ModelCheck(check_batch_equals_single, _transferable),
    ModelCheck(check_no_gradient_across_structures, _transferable),
    ModelCheck(check_nonperiodic_in_batch, lambda cls: _transferable(cls) and _energy(cls)),
    ModelCheck(check_isolated_atom, lambda cls: _transferable(cls) and "energies" in cls.outputs),
    ModelCheck(check_no_edges, lambda cls: _transferable(cls) and "energies" in cls.outputs),
    ModelCheck(check_far_apart, _transferable),
    ModelCheck(check_permutation, _transferable),
    ModelCheck(check_translation),
    ModelCheck(check_supercell, _transferable),
    ModelCheck(check_rotation, lambda cls: cls.equivariant),
    ModelCheck(check_declared_not_equivariant, lambda cls: not cls.equivariant),
    ModelCheck(check_forces, _energy),
    ModelCheck(check_smooth_at_cutoff, lambda cls: cls.smooth and cls.outputs != {"stresses"}),
    ModelCheck(check_stress, _energy),
    ModelCheck(check_sum_rules),
    ModelCheck(check_float32),
    ModelCheck(check_double_backward, lambda cls: cls.trainable),
    ModelCheck(check_learns, lambda cls: cls.trainable),
    ModelCheck(check_compile, slow=True),
    ModelCheck(check_export, slow=True),
    ModelCheck(check_energy_conservation, _energy, slow=True),
)


def applicable_checks(model_class: type[Model], *, slow: bool = False) -> tuple[ModelCheck, ...]:
    """The checks that a model has to pass, by its outputs and declared flags."""
    return tuple(check for check in MODEL_CHECKS if check.applies(model_class) and (slow or not check.slow))


def check_model(
    model_class: type[Model], config: ModelConfig | None = None, *, slow: bool = False
) -> list[CheckResult]:
    """Run the whole suite on a model class.

    Parameters
    ----------
    model_class : type[Model]
        Randomly initialised from a fixed seed; nothing has to be trained.
    config : ModelConfig, optional
        Default: the model's defaults with the elements H, C, O, Na and Cl of the check structures.
    slow : bool
        Also the checks that take up to minutes (compilation, export, dynamics).

    Returns
    -------
    list of CheckResult
        One for each check: passed, or skipped with the reason.

    Raises
    ------
    CheckFailure
        At the first check that fails; ``.name`` says which.
    """
    subject = ModelSubject(model_class, config)
    results = []
    for check in MODEL_CHECKS:
        if not check.applies(model_class):
            results.append(CheckResult(check.name, "skipped", "does not apply to its outputs and declared flags"))
        elif check.slow and not slow:
            results.append(CheckResult(check.name, "skipped", "slow; ask with slow=True"))
        else:
            try:
                check.run(subject)
                results.append(CheckResult(check.name, "passed"))
            except NotApplicable as reason:
                results.append(CheckResult(check.name, "skipped", str(reason)))
    return results


# ----- helpers --------------------------------------------------------------------------------------------------------


def _in(graph: Graph, dtype: torch.dtype) -> Graph:
    return graph._replace(vectors=graph.vectors.to(dtype))


def _floats(subject: ModelSubject) -> finite_difference.Energies:
    return lambda many: [float(energy) for energy in subject.energies_of(many)]


def _size(value: Tensor) -> float:
    """Largest magnitude, at least the smallest that is worth comparing."""
    return max(float(outcome.array(value.nan_to_num()).__abs__().max(initial=0.0)), 1e-6)


def _close(judge: Judge, what: str, got: Properties, expected: Properties, relative: float) -> None:
    for name in sorted(expected.given()):
        value = getattr(expected, name)
        judge.close(f"{what}: {name}", getattr(got, name), value, relative, scale=_size(value))


def _identical(judge: Judge, what: str, got: Properties, expected: Properties) -> None:
    for name in sorted(expected.given()):
        judge.identical(f"{what}: {name}", getattr(got, name), getattr(expected, name))


def _joined(parts: list[Properties]) -> Properties:
    given = parts[0].given()
    return Properties(**{name: torch.cat([getattr(part, name) for part in parts]) for name in given})


def _of_atoms(result: Properties, order: Tensor) -> Properties:
    return Properties(
        **{
            name: getattr(result, name)[order] if SPECS[name].per == "atom" else getattr(result, name)
            for name in result.given()
        }
    )


def _turned(result: Properties, matrix: Tensor) -> Properties:
    def turn(name: str, value: Tensor) -> Tensor:
        if SPECS[name].components == (3,):
            return value @ matrix.T
        if SPECS[name].components == (3, 3):
            return matrix @ value @ matrix.T
        return value

    return Properties(**{name: turn(name, getattr(result, name)) for name in result.given()})


def _norm(tensors: dict[str, Tensor]) -> float:
    """Euclidean norm of several tensors as one vector."""
    return float(sum(float(value.square().sum()) for value in tensors.values()) ** 0.5)


def _loss(prediction: Properties) -> Tensor:
    """Mean squares of forces, stress and per-atom stress, whichever are there; NaN is left out."""
    terms = []
    for name in ("forces", "stress", "stresses"):
        value = getattr(prediction, name)
        if value is not None:
            terms.append(value[~torch.isnan(value)].square().mean())
    return torch.stack(terms).sum()
