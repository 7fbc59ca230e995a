"""Sums of potentials: a part that has a kernel is evaluated by it, whatever the others are."""

from collections.abc import Sequence

from ase_mlcalc.graph import Graph, within
from ase_mlcalc.potential import Potential
from ase_mlcalc.properties import Properties


class SumOfParts:
    """The results of parts, added up; it can be copied and pickled if they can.

    Parameters
    ----------
    parts : sequence of Potential
        That add up to the potential.
    """

    def __init__(self, parts: Sequence[Potential]) -> None:
        self.parts = parts
        self.cutoff = max(part.cutoff for part in parts)

    def __call__(self, graph: Graph) -> Properties:
        """All structures of a graph with edges up to the largest cutoff."""
        results = [part(graph if part.cutoff == self.cutoff else within(graph, part.cutoff)) for part in self.parts]
        shared = frozenset.intersection(*(result.given() for result in results))
        return Properties(**{name: sum(getattr(result, name) for result in results) for name in shared})
