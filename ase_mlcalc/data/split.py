"""Deterministic splits into training, validation and the rest."""

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError


def split(
    n: int, n_train: int, n_val: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of training, validation and remaining structures, in random order.

    All three are pieces of one permutation that depends on `n` and `seed` only: training structures from its front,
    validation structures from its back.  So a larger training set contains the smaller one and leaves the validation
    set as it was, which is what a learning curve needs.

    Parameters
    ----------
    n : int
        Number of structures.
    n_train, n_val : int
    seed : int

    Raises
    ------
    DataError
        More structures asked for than there are, or a negative number.
    """
    if n_train < 0 or n_val < 0:
        raise DataError(f"cannot take {n_train} training and {n_val} validation structures; give numbers from 0 on")
    if n_train + n_val > n:
        raise DataError(
            f"{n_train} training + {n_val} validation structures asked for, but there are only {n}; "
            "ask for fewer or add data"
        )
    order = np.random.default_rng(seed).permutation(n)
    return order[:n_train], order[n - n_val :], order[n_train : n - n_val]
