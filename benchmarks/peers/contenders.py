"""Who takes part: the models, with the settings of their field.

A line of `CONTENDERS` is one way to evaluate one network.  Lines with the same `weights` share the network, which is
trained once.
"""

from typing import Any, NamedTuple

CUTOFF_ANGSTROM = 5.0


EVERYTHING = {
    "ours": ("forces", "stress", "stresses"),
    "mace": ("forces", "stress"),
    "nequip": ("forces", "stress"),
    "schnetpack": ("forces",),
}


class Contender(NamedTuple):
    """A network, and how it is evaluated."""

    name: str
    label: str
    """Of the network, for tables and the picture."""
    program: str
    """Which of ``with_....py`` knows it, and the name of its environment."""
    weights: str
    """Name of the network."""
    network: dict[str, Any]
    """Its size, in the words of the program."""
    run: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    """How it is evaluated, in the words of the program."""

    @property
    def ours(self) -> bool:
        """Whether this is a model of this package."""
        return self.program == "ours"

    @property
    def compiled(self) -> bool:
        """Whether code is compiled for it."""
        return bool(self.run.get("compile"))

    @property
    def title(self) -> str:
        """The network, and how it is evaluated."""
        return f"{self.label}, compiled" if self.compiled else self.label

    @property
    def everything(self) -> tuple[str, ...]:
        """What can be asked of its calculator, as it is set up here, in a periodic cell."""
        return EVERYTHING[self.program]


_MACE_64 = {"channels": 64, "max_L": 1}
_MACE_32 = {"channels": 32, "max_L": 1}
_NEQUIP_1 = {"l_max": 1, "features": 32, "layers": 4}
_NEQUIP_2 = {"l_max": 2, "features": 32, "layers": 4}

CONTENDERS: tuple[Contender, ...] = (
    Contender("equivariant-compiled", "equivariant", "ours", "equivariant", {"name": "equivariant"}, {"compile": True}),
    Contender("equivariant", "equivariant", "ours", "equivariant", {"name": "equivariant"}, {"compile": False}),
    Contender("equivariant-1-compiled", "equivariant, 1 interaction", "ours", "equivariant-1",
              {"name": "equivariant", "n_interactions": 1}, {"compile": True}),
    Contender("schnet-compiled", "schnet", "ours", "schnet", {"name": "schnet"}, {"compile": True}),
    Contender("schnet", "schnet", "ours", "schnet", {"name": "schnet"}, {"compile": False}),
    Contender("nequip-l1-compiled", "NequIP l=1", "nequip", "nequip-l1", _NEQUIP_1, {"compile": True}),
    Contender("nequip-l1", "NequIP l=1", "nequip", "nequip-l1", _NEQUIP_1),
    Contender("nequip-l2-compiled", "NequIP l=2", "nequip", "nequip-l2", _NEQUIP_2, {"compile": True}),
    Contender("nequip-l2", "NequIP l=2", "nequip", "nequip-l2", _NEQUIP_2),
    Contender("mace-64", "MACE 64x0e+64x1o", "mace", "mace-64", _MACE_64),
    Contender("mace-32", "MACE 32x0e+32x1o", "mace", "mace-32", _MACE_32),
    Contender("schnetpack-schnet-3", "SchNetPack SchNet-128, 3 layers", "schnetpack", "schnetpack-schnet-3",
              {"representation": "schnet", "features": 128, "interactions": 3}),
    Contender("schnetpack-schnet-6", "SchNetPack SchNet-128, 6 layers", "schnetpack", "schnetpack-schnet-6",
              {"representation": "schnet", "features": 128, "interactions": 6}),
    Contender("schnetpack-painn", "SchNetPack PaiNN-128", "schnetpack", "schnetpack-painn",
              {"representation": "painn", "features": 128, "interactions": 3}),
)  # fmt: skip
"""The first one is what ratios are taken to."""


class Requirements(NamedTuple):
    """What pip installs for a program."""

    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    """Installed after the others and without what they ask for."""


REQUIREMENTS = {
    "mace": Requirements(("mace-torch>=0.3.16",)),
    "nequip": Requirements(("nequip>=0.19",)),
    # release 2.1 asks for a sympy that is older than the one torch needs, and release 2.2 for Python 3.12
    "schnetpack": Requirements(
        (
            *("ase", "dirsync", "fasteners", "h5py", "hydra-colorlog", "hydra-core", "matscipy>=1.1.0", "protobuf"),
            *("pytorch-lightning>=2", "pyyaml", "rich", "tensorboard>=2.17.1", "tensorboardX", "torch-ema"),
            *("torchmetrics", "tqdm", "vesin"),
        ),
        alone=("schnetpack>=2.1",),
    ),
}
"""MACE pins e3nn 0.4.4 and NequIP needs a newer one: each has its own environment."""
