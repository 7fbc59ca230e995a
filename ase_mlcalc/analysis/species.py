"""Elements of a structure as consecutive numbers, and the names of pairs and triplets of them."""

from collections.abc import Iterator

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray


class Species:
    """The S elements of N atoms, ordered by atomic number."""

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        present, kinds = np.unique(numbers, return_inverse=True)
        self.symbols = tuple(chemical_symbols[z] for z in present)
        """(S,)"""
        self.kinds = np.asarray(kinds, dtype=np.int64)
        """(N,) which of the elements each atom is."""
        self.counts = np.bincount(self.kinds)
        """(S,) atoms of each."""

    def __len__(self) -> int:
        return len(self.symbols)

    def pairs(self) -> Iterator[tuple[str, int, int]]:
        """Name and elements of each unordered pair: H-H, H-O, O-O."""
        for a in range(len(self)):
            for b in range(a, len(self)):
                yield f"{self.symbols[a]}-{self.symbols[b]}", a, b

    def ordered_pairs(self) -> Iterator[tuple[str, int, int]]:
        """Name, centre and neighbour: "O around H", H, O."""
        for a in range(len(self)):
            for b in range(len(self)):
                yield f"{self.symbols[b]} around {self.symbols[a]}", a, b

    def triplets(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, one end, centre and other end of each angle: H-O-H."""
        for b in range(len(self)):
            for a in range(len(self)):
                for c in range(a, len(self)):
                    yield f"{self.symbols[a]}-{self.symbols[b]}-{self.symbols[c]}", a, b, c


def pair_name(one: str, other: str) -> str:
    """The name of a pair of elements in either order."""
    return "-".join(sorted((one, other), key=lambda symbol: int(atomic_numbers[symbol])))
