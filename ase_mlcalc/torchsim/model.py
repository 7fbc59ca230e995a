"""`TorchSimModel`: any potential of this package as a model of TorchSim."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_sim.models.interface import ModelInterface

from ase_mlcalc.batch import Batch
from ase_mlcalc.batch.evaluate import refuse_without_energy
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.model import Model
from ase_mlcalc.potential import Potential


class TorchSimModel(ModelInterface):  # type: ignore[misc]  # torch_sim has no types
    """A potential for TorchSim: energy in eV, forces in eV/Å and stress in eV/Å³, positive under tension.

    All systems of a state are evaluated together, by the kernel of this package where it has one for the model, and
    with its neighbour lists, which are kept between calls.  Geometry, energies and forces are float64 inside, whatever
    the state has; results have the type of the state.

    Parameters
    ----------
    potential : path, Potential or Model
        As for `MLCalculator`.
    device : str or torch.device, optional
        Of the model; states are on the same device.
    dtype : "float32", "float64" or torch.dtype, optional
        Precision of the model; default: as stored.
    compile : bool, optional
        As for `MLCalculator`.
    skin : float, Å, or "auto"
        Of the neighbour lists; results do not depend on it.

    Raises
    ------
    ConfigError
        The potential gives no energy.
    """

    def __init__(
        self,
        potential: str | Path | Potential | Model,
        *,
        device: str | torch.device | None = None,
        dtype: Literal["float32", "float64"] | torch.dtype | None = None,
        compile: bool | None = None,  # noqa: A002  (as in MLCalculator)
        skin: float | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        self.potential = MLCalculator(potential, device=device, dtype=dtype, compile=compile).potential
        refuse_without_energy(self.potential)
        self._device, self._dtype = self.potential.device, torch.float64
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"
        self._skin: float | Literal["auto"] = skin
        self._batch: tuple[tuple[Tensor, Tensor, tuple[bool, ...]], Batch] | None = None
        """Elements, systems of atoms and periodic directions, and what was made for them."""

    @property
    def compute_forces(self) -> bool:
        """Whether forces are among the results."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, wanted: bool) -> None:
        self._compute_forces = wanted

    @property
    def compute_stress(self) -> bool:
        """Whether stress is among the results: NaN for systems whose cells have no volume."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, wanted: bool) -> None:
        self._compute_stress = wanted

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energies (B,), forces (N, 3) and stresses (B, 3, 3) of a state.

        Raises
        ------
        StructureError, NumericalError
            A system that cannot be evaluated; the message says which.
        SpeciesError
            An element that the potential does not know.
        """
        with torch.no_grad():
            positions = state.positions.detach().to("cpu", torch.float64).contiguous().numpy()
            cells = state.row_vector_cell.detach().to("cpu", torch.float64).contiguous().numpy()
        found = self._batch_for(state)(positions, cells)
        for system, error in sorted(found.errors.items()):
            raise type(error)(f"system {system}: {error}")
        wanted = {"energy": True, "forces": self._compute_forces, "stress": self._compute_stress}
        results = {name: getattr(found.properties, name) for name, asked in wanted.items() if asked}
        return {name: value.to(state.positions.device, state.positions.dtype) for name, value in results.items()}

    def _batch_for(self, state: Any) -> Batch:
        """What was made for these systems, if the last ones were the same."""
        numbers, system = state.atomic_numbers, state.system_idx
        pbc = _periodic(state.pbc)
        if self._batch is not None:
            (old_numbers, old_system, old_pbc), batch = self._batch
            if old_pbc == pbc and torch.equal(old_numbers, numbers) and torch.equal(old_system, system):
                return batch
        sizes = torch.bincount(system).tolist()
        if 0 in sizes:
            raise ConfigError("a system of the state has no atoms; leave it out")
        each = np.split(numbers.cpu().numpy(), np.cumsum(sizes)[:-1])
        batch = Batch(self.potential, each, np.tile(pbc, (len(sizes), 1)), skin=self._skin)
        self._batch = ((numbers.clone(), system.clone(), pbc), batch)
        return batch


def _periodic(pbc: Any) -> tuple[bool, ...]:
    """The three directions: TorchSim 0.3 has one answer for all, later versions one for each."""
    flags = torch.as_tensor(pbc, dtype=torch.bool).flatten().tolist()
    return tuple(flags * 3 if len(flags) == 1 else flags)
