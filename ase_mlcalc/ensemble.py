r"""Several potentials as one: the mean of what they predict, and how far they are apart.

For M members with predictions :math:`x_k`, component by component,

.. math::

    \bar x = \frac{1}{M} \sum_k x_k, \qquad s^2 = \frac{1}{M - 1} \sum_k (x_k - \bar x)^2

s is the sample standard deviation (divided by M - 1).  The mean of derived forces is the derived force of the mean
energy, so that an ensemble conserves energy as its members do.  The spread of a vector or tensor is the root of the sum
of its s² over components, which does not change when the structure is rotated.

s measures how far the members disagree, not how far they are from the truth; `ase_mlcalc.training.calibration` measures
the factor between the two.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from ase.data import chemical_symbols
from torch import Tensor

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model
from ase_mlcalc.potential import Derived, Potential
from ase_mlcalc.properties import SPECS, Properties

CALIBRATED = ("forces", "stresses", "stress")
"""Properties whose spread can be rescaled.  Not energies: M members leave a single number only M - 1 degrees of
freedom, too few for a factor that is not ruled by chance agreement."""


class Ensemble:
    """A committee of potentials: results are the mean of theirs, with standard deviations.

    Parameters
    ----------
    members : sequence of Potential
        Two or more, of any families, with one cutoff and one set of species, on one device.
    uncertainty_scale : mapping of property to float, optional
        Measured on labelled structures: what the spread of ``forces``, ``stress`` or ``stresses`` is multiplied by to
        be the error that is expected.  Standard deviations are never rescaled; see `MLCalculator.extras`.

    Raises
    ------
    ConfigError
        Fewer than two members, one member twice, different species, cutoffs or devices, or no property that all have;
        a scale that is not a positive number.
    """

    def __init__(self, members: Sequence[Potential], uncertainty_scale: Mapping[str, float] | None = None) -> None:
        self.members = tuple(members)
        _refuse_what_is_no_ensemble(self.members)
        self.properties = frozenset[str].intersection(*(member.properties for member in self.members))
        if not self.properties:
            each = "; ".join(f"member {k}: {_listed(m.properties)}" for k, m in enumerate(self.members, 1))
            raise ConfigError(f"the members of an ensemble have no property in common ({each}); choose others")
        scale = dict(uncertainty_scale or {})
        for name, factor in scale.items():
            if name not in CALIBRATED or not (math.isfinite(factor) and factor > 0):
                raise ConfigError(
                    f"uncertainty_scale maps {', '.join(CALIBRATED)} to positive numbers, got {name!r}: {factor!r}"
                )
        self.uncertainty_scale: Mapping[str, float] = scale

    @property
    def cutoff(self) -> float:
        """Å, the same for all members."""
        return self.members[0].cutoff

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that all members know."""
        return self.members[0].species

    @property
    def reads(self) -> frozenset[str]:
        """Fields of `Graph` that any member reads."""
        return frozenset[str]().union(*(member.reads for member in self.members))

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.members[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the least precise member."""
        dtypes = {member.dtype for member in self.members}
        return torch.float32 if torch.float32 in dtypes else torch.float64

    def __call__(self, graph: Graph) -> Properties:
        """Mean of the members' properties; the results are detached."""
        return mean_and_std(self._predictions(graph))[0]

    def predict_with_std(self, graph: Graph) -> tuple[Properties, Properties]:
        """Mean and sample standard deviation of the members' properties.

        Parameters
        ----------
        graph : Graph

        Returns
        -------
        mean, std : Properties
            Float64, in the units of `Properties`; NaN in both where the members have NaN (stress without a volume).
        """
        return mean_and_std(self._predictions(graph))

    def _predictions(self, graph: Graph) -> list[Properties]:
        return [_only(member(graph), self.properties) for member in self.members]


def mean_and_std(predictions: Sequence[Properties]) -> tuple[Properties, Properties]:
    """Mean and sample standard deviation, component by component, of what members predict.

    Parameters
    ----------
    predictions : sequence of Properties
        Of the same structures, one a member, at least two.

    Returns
    -------
    mean, std : Properties
        Float64; ``None`` where a member predicts nothing.

    Raises
    ------
    ValueError
        Fewer than two members: one alone has no standard deviation.
    """
    if len(predictions) < 2:
        raise ValueError(f"a standard deviation takes at least two predictions, got {len(predictions)}")
    mean, std = {}, {}
    for name in SPECS:
        values = [getattr(prediction, name) for prediction in predictions]
        if any(value is None for value in values):
            continue
        values_k = torch.stack([value.double() for value in values])
        mean[name] = values_k.mean(dim=0)
        std[name] = values_k.std(dim=0, correction=1)
    return Properties(**mean), Properties(**std)


def spread(std: Tensor) -> Tensor:
    """(M,) root of the summed squares of the components of each item: the same from wherever a structure is looked at.

    Parameters
    ----------
    std : (M, ...)
        Standard deviations of M items: forces of atoms (M, 3), stresses (M, 3, 3), energies (M,).
    """
    return torch.linalg.vector_norm(std.reshape(len(std), -1), dim=1)


def models_of(potential: Derived | Ensemble) -> tuple[Model, ...]:
    """The models in a potential: its own, or that of each member.

    Raises
    ------
    ConfigError
        A member is neither a model with its baseline nor an ensemble of such.
    """
    if isinstance(potential, Derived):
        return (potential.model,)
    return tuple(derived.model for derived in derived_members(potential))


def derived_members(ensemble: Ensemble) -> tuple[Derived, ...]:
    """The members of an ensemble, each a model with its baseline.

    Raises
    ------
    ConfigError
        A member is something else.
    """
    for number, member in enumerate(ensemble.members, 1):
        if not isinstance(member, Derived):
            raise ConfigError(
                f"member {number} of the ensemble is a {type(member).__name__}; only ensembles whose members are "
                "models with their baselines (Derived) can be taken apart, saved or moved"
            )
    return tuple(member for member in ensemble.members if isinstance(member, Derived))


def _only(properties: Properties, names: frozenset[str]) -> Properties:
    return Properties(**{name: getattr(properties, name) for name in names})


def _refuse_what_is_no_ensemble(members: Sequence[Potential]) -> None:
    if len(members) < 2:
        raise ConfigError(
            f"an ensemble takes at least two members, got {len(members)}; one potential alone has no standard "
            "deviation: use it as it is"
        )
    for number, member in enumerate(members, 1):
        if not isinstance(member, Potential):
            raise ConfigError(
                f"member {number} of the ensemble is a {type(member).__name__}, not a potential; give checkpoints "
                "read by ase_mlcalc.load, or use EnsembleCalculator for ASE calculators"
            )
    if len({id(member) for member in members}) < len(members):
        raise ConfigError("one potential is in the ensemble twice, which tells nothing about its error; leave it out")
    _require_same("species", [", ".join(chemical_symbols[z] for z in member.species) for member in members],
                  "train all members with one model.species")  # fmt: skip
    _require_same("cutoffs", [f"{member.cutoff:g} Å" for member in members],
                  "train all with one model.cutoff, or use EnsembleCalculator([MLCalculator(each), ...]), which builds "
                  "one graph a member")  # fmt: skip
    _require_same("devices", [str(member.device) for member in members], "move all to one device")


def _require_same(what: str, values: Sequence[str], instead: str) -> None:
    if len(set(values)) > 1:
        each = "; ".join(f"member {number}: {value}" for number, value in enumerate(values, 1))
        raise ConfigError(f"the members of an ensemble have different {what} ({each}); {instead}")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
