r"""Per-atom stress of a whole box by a perceptron: all atoms in, all stresses out.

The input is one vector of the positions as fractions of the box, the velocities and the elements of all n atoms, 8 n
numbers for two elements; fully connected layers of n units with ReLU follow, 20 % dropout after the first; the output
is the six components xx yy zz yz xz xy of each atom's stress times volume.

Nothing in it knows about distances, neighbours, rotations or that atoms of one element are alike, and it is for one
box with its atoms in one order.  It is here because a study of a water box started with it: the layers 8 n, n, n, n,
6 n are those of its network, which fitted its training data and did not generalise, and every other model of this
package should do better.
"""

from typing import ClassVar

from pydantic import Field
from torch import nn

from ase_mlcalc.graph import Graph
from ase_mlcalc.model import Model, MoleculeConfig, SpeciesIndex, StressConfig
from ase_mlcalc.nn.atoms import AtomFeatures
from ase_mlcalc.properties import Properties, from_voigt

SMALLEST_WIDTH = 64


class StressMLPConfig(StressConfig, MoleculeConfig):
    """Hyper-parameters of `StressMLP`."""

    cutoff: float = Field(1.0, gt=0, description="Å; not used, since all atoms are seen at once")
    velocities: bool = Field(True, description="velocities are features of the atoms")
    hidden_layers: int = Field(3, ge=1, description="layers between input and output")
    hidden_features: int | None = Field(
        None, gt=0, description=f"units in each of them; default the number of atoms, at least {SMALLEST_WIDTH}"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="fraction dropped in training after the first layer")


class StressMLP(Model, name="stress_mlp", outputs={"stresses"}):
    """See the module's text."""

    Config = StressMLPConfig
    config: StressMLPConfig
    equivariant = False
    smooth = False
    local = False
    transferable: ClassVar[bool] = False

    def __init__(self, config: StressMLPConfig) -> None:
        super().__init__(config)
        n = len(config.numbers)
        self.atoms = AtomFeatures(len(config.species), positions=True, velocity_scale=config.scale_of_velocities)
        self.reads = self.atoms.reads
        self.includes_kinetic = config.part == "total"
        self.species_index = SpeciesIndex(config.species)
        width = config.hidden_features or max(n, SMALLEST_WIDTH)
        layers: list[nn.Module] = [nn.Linear(n * self.atoms.size, width), nn.ReLU(), nn.Dropout(config.dropout)]
        for _ in range(config.hidden_layers - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 6 * n))

    def forward(self, graph: Graph) -> Properties:
        """Stress times volume of all atoms of each structure."""
        x_nf = self.atoms(graph, self.species_index(graph.numbers))
        return Properties(stresses=from_voigt(self.layers(x_nf.view(graph.n_structures, -1)).view(-1, 6)))
