r"""A sum of models: the energy of each atom is a weighted sum of what the parts say,

.. math:: U_i = \sum_k s_k U_i^{(k)} .

So a correction that was learned on top of another potential becomes one potential with it (Δ-learning; R. Ramakrishnan
et al., J. Chem. Theory Comput. 11, 2087 (2015)), and everything mechanical follows from the one gradient of the sum.
Each part sees neighbours up to its own cutoff.  `ase_mlcalc.sums.add` makes sums of potentials; none is trained here.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ase_mlcalc.errors import MLCalcError, ModelError
from ase_mlcalc.graph import Graph, within
from ase_mlcalc.model import Model, ModelConfig, lookup
from ase_mlcalc.properties import Properties


class Part(BaseModel):
    """One model of a sum."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="its name")
    config: dict[str, Any] = Field({}, description="its own keys; species default to those of the sum")
    scale: float = Field(1.0, description="what its energies are multiplied by")


TWO_PARTS = (
    Part(model="lennard_jones"),
    Part(model="schnet", config={"features": 16, "n_interactions": 1}),
)


class SumConfig(ModelConfig):
    """Parts and their weights; the cutoff follows from the parts."""

    parts: tuple[Part, ...] = Field(TWO_PARTS, min_length=1, description="models with their scales")

    @model_validator(mode="after")
    def _fits_its_parts(self) -> Self:
        cutoffs = []
        for number, part in enumerate(self.parts, 1):
            try:
                part_class = lookup(part.model)
            except MLCalcError as error:
                raise ValueError(f"part {number}: {error}") from error
            if not part_class.transferable:
                raise ValueError(f"part {number}: {part.model!r} is made for one molecule and cannot be in a sum")
            config = part_class.Config.model_validate({"species": self.species, **part.config})
            if unknown := sorted(set(self.species) - set(config.species)):
                raise ValueError(f"part {number}: {part.model!r} does not know the elements {unknown}")
            cutoffs.append(config.cutoff)
        if "cutoff" in self.model_fields_set and self.cutoff != max(cutoffs):
            raise ValueError(f"the cutoff of a sum is the largest of its parts, {max(cutoffs)} Å, got {self.cutoff} Å")
        object.__setattr__(self, "cutoff", max(cutoffs))  # frozen for everybody else
        return self


class Sum(Model, name="sum", outputs={"energies"}):
    """See the module's text.  Flags are what holds for all parts."""

    Config = SumConfig
    config: SumConfig
    trainable = False

    def __init__(self, config: SumConfig) -> None:
        super().__init__(config)
        made: list[Model] = []
        for described in config.parts:
            part_class = lookup(described.model)
            made.append(part_class(part_class.Config.model_validate({"species": config.species, **described.config})))
        self.parts = nn.ModuleList(made)
        self.scales = tuple(part.scale for part in config.parts)
        for part in made:
            if part.outputs != {"energies"}:
                raise ModelError(
                    f"model {part.name!r} predicts {', '.join(sorted(part.outputs))}; sums are of energies of atoms"
                )
        self.depth = max(part.depth for part in made)
        self.reads = frozenset().union(*(part.reads for part in made))
        self.equivariant = all(part.equivariant for part in made)
        self.smooth = all(part.smooth for part in made)
        self.local = all(part.local for part in made)

    def forward(self, graph: Graph) -> Properties:
        """Per-atom energies."""
        total: Tensor | None = None
        for part, scale in zip(self.parts, self.scales, strict=True):
            assert isinstance(part, Model)
            seen = graph if part.config.cutoff == self.config.cutoff else within(graph, part.config.cutoff)
            energies = scale * part(seen).energies
            total = energies if total is None else total + energies
        return Properties(energies=total)
