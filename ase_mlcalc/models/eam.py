r"""The embedded-atom method: pairs, and the energy of putting each atom into the density of its neighbours.

.. math::

    E = \sum_i F_{z_i}(\rho_i) + \tfrac12 \sum_{ij} \phi_{z_i z_j}(d_{ij}), \qquad
    \rho_i = \sum_j f_{z_j}(d_{ij})

F, f and :math:`d\,\phi(d)` are cubic splines through tables on even grids; F goes on as a straight line beyond its last
point.  Nothing is learned.  `read_setfl` reads the tables of a LAMMPS file, `second_moment` computes them from the
parameters of a metal; without either they are those of copper by Cleri and Rosato.

References: M. S. Daw and M. I. Baskes, Phys. Rev. B 29, 6443 (1984); F. Cleri and V. Rosato, Phys. Rev. B 48, 22
(1993).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers
from numpy.typing import NDArray
from pydantic import Field
from scipy.interpolate import CubicSpline
from torch import Tensor

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, ModelConfig, SpeciesIndex
from ase_mlcalc.properties import Properties

Array = NDArray[np.floating]

SMOOTH_END = 1e-6
"""Tables that end with values and slopes below this (eV, density, and per Å) are taken to end smoothly."""


class SecondMoment(NamedTuple):
    r"""A metal in the second-moment approximation of tight binding, as an embedded-atom potential.

    .. math::

        \phi(d) = 2 A \, e^{-p (d / r_0 - 1)}, \qquad f(d) = \xi^2 e^{-2 q (d / r_0 - 1)}, \qquad F(\rho) = -\sqrt\rho

    Reference: F. Cleri and V. Rosato, Phys. Rev. B 48, 22 (1993), who let it act up to the fifth neighbours of fcc
    metals.  Defaults are their copper.
    """

    A: float = 0.0855
    """eV, strength of the repulsion."""
    xi: float = 1.224
    """eV, ξ, strength of the binding."""
    p: float = 10.960
    """How fast the repulsion falls off."""
    q: float = 2.278
    """How fast the binding falls off."""
    r0: float = 3.615 / 2**0.5
    """Å, distance of nearest neighbours."""


COPPER = SecondMoment()


class EmbeddedAtomConfig(ModelConfig):
    """Grids of the tables; their values are saved as weights are."""

    cutoff: float = Field(6.2, gt=0, description="Å; atoms farther apart do not see each other")
    species: tuple[int, ...] = Field((29,), min_length=1, description="atomic numbers that the model knows")
    r_points: int = Field(2001, ge=5, description="points of the tables of f and d φ, from distance 0")
    r_spacing: float = Field(0.0031, gt=0, description="Å between them")
    density_points: int = Field(2001, ge=5, description="points of the tables of F, from density 0")
    density_spacing: float = Field(0.03, gt=0, description="between them, in the unit of the density")
    ends_smoothly: bool = Field(True, description="tables of f and d φ and their slopes are zero at the cutoff")
    source: str = Field("Cleri and Rosato (1993), copper", description="where the tables come from")


class EmbeddedAtom(Model, name="eam", outputs={"energies"}):
    """Embedded-atom potential; see the equations at the top of this file.

    As constructed, all species are copper.
    """

    Config = EmbeddedAtomConfig
    trainable = False
    config: EmbeddedAtomConfig
    embedding: Tensor
    density: Tensor
    pair: Tensor

    def __init__(self, config: EmbeddedAtomConfig) -> None:
        super().__init__(config)
        self.smooth = config.ends_smoothly
        self.row_of = SpeciesIndex(config.species)
        for name, spline in _second_moment_splines(config, COPPER).items():
            self.register_buffer(name, spline)

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies: the embedding energy of each atom and half of its pairs."""
        d_p = torch.linalg.vector_norm(graph.vectors, dim=1)
        inside_p = d_p < self.config.cutoff
        row_n = self.row_of(graph.numbers)
        center_p, neighbor_p = row_n[graph.centers], row_n[graph.neighbors]
        f_p = _spline(self.density, neighbor_p, d_p, self.config.r_spacing)
        rho_n = f_p.new_zeros(graph.n_atoms).index_add(0, graph.centers, torch.where(inside_p, f_p, 0.0))
        e_n = self._embedding_energy(row_n, rho_n)
        phi_p = _spline(self.pair, center_p * len(self.row_of) + neighbor_p, d_p, self.config.r_spacing) / d_p
        return Properties(energies=e_n.index_add(0, graph.centers, torch.where(inside_p, 0.5 * phi_p, 0.0)))

    def _embedding_energy(self, row_n: Tensor, rho_n: Tensor) -> Tensor:
        """F, and its tangent beyond the last point."""
        spacing = self.config.density_spacing
        end = spacing * (self.config.density_points - 1)
        inside_n = rho_n.clamp(max=end)
        c = self.embedding[row_n, -1]
        slope_n = (c[:, 1] + 2 * c[:, 2] + 3 * c[:, 3]) / spacing
        return _spline(self.embedding, row_n, inside_n, spacing) + slope_n * (rho_n - inside_n)


def read_setfl(path: Path | str) -> EmbeddedAtom:
    """The potential of a setfl file (LAMMPS ``pair_style eam/alloy``), for all elements in it.

    Parameters
    ----------
    path : path
        Energies in eV and distances in Å (LAMMPS units ``metal``).

    Returns
    -------
    EmbeddedAtom
        In float64; `MLCalculator` takes it, and ``checkpoint.save(Derived(model), path)`` keeps it.

    Raises
    ------
    ConfigError
        No such file, or one of another layout (eam/fs and single-element funcfl files are not read).
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give a setfl file (eam/alloy)") from error
    try:
        return _parse_setfl(lines, path.name)
    except (ValueError, IndexError, KeyError, StopIteration) as error:
        raise ConfigError(
            f"{path} is not a setfl file of pair style eam/alloy ({type(error).__name__}: {error}); expected three "
            "comment lines, the elements, 'Nrho drho Nr dr cutoff', and for each element Z, F and f, then all r φ(r)"
        ) from error


def _parse_setfl(lines: Sequence[str], name: str) -> EmbeddedAtom:
    count, *symbols = lines[3].split()
    n_rho, d_rho, n_r, d_r, cutoff = (float(word) for word in lines[4].split())
    if int(count) != len(symbols):
        raise ValueError(f"line 4 counts {count} elements and names {len(symbols)}")
    words = (word for line in lines[5:] for word in line.split())
    embedding, density = [], []
    for _symbol in symbols:
        _number, _mass, _lattice_constant, _lattice = (next(words) for _ in range(4))  # often wrong, and not needed
        embedding.append(_take(words, int(n_rho)))
        density.append(_take(words, int(n_r)))
    pair_of = {(i, j): _take(words, int(n_r)) for i in range(len(symbols)) for j in range(i + 1)}
    left = sum(1 for _ in words)
    if left:
        raise ValueError(f"{left} numbers more than announced, as in a file of eam/fs")
    order = sorted(range(len(symbols)), key=lambda k: atomic_numbers[symbols[k]])  # as `species` are
    pair = [pair_of[max(i, j), min(i, j)] for i in order for j in order]
    r = np.arange(int(n_r)) * d_r
    end = min(cutoff, float(r[-1]))
    at_end = [CubicSpline(r, table)(end, k) for table in (*density, *pair) for k in (0, 1)]
    config = EmbeddedAtomConfig(
        cutoff=end,
        species=tuple(atomic_numbers[symbol] for symbol in symbols),
        r_points=int(n_r),
        r_spacing=d_r,
        density_points=int(n_rho),
        density_spacing=d_rho,
        ends_smoothly=bool(np.abs(at_end).max() < SMOOTH_END),
        source=f"{name}: {' '.join(lines[0].split())}",
    )
    model = EmbeddedAtom(config).double()
    model.load_state_dict(
        {
            "embedding": _splines([embedding[k] for k in order]),
            "density": _splines([density[k] for k in order]),
            "pair": _splines(pair),
        }
    )
    return model


def second_moment(numbers: Sequence[int], cutoff: float, parameters: SecondMoment = COPPER) -> EmbeddedAtom:
    """A metal of given second-moment parameters, the same for all species.

    Parameters
    ----------
    numbers : sequence of int
        Atomic numbers.
    cutoff : float, Å
        f and φ are switched off smoothly over the last 7 % before it.
    parameters : SecondMoment
    """
    points = EmbeddedAtomConfig().r_points
    config = EmbeddedAtomConfig(
        cutoff=cutoff, species=tuple(numbers), r_spacing=cutoff / (points - 1), source=f"second moment, {parameters}"
    )
    model = EmbeddedAtom(config).double()
    model.load_state_dict(_second_moment_splines(config, parameters))
    return model


def _second_moment_splines(config: EmbeddedAtomConfig, parameters: SecondMoment) -> dict[str, Tensor]:
    r = np.arange(config.r_points) * config.r_spacing
    rho = np.arange(config.density_points) * config.density_spacing
    switch = _switch((r / config.cutoff - 0.93) / 0.07)
    density = parameters.xi**2 * np.exp(-2 * parameters.q * (r / parameters.r0 - 1)) * switch
    pair = 2 * parameters.A * np.exp(-parameters.p * (r / parameters.r0 - 1)) * r * switch
    n = len(config.species)
    return {
        "embedding": _splines([-np.sqrt(rho)]).repeat(n, 1, 1),
        "density": _splines([density], flat_end=True).repeat(n, 1, 1),
        "pair": _splines([pair], flat_end=True).repeat(n * n, 1, 1),
    }


def _switch(x: Array) -> Array:
    """From 1 at x = 0 to 0 at x = 1, with two continuous derivatives."""
    x = np.clip(x, 0.0, 1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x**2)


def _splines(tables: Sequence[Array], *, flat_end: bool = False) -> Tensor:
    """(n, points - 1, 4) coefficients of 1, u, u², u³, where u goes from 0 to 1 over each interval."""
    ends = ("not-a-knot", (1, 0.0) if flat_end else "not-a-knot")
    coefficients = [CubicSpline(np.arange(len(table)), table, bc_type=ends).c[::-1].T for table in tables]
    return torch.from_numpy(np.ascontiguousarray(coefficients))


def _spline(table: Tensor, row_p: Tensor, x_p: Tensor, spacing: float) -> Tensor:
    """(E,) values of the splines in the rows of a table; its first and last interval go on beyond the ends."""
    t_p = x_p / spacing
    k_p = t_p.detach().long().clamp(0, table.shape[1] - 1)  # tables may have densities slightly below zero
    u_p = t_p - k_p
    c_p = table[row_p, k_p]
    return c_p[:, 0] + u_p * (c_p[:, 1] + u_p * (c_p[:, 2] + u_p * c_p[:, 3]))


def _take(words: Iterator[str], count: int) -> Array:
    values = np.array([float(next(words)) for _ in range(count)])
    if not np.isfinite(values).all():
        raise ValueError("a table holds NaN or Inf")
    return values
