"""The contract of a model, and the registry of all of them.

A model is one file that maps a `Graph` to `Properties`: no autograd, no ASE, no units, no file access and no
reference energies in it.  Everything mechanical follows from it in `potential.derive`.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from itertools import chain
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn

from ase_mlcalc.errors import ConfigError, DataError, ModelError, SpeciesError
from ase_mlcalc.foreign import import_named
from ase_mlcalc.graph import Graph
from ase_mlcalc.neighbors import find_pairs
from ase_mlcalc.properties import Properties, check_outputs

ENTRY_POINT_GROUP = "ase_mlcalc.models"
MODULES_VARIABLE = "ASE_MLCALC_MODELS"
"""Names modules with models that are not installed, separated by commas."""


class ModelConfig(BaseModel):
    """What every model is configured by; each model adds its own hyper-parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(5.0, gt=0, description="Å; atoms farther apart do not see each other")
    species: tuple[int, ...] = Field((1, 8), min_length=1, description="atomic numbers that the model knows")

    @field_validator("species")
    @classmethod
    def _ascending(cls, species: tuple[int, ...]) -> tuple[int, ...]:
        for number in species:
            if not 0 < number < len(chemical_symbols):
                raise ValueError(f"{number} is not an atomic number")
        if len(set(species)) != len(species):
            raise ValueError(f"species are listed twice: {species}")
        return tuple(sorted(species))

    def from_structures(self, structures: Sequence[Atoms]) -> dict[str, Any]:  # noqa: ARG002
        """Values of keys that training takes from its structures where the job does not set them.

        Raises
        ------
        DataError
            Structures that no model of this configuration can be made for.
        """
        return {}


class NetworkConfig(ModelConfig):
    """What models that sum over neighbours are configured by; training sets `mean_neighbors` from its structures."""

    mean_neighbors: float = Field(16.0, gt=0, description="neighbours of an atom on average; sums are scaled by it")

    def from_structures(self, structures: Sequence[Atoms]) -> dict[str, Any]:
        """The average number of neighbours, at least 1, over evenly chosen structures."""
        enough = 100
        chosen = structures[:: math.ceil(len(structures) / enough)]
        found = [find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, self.cutoff) for atoms in chosen]
        pairs = sum(len(each.centers) for each in found)
        mean = max(1.0, round(pairs / sum(len(atoms) for atoms in chosen), 2))
        return {**super().from_structures(structures), "mean_neighbors": mean}


class MoleculeConfig(ModelConfig):
    """What models of one molecule, or of one box of atoms, are configured by; training sets `numbers` from its data."""

    numbers: tuple[int, ...] = Field(
        (8, 1, 1), min_length=1, description="atomic numbers of the atoms, in the order that all structures have"
    )

    @model_validator(mode="before")
    @classmethod
    def _species_of_numbers(cls, data: Any) -> Any:
        if isinstance(data, dict) and "numbers" in data and "species" not in data:
            return {**data, "species": sorted(set(data["numbers"]))}
        return data

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = sorted(set(self.numbers) - set(self.species))
        if "numbers" in self.model_fields_set and unknown:
            raise ValueError(f"numbers hold elements {unknown}, which species {self.species} leave out")
        return self

    def from_structures(self, structures: Sequence[Atoms]) -> dict[str, Any]:
        """The atomic numbers that all structures share; isolated atoms, which are references, do not count."""
        bound = [atoms for atoms in structures if len(atoms) > 1] or list(structures)
        first = tuple(bound[0].numbers.tolist())
        expected = self.numbers if "numbers" in self.model_fields_set else first
        for atoms in bound:
            if tuple(atoms.numbers.tolist()) != expected:
                raise DataError(
                    f"this model is for one composition in one order of atoms, {in_order(expected)}, and a structure "
                    f"has {in_order(atoms.numbers.tolist())}; sort the atoms alike, or choose a transferable model"
                )
        return {**super().from_structures(structures), "numbers": first}


class StressConfig(ModelConfig):
    """What models that predict per-atom stress themselves are configured by; training sets `velocity_scale`."""

    part: Literal["potential", "total"] = Field(
        "potential",
        description="what is learned: the potential part of the stress, or the total with the kinetic part -m v v / V, "
        "which is known exactly and taken out again, so that results are the potential part either way",
    )
    velocities: bool = Field(False, description="velocities are features of atoms; always where the total is learned")
    velocity_scale: float = Field(
        0.05, gt=0, description="Å per ASE time unit; velocities are divided by it, so that they are of order one"
    )

    @property
    def with_velocities(self) -> bool:
        """Whether velocities are features."""
        return self.velocities or self.part == "total"

    @property
    def scale_of_velocities(self) -> float | None:
        """`velocity_scale`, or ``None`` where velocities are no features."""
        return self.velocity_scale if self.with_velocities else None

    def from_structures(self, structures: Sequence[Atoms]) -> dict[str, Any]:
        """The root mean square component of the velocities, if there are any."""
        squares = [np.square(atoms.get_velocities()).ravel() for atoms in structures if atoms.has("momenta")]
        size = float(np.sqrt(np.concatenate(squares).mean())) if squares else 0.0
        return {**super().from_structures(structures), **({"velocity_scale": float(f"{size:.4g}")} if size > 0 else {})}


def in_order(numbers: Sequence[int], most: int = 24) -> str:
    """Atomic numbers as symbols in their order, runs of one element as O2; cut off where they are many."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][0] == number:
            runs[-1] = (number, runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    words = [chemical_symbols[number] + (str(count) if count > 1 else "") for number, count in runs[:most]]
    return " ".join(words) + (f" ... ({len(numbers)} atoms)" if len(runs) > most else "")


class Stage(NamedTuple):
    """A part of the training of a model that is learned part by part; see `Model.stages`."""

    name: str
    """Of the folder that the stage is written to."""
    config: ModelConfig
    """Of the model as it is in this stage; parameters that keep their names go on to the next one."""
    learned: tuple[str, ...] | None = None
    """Names of the parts whose parameters are learned, as in ``train.learn``; the others stay fixed.  ``None``: all."""
    share: float = 1.0
    """Of the time or of the epochs."""


class Model(nn.Module, ABC):
    """A map from a `Graph` to one or more `Properties`.  Subclasses are final.

    A subclass declares itself in its class line, ``class SchNet(Model, name="schnet", outputs={"energies"})``,
    names its `Config`, builds layers in ``__init__`` and computes in ``forward`` from ``graph.vectors``, never from
    ``graph.positions``.  Outputs are numbers of order one; scales and reference energies belong to the potential.

    The flags below are declared, not trusted: `ase_mlcalc.testing.check_model` verifies each, also that a model which
    declares itself not equivariant, say, really is not.  Where a flag depends on the configuration, ``__init__`` sets
    it on the instance.
    """

    name: ClassVar[str]
    """Registry, checkpoint and command-line key."""
    outputs: frozenset[str]
    """Fields of `Properties` that ``forward`` fills in.  Declared in the class line for the default configuration; a
    model whose configuration changes them says so in ``__init__``."""
    depth: int = 1
    """How many layers sum over neighbours, one after the other: an atom feels others up to ``depth`` cutoffs away."""
    reads: frozenset[str] = frozenset({"vectors"})
    """Fields of `Graph` beyond elements and edges that ``forward`` reads.  With energies it may be nothing but
    ``vectors``, or forces and stress would miss a part."""
    includes_kinetic: bool = False
    """Predicted stresses hold the kinetic part -m v v / V, which the potential takes out; see `kinetic_stresses`."""
    equivariant: bool = True
    """Outputs turn with the structure under O(3)."""
    smooth: bool = True
    """Outputs are continuously differentiable while an edge crosses the cutoff."""
    local: bool = True
    """What an atom is given depends on its surroundings only, not on fragments far away."""
    transferable: ClassVar[bool] = True
    """False: made for one molecule in one order of atoms; `Config` then derives from `MoleculeConfig`, and the
    potential refuses other atoms."""
    periodic: ClassVar[bool] = True
    """False: refuses periodic structures."""
    trainable: ClassVar[bool] = True
    """False: nothing to learn (analytic potentials)."""
    Config: ClassVar[type[ModelConfig]]

    def __init_subclass__(cls, *, name: str, outputs: set[str], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if any(issubclass(base, Model) and base is not Model for base in cls.__bases__):
            raise TypeError(f"{cls.__name__} derives from another model; models are final: wrap or copy instead")
        check_outputs(frozenset(outputs), f"model {name!r}")
        if not outputs:
            raise TypeError(f"model {name!r} declares no outputs")
        if not isinstance(cls.__dict__.get("Config"), type) or not issubclass(cls.Config, ModelConfig):
            raise TypeError(f"model {name!r} needs a class attribute Config derived from ModelConfig")
        if not cls.transferable and not issubclass(cls.Config, MoleculeConfig):
            raise TypeError(f"model {name!r} is not transferable, so its Config has to derive from MoleculeConfig")
        earlier = _REGISTRY.get(name, cls)
        if (earlier.__module__, earlier.__qualname__) != (cls.__module__, cls.__qualname__):  # not a module read anew
            raise TypeError(f"two models are named {name!r}: {_described(earlier)} and {_described(cls)}; rename one")
        cls.name = name
        cls.outputs = frozenset(outputs)
        _REGISTRY[name] = cls

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not isinstance(config, self.Config):
            raise ModelError(f"model {self.name!r} takes {self.Config.__qualname__}, got {type(config).__name__}")
        self.config = config

    @abstractmethod
    def forward(self, graph: Graph) -> Properties:
        """Evaluate all structures of a graph."""

    @classmethod
    def stages(cls, config: ModelConfig) -> tuple[Stage, ...]:
        """In which stages a model of this configuration is trained; the last one is that configuration itself."""
        return (Stage("all", config),)

    @property
    def size(self) -> int:
        """How many numbers it holds: parameters, what it was solved for in closed form, or tables of functions."""
        return sum(tensor.numel() for tensor in self.state_dict().values() if tensor.is_floating_point())

    @property
    def dtype(self) -> torch.dtype:
        """Precision that edge vectors are cast to; float64 for models without parameters."""
        numbers = (tensor.dtype for tensor in chain(self.parameters(), self.buffers()) if tensor.is_floating_point())
        return next(numbers, torch.float64)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        places = (tensor.device for tensor in chain(self.parameters(), self.buffers()))
        return next(places, torch.device("cpu"))


@runtime_checkable
class Solvable(Protocol):
    """A model that is trained in closed form, by solving for its numbers instead of taking steps."""

    def solve(
        self,
        train: Sequence[tuple[Graph, Properties]],
        validation: Sequence[tuple[Graph, Properties]],
        report: Callable[[str], None],
    ) -> None:
        """Determine all numbers of the model; before that, ``forward`` raises `NotFittedError`.

        Parameters
        ----------
        train, validation : sequences of (Graph, Properties)
            One structure each, float64, with labels in the numbers of the model: reference energies are taken out,
            and energies and forces divided by the scale of the energies.  What is held back chooses hyper-parameters.
        report : callable
            Takes lines about the progress.
        """


class Clusters(NamedTuple):
    """Terms of an energy, each a function of a few edges that belongs to the same number of atoms.  T terms."""

    atoms: Tensor
    """(T, n) indices of the atoms of each term, the one that holds its energy first."""
    edges: Tensor
    """(T, m) indices of the edges that a term depends on."""
    energy: Callable[[Tensor], Tensor]
    """(T, m, 3) Å edge vectors to (T,) energies in the model's unit."""


@runtime_checkable
class Clustered(Protocol):
    """A model whose whole energy is a sum of terms of a few atoms."""

    def clusters(self, graph: Graph) -> Sequence[Clusters]:
        """All terms of the energy."""


@runtime_checkable
class Tabulable(Protocol):
    """A model with functions of the distance that tables can replace; see `ase_mlcalc.accelerate.tables`."""

    def tabulate(self, table: Callable[[Callable[[Tensor], Tensor], float], nn.Module]) -> None:
        """Replace these functions in the model itself, which is then good for evaluation only.

        Parameters
        ----------
        table : callable
            Makes a module of a function (E,) Å to (E, F), and of the distance from which on it does not matter.
        """


class SpeciesIndex(nn.Module):
    """Atomic numbers to row numbers 0, 1, ... in the order of ``species``."""

    index_of: Tensor

    def __init__(self, species: Sequence[int]) -> None:
        super().__init__()
        self.species = tuple(species)
        table = torch.full((len(chemical_symbols),), -1, dtype=torch.int64)
        table[list(self.species)] = torch.arange(len(self.species))
        self.register_buffer("index_of", table, persistent=False)

    def __len__(self) -> int:
        return len(self.species)

    def forward(self, numbers: Tensor) -> Tensor:
        """(N,) atomic numbers to (N,) rows."""
        return self.index_of[numbers]


def check_species(numbers: Sequence[int], known: Sequence[int], what: str) -> None:
    """Raise `SpeciesError` naming the elements that are not known."""
    unknown = sorted({int(z) for z in numbers} - set(known))
    if unknown:
        got = ", ".join(f"{chemical_symbols[z] if z < len(chemical_symbols) else '?'} (Z={z})" for z in unknown)
        have = ", ".join(chemical_symbols[z] for z in known)
        raise SpeciesError(f"{what} does not know {got}; it knows {have}: use or train a model with these elements")


def usable_device(name: str | torch.device, key: str, instead: str) -> torch.device:
    """The device of that name; raises `ConfigError` that names `key` and what to use `instead` if it is not there."""
    try:
        probe = torch.zeros(1, device=name, dtype=torch.float64)  # energies are summed in it; not every device has it
        probe.item()  # nor has "meta" any numbers
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key} = {str(name)!r} cannot be used here ({reason}); use {instead}") from error
    return probe.device


def _described(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


_REGISTRY: dict[str, type[Model]] = {}
_LOADED_ENTRY_POINTS: set[str] = set()


def registered() -> dict[str, type[Model]]:
    """All models by name: the package's own, of entry points ``ase_mlcalc.models``, and of ``$ASE_MLCALC_MODELS``.

    Raises
    ------
    ModelError
        A module that the variable names cannot be imported.
    """
    import ase_mlcalc.models  # noqa: F401  (each file of the folder registers its model)

    for module in filter(None, os.environ.get(MODULES_VARIABLE, "").split(",")):
        try:
            import_named(module.strip())
        except ImportError as error:
            raise ModelError(f"{MODULES_VARIABLE} names {module!r}, which cannot be imported: {error}") from error
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.value not in _LOADED_ENTRY_POINTS:
            load: Callable[[], object] = point.load
            load()
            _LOADED_ENTRY_POINTS.add(point.value)
    return dict(sorted(_REGISTRY.items()))


def lookup(name: str) -> type[Model]:
    """The model class of that name.

    Raises
    ------
    ModelError
        No such model is registered.
    """
    if name in _REGISTRY:  # no look at what is installed, so that a model of models opens no files
        return _REGISTRY[name]
    models = registered()
    if name not in models:
        raise ModelError(
            f"unknown model {name!r}; registered are {', '.join(models)}. "
            f"One of your own is found with {MODULES_VARIABLE}=MODULE, the module that it is written in"
        )
    return models[name]
