"""Numbers of a stress that do not change when it is turned."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pressure(stresses: Array) -> Array:
    """(M,) p = -tr(σ)/3 of (M, 6) stresses, positive under compression."""
    result: Array = -stresses[:, :3].mean(axis=1)
    return result


def von_mises(stresses: Array) -> Array:
    r"""(M,) equivalent shear stress :math:`\sqrt{3 s:s/2}` of (M, 6) stresses, s the deviator; zero if isotropic."""
    deviator = stresses[:, :3] + pressure(stresses)[:, None]
    result: Array = np.sqrt(1.5 * (deviator**2).sum(axis=1) + 3.0 * (stresses[:, 3:] ** 2).sum(axis=1))
    return result
