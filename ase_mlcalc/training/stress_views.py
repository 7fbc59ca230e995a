"""Per-atom stress seen otherwise than a potential gives it: by another definition, or with its kinetic part."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ase_mlcalc.data.definitions import only_definition
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.geometry import kinetic_part
from ase_mlcalc.errors import ConfigError, DataError
from ase_mlcalc.graph import Graph
from ase_mlcalc.potential import Potential, per_volume
from ase_mlcalc.properties import Properties
from ase_mlcalc.training.metrics import Comparison
from ase_mlcalc.virials import (
    DEFAULT_STRESS_DEFINITION,
    DEFINITIONS,
    check_definition,
    definition_at_hand,
    virials,
)


class SplitBy:
    """A potential whose per-atom stress is split over atoms by a definition of our choice.

    Parameters
    ----------
    potential : Derived or Ensemble
    definition : str
        One of `ase_mlcalc.virials.DEFINITIONS`.

    Raises
    ------
    ConfigError
        Unknown definition, or one that the model cannot give.
    """

    def __init__(self, potential: Potential, definition: str) -> None:
        check_definition(potential, definition)
        self._potential, self._definition = potential, definition
        self.cutoff, self.species = potential.cutoff, potential.species
        self.properties, self.reads = potential.properties, potential.reads
        self.device, self.dtype = potential.device, potential.dtype

    def __call__(self, graph: Graph) -> Properties:
        """Evaluate; the symmetric part of the stress of each atom, NaN without a volume."""
        properties = self._potential(graph)
        w_nab = virials(self._potential, graph, self._definition)
        return properties._replace(stresses=per_volume(graph, 0.5 * (w_nab + w_nab.mT)))


def split_as_labels(
    potential: Potential, frames: Sequence[Frame], of_labels: Sequence[str] = (), wanted: str | None = None
) -> str | None:
    """The definition of per-atom stress to measure a potential by; ``None``: as the potential gives it.

    Parameters
    ----------
    potential : Potential
    frames : sequence of Frame
        Labels that name one of our definitions are compared with predictions of the same.
    of_labels : sequence of str
        Definitions of the labels that a potential learned its per-atom stress from.
    wanted : str, optional
        What was asked for; it is taken whatever the labels say.

    Raises
    ------
    DataError
        Labels of several definitions, or of one that the potential cannot give.
    """
    if "stresses" not in potential.properties:
        return wanted
    leave_out = "ignore them (--key stresses=none)"
    of_frames = only_definition(frames, f"measure structures of one definition at a time, or {leave_out}")
    if wanted is not None or of_frames not in DEFINITIONS:
        return wanted
    at_hand = definition_at_hand(potential, of_labels)
    if of_frames == at_hand or (at_hand != DEFAULT_STRESS_DEFINITION and (not of_labels or of_frames in of_labels)):
        return None
    clash = f"the per-atom stresses are labelled by definition {of_frames!r}"
    if at_hand != DEFAULT_STRESS_DEFINITION:
        raise DataError(f"{clash}, and the model learned {at_hand}; {leave_out}, or label by the same definition")
    try:
        check_definition(potential, of_frames)
    except ConfigError as error:
        raise DataError(
            f"{clash}, which the model cannot give ({error}); {leave_out}, or compare with another definition on "
            f"purpose (--definition {at_hand})"
        ) from error
    return of_frames


def with_kinetic_part(comparison: Comparison, frames: Sequence[Frame]) -> Comparison:
    """The same with the total stress, -m v v / V included, in predictions and labels.

    Errors stay what they are, for the kinetic part is exact; what they are relative to, the spread of the labels,
    becomes that of the total.  Structures without momenta or without volume are left out.

    Raises
    ------
    DataError
        No structure has momenta.
    """
    if not any(frame.atoms.has("momenta") for frame in frames):
        raise DataError("the kinetic part of the stress was asked for, and no structure has momenta; add them")
    kinetic_nab = torch.from_numpy(np.concatenate([kinetic_part(frame.atoms) for frame in frames]))
    kinetic_bab = kinetic_nab.new_zeros(len(frames), 3, 3).index_add(0, comparison.system, kinetic_nab)

    def total(part: Properties) -> Properties:
        return part._replace(stress=_sum(part.stress, kinetic_bab), stresses=_sum(part.stresses, kinetic_nab))

    return comparison._replace(prediction=total(comparison.prediction), labels=total(comparison.labels))


def _sum(potential_part: Tensor | None, kinetic: Tensor) -> Tensor | None:
    return None if potential_part is None else potential_part + kinetic
