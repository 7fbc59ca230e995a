"""The command line with all of its verbs, one module a theme."""

from ase_mlcalc.cli import campaigns, clients, engines, labelling, learning  # noqa: F401  (each registers its verbs)
from ase_mlcalc.cli.verbs import app

__all__ = ["app"]
