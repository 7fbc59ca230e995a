r"""The descriptor of a molecule: inverse distances of all its pairs of atoms, :math:`x_{ab} = 1 / r_{ab}`.

Pairs d = 1 ... N (N - 1) / 2 are numbered along the rows of the lower triangle, (1, 0), (2, 0), (2, 1), (3, 0), ...
"""

import torch
from torch import Tensor


def pairs_of(n_atoms: int) -> tuple[Tensor, Tensor]:
    """(D,) and (D,): the atoms a > b of each pair."""
    a_d, b_d = torch.tril_indices(n_atoms, n_atoms, offset=-1)
    return a_d, b_d


def n_atoms_of(n_pairs: int) -> int:
    """N of D = N (N - 1) / 2."""
    return round((1 + (1 + 8 * n_pairs) ** 0.5) / 2)


def permutations_of_pairs(permutations: Tensor) -> Tensor:
    """What permutations of atoms do to the pairs of atoms.

    Parameters
    ----------
    permutations : (S, N)
        Atom n of the permuted molecule is atom ``permutations[s, n]``.

    Returns
    -------
    (S, D)
        ``x[result[s]]`` is the descriptor of the permuted molecule.
    """
    n_atoms = permutations.shape[1]
    a_d, b_d = pairs_of(n_atoms)
    number = torch.zeros(n_atoms, n_atoms, dtype=torch.int64)
    number[a_d, b_d] = number[b_d, a_d] = torch.arange(len(a_d))
    return number[permutations[:, a_d], permutations[:, b_d]]


def jacobians(vectors_mdc: Tensor, n_atoms: int) -> Tensor:
    r"""Derivatives of the descriptor by positions, :math:`\partial x_{ab} / \partial R_a = (R_b - R_a) / r_{ab}^3`.

    Parameters
    ----------
    vectors_mdc : (M, D, 3) Å
        R_b - R_a of each pair.
    n_atoms : int

    Returns
    -------
    (M, D, 3 N) 1/Å²
    """
    a_d, b_d = pairs_of(n_atoms)
    slope_mdc = vectors_mdc / torch.linalg.vector_norm(vectors_mdc, dim=2, keepdim=True) ** 3
    j_mdnc = slope_mdc.new_zeros(*slope_mdc.shape[:2], n_atoms, 3)
    d = torch.arange(len(a_d))
    j_mdnc[:, d, a_d] = slope_mdc
    j_mdnc[:, d, b_d] = -slope_mdc
    return j_mdnc.flatten(2)
