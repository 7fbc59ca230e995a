"""Per-atom stress seen otherwise than a potential gives it: by another definition, or with its kinetic part."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.errors import DataError
from ase_mlcalc.graph import Graph
from ase_mlcalc.potential import Potential
from ase_mlcalc.properties import Properties
from ase_mlcalc.training.metrics import Comparison
from ase_mlcalc.virials import check_definition, virials


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
        volume_b = torch.linalg.det(graph.cell).abs()
        volume_n = torch.where(volume_b > 0, volume_b, torch.nan)[graph.system]
        w_nab = virials(self._potential, graph, self._definition)
        return properties._replace(stresses=0.5 * (w_nab + w_nab.mT) / volume_n[:, None, None])


def with_kinetic_part(comparison: Comparison, frames: Sequence[Frame]) -> Comparison:
    """The same with the total stress, -m v v / V included, in predictions and labels.

    Errors stay what they are, for the kinetic part is exact; what they are relative to, the spread of the labels,
    becomes that of the total.  Structures without momenta are left out.

    Raises
    ------
    DataError
        No structure has momenta.
    """
    if not any(frame.atoms.has("momenta") for frame in frames):
        raise DataError("the kinetic part of the stress was asked for, and no structure has momenta; add them")
    kinetic_nab = torch.cat([_kinetic(frame) for frame in frames])
    kinetic_bab = kinetic_nab.new_zeros(len(frames), 3, 3).index_add(0, comparison.system, kinetic_nab)

    def total(part: Properties) -> Properties:
        return part._replace(stress=_sum(part.stress, kinetic_bab), stresses=_sum(part.stresses, kinetic_nab))

    return comparison._replace(prediction=total(comparison.prediction), labels=total(comparison.labels))


def _kinetic(frame: Frame) -> Tensor:
    """(N, 3, 3) eV/Å³; NaN without momenta."""
    atoms = frame.atoms
    if not atoms.has("momenta"):
        return torch.full((len(atoms), 3, 3), torch.nan, dtype=torch.float64)
    p_nc, m_n = torch.from_numpy(atoms.get_momenta()), torch.from_numpy(atoms.get_masses())
    return -p_nc[:, :, None] * p_nc[:, None, :] / m_n[:, None, None] / atoms.get_volume()


def _sum(potential_part: Tensor | None, kinetic: Tensor) -> Tensor | None:
    return None if potential_part is None else potential_part + kinetic
