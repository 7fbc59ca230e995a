"""How ``ase-mlcalc sample`` shows what came of it."""

from rich.markup import escape
from rich.table import Table

from ase_mlcalc.sampling import Sampled


def sample_table(found: Sampled) -> Table:
    """One row a run: how many frames it gave, and how many of them were chosen."""
    table = Table("run", "frames", "chosen", "", title_justify="left")
    for run in found.runs:
        table.add_row(escape(run.name), str(run.n_candidates), str(run.n_chosen), escape(run.error or ""))
    if found.n_chosen:
        table.caption = (
            f"no frame is farther than {found.radius[-1]:.3g} from a chosen one; "
            f"{found.random_radius[-1]:.3g} if as many are taken at random"
        )
    return table
