"""How ``ase-mlcalc sample`` shows what came of it."""

from rich.markup import escape
from rich.table import Table

from ase_mlcalc.sampling import Sampled


def sample_table(found: Sampled) -> Table:
    """One row a run: how many frames it gave, and how many of them were chosen."""
    failed = any(run.error for run in found.runs)
    table = Table("run", "frames", "chosen", *["why none"] * failed, title_justify="left")
    for run in found.runs:
        row = (escape(run.name), str(run.n_candidates), str(run.n_chosen))
        table.add_row(*row, *[escape(run.error or "")] * failed)
    return table


def describe_sample(found: Sampled) -> str:
    """How well the chosen structures stand for all frames."""
    return (
        f"no frame is farther than {found.radius[-1]:.3g} from a chosen one; {found.random_radius[-1]:.3g} where as "
        "many are taken at random"
    )
