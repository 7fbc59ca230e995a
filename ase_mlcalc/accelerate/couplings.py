"""Straight C++ code for products of irreps and spherical harmonics, from the coefficients that the torch model uses.

Most couplings are zero: writing out those that are not takes a tenth of the operations of matrix products.
"""

from functools import cache

import torch
from torch import Tensor

from ase_mlcalc.nn.irreps import SphericalHarmonics, coupling_matrix

ZERO = 1e-12


@cache
def couplings_header(l_max: int) -> str:
    """``couplings.h`` for ``equivariant.cpp``."""
    matrix, n_paths = coupling_matrix(l_max, l_max)
    lines = [
        f"constexpr int N_PATHS[L + 1] = {{{', '.join(map(str, n_paths))}}};",
        f"constexpr int N_COUPLED = {len(matrix)};",
        *_couple(matrix, n_paths, l_max),
        *_couple_back(matrix, n_paths, l_max),
        *_harmonics(l_max),
        *_harmonics_back(l_max),
        *_harmonics_change(l_max),
    ]
    return "\n".join(lines) + "\n"


def _couple(matrix: Tensor, n_paths: list[int], l_max: int) -> list[str]:
    """The products that an `IrrepsProduct` mixes, of one vector of channels of atom i of n."""
    size = (l_max + 1) ** 2
    lines = [
        "",
        "// component k of the factors at left + k * step and right + k * step",
        "template <int LO, bool ADD>",
        "inline void couple(const REAL *left, const REAL *right, ptrdiff_t step, REAL *out, int n, int i) {",
        *_factors(size),
    ]
    for row, (l, m, path, before) in enumerate(_rows(n_paths)):
        if m == path == 0:
            lines += ["    }"] if l else []
            lines.append(f"    if constexpr (LO >= {l}) {{")
        terms = " + ".join(_times(c, f"a{k // size} * b{k % size}") for k, c in _filled(matrix[row]))
        place = f"out + {_place(l, m, path, before, n_paths)}"
        lines.append(f"        store({place}, ADD ? load({place}) + ({terms}) : {terms});")
    return [*lines, "    }", "}"]


def _couple_back(matrix: Tensor, n_paths: list[int], l_max: int) -> list[str]:
    """From the slopes of `_couple`'s products to those of both factors."""
    size = (l_max + 1) ** 2
    rows = list(_rows(n_paths))
    lines = [
        "",
        "template <int LO, bool ADD>",
        "inline void couple_back(",
        "    const REAL *left, const REAL *right, ptrdiff_t step, const REAL *in, int n, int i, REAL *slope_left,",
        "    REAL *slope_right) {",
        *_factors(size),
        *(f"    V s{k} = {{}}, t{k} = {{}};" for k in range(size)),
    ]
    for top in range(l_max + 1):
        lines.append(f"    if constexpr (LO >= {top}) {{")
        mine = [row for row, (l, *_) in enumerate(rows) if l == top]
        lines += [f"        const V g{row} = load(in + {_place(*rows[row], n_paths)});" for row in mine]
        for pair in range(size**2):
            terms = [_times(float(matrix[row, pair]), f"g{row}") for row in mine if abs(matrix[row, pair]) > ZERO]
            if terms:
                left, right = pair // size, pair % size
                lines.append(
                    f"        {{ const V g = {' + '.join(terms)}; s{left} += g * b{right}; t{right} += g * a{left}; }}"
                )
        lines.append("    }")
    for k in range(size):
        for name, slope in (("left", f"s{k}"), ("right", f"t{k}")):
            place = f"slope_{name} + {k} * step"
            lines.append(f"    store({place}, ADD ? load({place}) + {slope} : {slope});")
    return [*lines, "}"]


def _factors(size: int) -> list[str]:
    return [f"    const V a{k} = load(left + {k} * step), b{k} = load(right + {k} * step);" for k in range(size)]


def _harmonics(l_max: int) -> list[str]:
    lines = [
        "",
        "// of a unit vector, as nn.irreps.SphericalHarmonics",
        "inline void harmonics(const REAL *u, REAL *y) {",
    ]
    lines.append("    y[0] = 1;")
    lines += [f"    y[{1 + a}] = REAL({3**0.5!r}) * u[{a}];" for a in range(3) if l_max]
    for l, coupling in _recursion(l_max):
        for m in range(2 * l + 1):
            terms = [
                _times(float(coupling[3 * a + b, m]), f"y[{(l - 1) ** 2 + a}] * y[{1 + b}]")
                for a in range(2 * l - 1)
                for b in range(3)
                if abs(coupling[3 * a + b, m]) > ZERO
            ]
            lines.append(f"    y[{l * l + m}] = {' + '.join(terms)};")
    return [*lines, "}"]


def _harmonics_back(l_max: int) -> list[str]:
    size = (l_max + 1) ** 2
    lines = [
        "",
        "// slopes of the harmonics to those of the components of the direction",
        "inline void harmonics_back(const REAL *u, const REAL *y, const V *of_y, V *of_u) {",
        *(f"    V s{k} = of_y[{k}];" for k in range(1, size)),
    ]
    for l, coupling in reversed(list(_recursion(l_max))):
        for a in range(2 * l - 1):
            for b in range(3):
                terms = [
                    _times(float(coupling[3 * a + b, m]), f"s{l * l + m}")
                    for m in range(2 * l + 1)
                    if abs(coupling[3 * a + b, m]) > ZERO
                ]
                if terms:
                    below = (l - 1) ** 2 + a
                    lines += [
                        f"    {{ const V s = {' + '.join(terms)};",
                        f"      s{below} += s * y[{1 + b}]; s{1 + b} += s * y[{below}]; }}",
                    ]
    lines += [f"    of_u[{a}] = s{1 + a} * REAL({3**0.5!r});" for a in range(3)]
    return [*lines, "    (void)u, (void)y;", "}"]


def _harmonics_change(l_max: int) -> list[str]:
    lines = [
        "",
        "// how fast they change when the direction does",
        "inline void harmonics_change(const REAL *u, const REAL *y, const REAL *u_change, REAL *change) {",
        "    change[0] = 0;",
    ]
    lines += [f"    change[{1 + a}] = REAL({3**0.5!r}) * u_change[{a}];" for a in range(3) if l_max]
    for l, coupling in _recursion(l_max):
        for m in range(2 * l + 1):
            terms = [
                _times(float(coupling[3 * a + b, m]), f"(change[{i}] * y[{j}] + y[{i}] * change[{j}])")
                for a in range(2 * l - 1)
                for b in range(3)
                for i, j in [((l - 1) ** 2 + a, 1 + b)]
                if abs(coupling[3 * a + b, m]) > ZERO
            ]
            lines.append(f"    change[{l * l + m}] = {' + '.join(terms)};")
    return [*lines, "    (void)u;", "}"]


def _recursion(l_max: int) -> list[tuple[int, Tensor]]:
    """Degree l from l - 1 and 1: ((2 l - 1) * 3, 2 l + 1)."""
    kept = SphericalHarmonics(l_max).couplings
    return [(l, coupling(torch.zeros(0, dtype=torch.float64))) for l, coupling in enumerate(kept, start=2)]


def _rows(n_paths: list[int]) -> list[tuple[int, int, int, int]]:
    """Degree, component, path and the number of rows of lower degrees of each row of the coupling matrix."""
    rows, before = [], 0
    for l, paths in enumerate(n_paths):
        rows += [(l, m, path, before) for m in range(2 * l + 1) for path in range(paths)]
        before += (2 * l + 1) * paths
    return rows


def _place(l: int, m: int, path: int, before: int, n_paths: list[int]) -> str:
    """Where a product is kept: degrees one after the other, (component, atom, path, channel) in each."""
    return f"(({before} + {m * n_paths[l]}) * n + i * {n_paths[l]} + {path}) * C"


def _filled(row: Tensor) -> list[tuple[int, float]]:
    return [(int(k), float(row[k])) for k in row.abs().gt(ZERO).nonzero()[:, 0]]


def _times(coefficient: float, what: str) -> str:
    return what if coefficient == 1.0 else f"REAL({coefficient!r}) * {what}"
