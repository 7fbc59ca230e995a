"""`MLCalculator`: one ASE calculator for all potentials.  The only place with numpy, Voigt order and ASE's names."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from numpy.typing import NDArray

from ase_mlcalc import accelerate
from ase_mlcalc.accelerate.engines import Kernel
from ase_mlcalc.checkpoint import without_references
from ase_mlcalc.ensemble import Ensemble, derived_members, spread
from ase_mlcalc.errors import ConfigError, NumericalError, StructureError
from ase_mlcalc.graph import Graph, describe_flat_cell, from_atoms, has_volume, refuse_overlaps
from ase_mlcalc.model import Model, check_species, usable_device
from ase_mlcalc.neighbors import NeighborList, cell_volume
from ase_mlcalc.potential import Derived, Potential
from ase_mlcalc.properties import SPECS, VOIGT, Properties
from ase_mlcalc.virials import DEFAULT_STRESS_DEFINITION, check_definition, definition_at_hand, virials


def _one_thread_after_fork() -> None:
    """Threads of OpenMP do not survive a fork: a child that has calculated before would wait for them forever."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_after_fork)


class MLCalculator(Calculator):
    """A machine-learned (or analytic) potential for ASE.

    One evaluation per geometry gives everything the potential can: ``energy``, ``free_energy`` and ``energies`` in
    eV, ``forces`` in eV/Å, ``stress`` and per-atom ``stresses`` in eV/Å³, positive under tension, in Voigt order
    xx yy zz yz xz xy.  Per-atom stresses are divided by the volume of the cell, so that ``stresses.sum(axis=0)`` is
    ``stress``.  Results are replaced whole at each new geometry.

    With an `Ensemble`, results are the mean of its members, and `extras` holds how far they are apart, replaced
    together with the results:

    ``energy_std`` eV, ``energies_std`` (N,) eV, ``forces_std`` (N, 3) eV/Å, ``stress_std`` (6,) and ``stresses_std``
    (N, 6) eV/Å³
        Sample standard deviations (divided by M - 1 for M members) of each component.
    ``forces_spread`` (N,) eV/Å
        Root of the summed squares of the three components: unlike these, the same from wherever one looks.
    ``forces_uncertainty`` (N,) eV/Å; also ``stress_uncertainty`` (a number) and ``stresses_uncertainty`` (N,) eV/Å³
        Spread times the factor that was measured on labelled structures, if it was: the expected (root mean square)
        length of the error.  The standard deviations above are never rescaled.

    Parameters
    ----------
    potential : path, Potential or Model
        A checkpoint (of one model or of an ensemble), a ``.compiled`` file, a potential, or a model (taken without
        reference energies).
        Models are copied, not modified.
    device : str or torch.device, optional
        Default: the CPU for a checkpoint, otherwise where the potential is.
    dtype : "float32", "float64" or torch.dtype, optional
        Precision of the model; default: as stored.  Geometry, energy sums, forces and stresses are always float64.
    skin : float, Å, or "auto"
        Verlet skin of the neighbour list; the results do not depend on it.  ``"auto"`` makes it wider or narrower while
        molecular dynamics runs, by what searching and selecting pairs cost.
    stress_definition : str
        How the stress is split over atoms: ``"edge"`` (half of each edge's virial to each of its ends), ``"center"``,
        ``"other"``, ``"site"``, ``"heat"`` or ``"cluster"``; see `ase_mlcalc.virials`.  Definitions other than
        ``"edge"`` take evaluations of their own, which are made when ``stresses`` are asked for.  ASE's six components
        hold the symmetric part; `ase_mlcalc.virials.virials` gives all nine.  A potential that predicts per-atom stress
        itself has none of these but the definition of its labels, and the attribute then says so.
    compile : bool, optional
        Default: by a kernel of this package where it has one for the model and a C++ compiler is here (compiled in
        seconds, once), otherwise by PyTorch.  ``True``: with code compiled for this machine for any model, from the
        user's cache, or made now, which takes about a minute; where that cannot be done, a warning says why.
        ``False``: by PyTorch alone.

    Raises
    ------
    CheckpointError, ConfigError, SpeciesError, StructureError, NumericalError
        Unreadable checkpoint; a device that is not there or a wrong option; unknown element; structure that cannot be
        evaluated; NaN or Inf in the results.
    PropertyNotImplementedError
        Stress without three independent cell vectors, or a property that the potential does not predict.
    """

    # read from instances by ASE: what a calculator can give depends on its potential
    implemented_properties: list[str] = []  # noqa: RUF012

    @torch.inference_mode(False)  # whatever the caller has on: forces are gradients
    def __init__(
        self,
        potential: str | Path | Potential | Model,
        *,
        device: str | torch.device | None = None,
        dtype: Literal["float32", "float64"] | torch.dtype | None = None,
        skin: float | Literal["auto"] = "auto",
        stress_definition: str = "edge",
        compile: bool | None = None,  # noqa: A002  (PyTorch's word)
    ) -> None:
        super().__init__()
        self.potential = _as_potential(potential, device, dtype)
        if compile is not False:
            self.potential = (accelerate.compiled if compile else accelerate.with_kernels)(self.potential)
        if stress_definition != DEFAULT_STRESS_DEFINITION:
            check_definition(self.potential, stress_definition)
        given = self.potential.properties
        of_labels = accelerate.definitions_of_labels(potential) if isinstance(potential, str | Path) else []
        self._at_hand = definition_at_hand(self.potential, of_labels)
        """Definition of the ``stresses`` that the potential returns."""
        self.stress_definition = self._at_hand if stress_definition == DEFAULT_STRESS_DEFINITION else stress_definition
        self.evaluations = 0
        """How often the potential was evaluated."""
        self.extras: dict[str, Any] = {}
        """What belongs to the results and ASE has no name for; see above."""
        self._graph: Graph | None = None
        """Of the last evaluation, where per-atom stress still has to be made from it."""
        self._skin: float | Literal["auto"] = skin
        self._neighbors = NeighborList(self.potential.cutoff, skin)
        compiled = self.potential.compiled if isinstance(self.potential, Derived) else None
        self.kernel = compiled if isinstance(compiled, Kernel) else None
        """What evaluates structures without a graph of tensors, if something does."""
        self._device = self.potential.device
        self._moving = "velocities" in self.potential.reads
        self._known: NDArray[np.integer] | None = None
        """Atomic numbers that were found to be known last."""
        self.implemented_properties = sorted(given | ({"free_energy"} if "energy" in given else set()))

    @torch.inference_mode(False)
    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the potential at the geometry of `atoms` unless its results are at hand."""
        if atoms is not None:
            self._remember(atoms)
        if system_changes or not self.results:
            self.results, self.extras, self._graph = {}, {}, None
            self.results, self.extras, self._graph = self._evaluate(self._current_atoms())
        if "stresses" in (properties or ()) and self._graph is not None and "stresses" not in self.results:
            self.results |= self._stresses_by_definition(self._graph)
        for name in properties or ():
            if name in ("stress", "stresses") and name in self.implemented_properties and name not in self.results:
                raise PropertyNotImplementedError(
                    f"{name} needs a cell with three independent vectors, {describe_flat_cell(self._current_atoms())}; "
                    "set atoms.cell (a volume is never invented)"
                )

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """A result by ASE's name; says why where the potential does not predict it."""
        if name not in self.implemented_properties:
            given = self.potential.properties
            direct = "" if "energy" in given else ", directly and not as derivatives of an energy"
            instead = "" if {"energy", "forces"} <= given else "; for energy and forces use a model of energies"
            raise PropertyNotImplementedError(
                f"no {name}: this potential predicts {', '.join(sorted(given))} only{direct}{instead}"
            )
        changes = [] if atoms is None else self.check_state(atoms)
        if changes:
            self.results, self.extras, self._graph = {}, {}, None
        if name not in self.results:
            if not allow_calculation:
                return None
            self.calculate(atoms, [name], changes)
        result = self.results[name]
        return result.copy() if isinstance(result, np.ndarray) else result

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:  # noqa: ARG002  (ASE's signature)
        """What changed since the last evaluation, to the last bit; momenta count where the potential reads velocities.

        ASE asks four times in a step of molecular dynamics.  Comparing with tolerance, as it does itself, would take
        longer than a small molecule's energy, and bytes are faster to compare than numbers.
        """
        if self.atoms is None:
            return list(all_changes)
        before, now = self.atoms, atoms
        pairs = [
            ("positions", before.positions, now.positions),
            ("numbers", before.numbers, now.numbers),
            ("cell", before.cell.array, now.cell.array),
            ("pbc", before.pbc, now.pbc),
        ]
        if self._moving:
            pairs.append(("momenta", before.get_momenta(), now.get_momenta()))
            pairs.append(("masses", before.get_masses(), now.get_masses()))
        return [name for name, was, value in pairs if was.tobytes() != value.tobytes()]

    def reset(self) -> None:
        """Forget the results and all that came before: the next evaluation is that of a new calculator, bit by bit."""
        super().reset()
        self.extras, self._graph = {}, None
        self._neighbors = NeighborList(self._neighbors.cutoff, self._skin)

    def get_atomic_volumes(self) -> NDArray[np.float64]:
        """(N,) Å³, the volume by which each atom's stress is divided: that of the whole cell.

        ASE divides the kinetic part of per-atom stresses by this, so that
        ``atoms.get_stresses(include_ideal_gas=True)`` sums to ``atoms.get_stress(include_ideal_gas=True)``.
        """
        atoms = self._current_atoms()
        return np.full(len(atoms), atoms.get_volume())

    def _remember(self, atoms: Atoms) -> None:
        """Keep a copy of a structure; where only atoms moved, of their positions."""
        changes = self.check_state(atoms)
        if self.atoms is not None and changes == ["positions"]:
            self.atoms.positions = atoms.positions
        elif changes:
            self.atoms = atoms.copy()

    def _current_atoms(self) -> Atoms:
        if self.atoms is None:
            raise StructureError("the calculator has not seen a structure; set atoms.calc and ask the atoms")
        return self.atoms

    def _evaluate(self, atoms: Atoms) -> tuple[dict[str, Any], dict[str, Any], Graph | None]:
        """Results, what goes with them that ASE has no name for, and the graph if more will be asked of it."""
        if self._known is None or not np.array_equal(atoms.numbers, self._known):
            check_species(np.unique(atoms.numbers).tolist(), self.potential.species, "the potential")
            self._known = atoms.numbers.copy()
        if self.kernel is not None and self.stress_definition == self._at_hand:
            self.evaluations += 1
            return self._by_kernel(self.kernel, atoms), {}, None
        graph = self._make_graph(atoms)
        with_stress = has_volume(atoms)
        self.evaluations += 1
        std = None
        if isinstance(self.potential, Ensemble):
            properties, std = self.potential.predict_with_std(graph)
        else:
            properties = self.potential(graph)
        results, extras = self._as_results(properties, std, with_stress=with_stress)
        return results, extras, graph if self._has_stresses_to_make(results) else None

    def _make_graph(self, atoms: Atoms) -> Graph:
        graph = from_atoms(atoms, self.potential.cutoff, self._neighbors, wanted=self.potential.reads)
        return graph if self._device.type == "cpu" else graph.to(self._device)

    def _has_stresses_to_make(self, results: Mapping[str, Any]) -> bool:
        """Whether per-atom stress was asked for by a definition other than the one that comes with an evaluation."""
        return self.stress_definition != self._at_hand and "stress" in results

    def hold(self, atoms: Atoms, properties: Properties, std: Properties | None = None) -> None:
        """Take as results for a structure what the potential predicted for it elsewhere, say together with others.

        Parameters
        ----------
        atoms : ase.Atoms
        properties : Properties
            Of this structure alone.
        std : Properties, optional
            How far the members of an ensemble are apart.

        Raises
        ------
        NumericalError
            NaN or Inf.
        """
        self._remember(atoms)
        self.results, self.extras = self._as_results(properties, std, with_stress=has_volume(atoms))
        self._graph = self._make_graph(atoms) if self._has_stresses_to_make(self.results) else None

    def _as_results(
        self, properties: Properties, std: Properties | None, *, with_stress: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        results = _ase_arrays(properties, with_stress=with_stress)
        if "energy" in results:
            results["free_energy"] = results["energy"]
        extras = {}
        if std is not None and isinstance(self.potential, Ensemble):
            extras = _disagreement(std, self.potential.uncertainty_scale, with_stress=with_stress)
        if self._has_stresses_to_make(results):
            results.pop("stresses", None)
            for name in ("stresses_std", "stresses_uncertainty"):  # of the other definition
                extras.pop(name, None)
        return results, extras

    def _by_kernel(self, kernel: Kernel, atoms: Atoms) -> dict[str, Any]:
        """Results without the way through graphs and tensors, which takes as long as a small molecule's energy."""
        cell = atoms.cell.array
        found = self._neighbors(atoms.positions, cell, atoms.pbc, shifts=False)
        refuse_overlaps(found)
        edges = (found.pairs.centers, found.pairs.neighbors, found.vectors)
        results = kernel.of_structure(atoms.numbers, edges, cell_volume(cell))
        # what is not finite in one atom is not in the sums either
        for name in ("energy", "stress", "forces"):
            if name in results:
                _require_finite(name, results[name])
        return {**results, "free_energy": results["energy"]}

    def _stresses_by_definition(self, graph: Graph) -> dict[str, Any]:
        """Symmetric part of the virials by the chosen definition, divided by the volume."""
        atomic = virials(self.potential, graph, self.stress_definition)
        stresses = 0.5 * (atomic + atomic.mT) / torch.linalg.det(graph.cell[0]).abs()
        return _ase_arrays(Properties(stresses=stresses), with_stress=True)


def _require_finite(name: str, value: float | NDArray[np.float64]) -> None:
    if not np.isfinite(value).all():
        raise NumericalError(f"the potential gave NaN or Inf for {name}; is the structure far from its data?")


_TO_VOIGT = np.zeros((9, 6))
"""From nine components, row by row, to the six of the symmetric part."""
for _k, (_a, _b) in enumerate(VOIGT):
    _TO_VOIGT[3 * _a + _b, _k] += 0.5
    _TO_VOIGT[3 * _b + _a, _k] += 0.5


def definition_of(calculator: Calculator) -> str:
    """How a calculator splits the stress over atoms, as far as it says: what files with per-atom stress name."""
    if isinstance(calculator, MLCalculator):
        return calculator.stress_definition
    return f"that of {type(calculator).__name__}"


def _ase_arrays(properties: Properties, *, with_stress: bool) -> dict[str, Any]:
    """Tensors to ASE's arrays; refuses NaN and Inf, which ASE's integrators would carry on with."""
    arrays: dict[str, Any] = {}
    for name in SPECS:
        value = getattr(properties, name)
        if value is None or (name in ("stress", "stresses") and not with_stress):
            continue
        value = value.detach().to("cpu", torch.float64).numpy()
        _require_finite(name, value)
        if SPECS[name].components == (3, 3):
            value = value.reshape(-1, 9) @ _TO_VOIGT
        if SPECS[name].per == "structure":
            value = value[0]
        arrays[name] = float(value) if value.ndim == 0 else value
    return arrays


def _disagreement(std: Properties, scale: Mapping[str, float], *, with_stress: bool) -> dict[str, Any]:
    """Standard deviations between the members of an ensemble, and what follows from them."""
    arrays = _ase_arrays(std, with_stress=with_stress)
    extras = {f"{name}_std": value for name, value in arrays.items()}
    if std.forces is not None:
        extras["forces_spread"] = spread(std.forces).cpu().numpy()
    for name in scale.keys() & arrays.keys():
        expected = scale[name] * spread(getattr(std, name)).cpu().numpy()
        extras[f"{name}_uncertainty"] = float(expected[0]) if SPECS[name].per == "structure" else expected
    return extras


def _as_potential(
    source: str | Path | Potential | Model, device: str | torch.device | None, dtype: str | torch.dtype | None
) -> Potential:
    potential: Potential
    if isinstance(source, str | Path):
        potential = accelerate.load(source)
    elif isinstance(source, Model):
        potential = without_references(source)
    elif isinstance(source, Potential):
        potential = source
    else:
        raise ConfigError(f"expected a checkpoint path, a potential or a model, got {type(source).__name__}")
    if device is None and dtype is None:
        return potential
    place = None if device is None else usable_device(device, "device", "'cpu' or leave it out")
    if isinstance(potential, Ensemble):
        members = [_moved(member, place, _torch_dtype(dtype)) for member in derived_members(potential)]
        return Ensemble(members, potential.uncertainty_scale)
    if isinstance(potential, Derived):
        return _moved(potential, place, _torch_dtype(dtype))
    raise ConfigError(f"device and dtype of a {type(potential).__name__} are set where it is made, not here")


def _moved(potential: Derived, device: torch.device | None, dtype: torch.dtype | None) -> Derived:
    """A copy elsewhere, or in another precision; code stays what it is."""
    if potential.compiled is not None:
        if dtype not in (None, potential.dtype) or device not in (None, potential.device):
            raise ConfigError(
                f"code is compiled for {potential.dtype} on {potential.device}, not for dtype {dtype} and device "
                f"{device}; leave both out, compile for that dtype, or give the checkpoint"
            )
        return potential
    return Derived(copy.deepcopy(potential.model).to(device=device, dtype=dtype), potential.baseline)


def _torch_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None:
        return None
    for known in (torch.float32, torch.float64):
        if dtype in (known, str(known).removeprefix("torch.")):
            return known
    raise ConfigError(f"dtype is 'float32' or 'float64', got {dtype!r}")
