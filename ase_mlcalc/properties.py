"""The physical quantities that models predict and data sets label, with their shapes and units."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Properties(NamedTuple):
    """Model outputs or labels.  ``None``: not given.  NaN: this structure or atom has none.

    Field names are ASE's property names.  N atoms, B structures.
    """

    energy: Tensor | None = None
    """(B,) eV, float64."""
    energies: Tensor | None = None
    """(N,) eV, a partition of `energy`."""
    forces: Tensor | None = None
    """(N, 3) eV/Å."""
    stress: Tensor | None = None
    """(B, 3, 3) eV/Å³, (1/V) dE/dε, positive under tension."""
    stresses: Tensor | None = None
    """(N, 3, 3) eV/Å³ per atom, divided by the total volume, so that the sum over atoms is `stress`.  From a model that
    predicts them: times that volume, which `potential.derive` divides by."""
    edge_forces: Tensor | None = None
    """(E, 3) eV/Å, only from a model that predicts forces of pairs: its stand-in for the gradient dE/dr_ij."""

    def given(self) -> frozenset[str]:
        """Names of the fields that are not ``None``."""
        return frozenset(name for name in self._fields if getattr(self, name) is not None)


class PropertySpec(NamedTuple):
    """What a field of `Properties` holds."""

    per: Literal["structure", "atom"]
    components: tuple[int, ...]
    unit: str


# what can be labelled, evaluated and asked of a calculator
SPECS: dict[str, PropertySpec] = {
    "energy": PropertySpec("structure", (), "eV"),
    "energies": PropertySpec("atom", (), "eV"),
    "forces": PropertySpec("atom", (3,), "eV/Å"),
    "stress": PropertySpec("structure", (3, 3), "eV/Å³"),
    "stresses": PropertySpec("atom", (3, 3), "eV/Å³"),
}


VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Components of a symmetric tensor in ASE's order, xx yy zz yz xz xy."""
FROM_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]
"""Where the nine components of the full tensor are among the six."""


def from_voigt(components_nk: Tensor) -> Tensor:
    """(N, 6) in the order xx yy zz yz xz xy to (N, 3, 3)."""
    order = torch.tensor(FROM_VOIGT, device=components_nk.device)
    return components_nk.index_select(1, order).view(-1, 3, 3)


def check_outputs(names: frozenset[str], where: str) -> None:
    """Raise `ValueError` if a name is not a field of `Properties` that a model can fill in."""
    unknown = sorted(names - set(Properties._fields))
    if unknown:
        raise ValueError(f"{where}: unknown outputs {unknown}; known are {sorted(Properties._fields)}")
