"""Potentials in the files of RuNNer and n2p2: ``input.nn``, ``scaling.data`` and ``weights.ZZZ.data``.

The formats are described in the documentation of n2p2 (A. Singraber, J. Behler and C. Dellago, J. Chem. Theory Comput.
15, 1827 (2019)) and of RuNNer (J. Behler, Angew. Chem. Int. Ed. 56, 12828 (2017)).  With networks N of scaled symmetry
functions G, the energy is

    E = sum_i [ N(G_i) / conv_energy + mean_energy + atom_energy ]

in the units of the files, bohr and hartree by custom.  Weights and scaling refer to the functions of an element in
sorted order, by kind, cutoff, η, r_s, ζ, λ and then the elements of the neighbours.  ``conv_length`` need not be known:
symmetry functions have no dimension.
"""

from ase_mlcalc.n2p2.read import read_n2p2
from ase_mlcalc.n2p2.write import write_n2p2

__all__ = ["read_n2p2", "write_n2p2"]
