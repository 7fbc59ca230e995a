"""Deterministic splits into training, validation and the rest."""

import numpy as np
from numpy.typing import NDArray

from ase_mlcalc.errors import DataError


def split(
    n: int, n_train: int, n_val: int, seed: int, *, n_test: int = 0, draw_seed: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of training, validation and remaining structures, in random order.

    All three are pieces of one permutation that depends on `n` and `seed` only: training structures from its front,
    validation structures from its back, test structures before them.  So a larger training set contains the smaller one
    and leaves the validation set as it was, which is what a learning curve needs.

    Parameters
    ----------
    n : int
        Number of structures.
    n_train, n_val : int
    seed : int
    n_test : int
        The last so many of the remaining structures are the same for every `n_train` and `draw_seed`.
    draw_seed : int, optional
        Shuffles what is neither validation nor test once more, so that other structures are trained on.

    Raises
    ------
    DataError
        More structures asked for than there are, or a negative number.
    """
    if min(n_train, n_val, n_test) < 0:
        raise DataError(
            f"cannot take {n_train} training, {n_val} validation and {n_test} test structures; give numbers from 0 on"
        )
    if n_train + n_val + n_test > n:
        tested = f" + {n_test} test" if n_test else ""
        raise DataError(
            f"{n_train} training + {n_val} validation{tested} structures asked for, but there are only {n}; "
            "ask for fewer or add data"
        )
    order = np.random.default_rng(seed).permutation(n)
    front, test, validation = np.split(order, [n - n_val - n_test, n - n_val])
    if draw_seed is not None:
        front = np.random.default_rng([seed, draw_seed]).permutation(front)
    return front[:n_train], validation, np.concatenate([front[n_train:], test])
