"""Which local stress to believe at a surface: a relaxed Cu(100) slab, where the normal stress has to vanish everywhere.

At rest no force acts on any part of the slab, so none acts through any plane parallel to its faces.  Planes,
Irving-Kirkwood and Hardy give that; per-atom stress in bins does not, whatever its definition.

    python examples/cu_slab/run.py [PICTURE.png]
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import fcc100
from ase.optimize import BFGS

from ase_mlcalc import MLCalculator
from ase_mlcalc.model import lookup
from ase_mlcalc.plots import COLORS, new_axes, new_figure, save
from ase_mlcalc.stress import Binned, Grid, Hardy, IrvingKirkwood, Planes, StressField, local_stress

LATTICE_CONSTANT = 3.615  # Å, at equilibrium for this potential, so that the slab is not strained in its plane
LAYERS, VACUUM_LAYERS = 12, 8


def relaxed_slab(calc: MLCalculator) -> Atoms:
    """A slab with open faces, its cell a whole number of layers high, each layer near the middle of its bin."""
    slab = fcc100("Cu", (1, 1, LAYERS), a=LATTICE_CONSTANT)
    spacing = LATTICE_CONSTANT / 2
    slab.set_cell([*slab.cell[:2], [0, 0, (LAYERS + VACUUM_LAYERS) * spacing]])
    slab.positions[:, 2] += (VACUUM_LAYERS / 2 + 0.5) * spacing - slab.positions[:, 2].min()
    slab.pbc = (True, True, False)
    slab.calc = calc
    BFGS(slab, logfile=None).run(fmax=1e-8, steps=500)
    return slab


def local_stresses(slab: Atoms) -> dict[str, StressField]:
    """Profiles along the normal, by all ways there are."""
    model = slab.calc.potential.model
    by_layer = Grid.along(2, LAYERS + VACUUM_LAYERS)
    fields = {
        "planes": local_stress(Planes(axis=2, n=500), slab.calc, slab),
        "Irving-Kirkwood": local_stress(IrvingKirkwood(Grid.along(2, 250)), slab.calc, slab),
        "Hardy, R = 3 Å": local_stress(Hardy(Grid.along(2, 250), radius=3.0), slab.calc, slab),
    }
    for definition in ("edge", "center", "other"):
        calc = MLCalculator(model, stress_definition=definition)
        fields[f"per atom, {definition}"] = local_stress(Binned(by_layer), calc, slab)
    return fields


def draw(path: Path, slab: Atoms, fields: dict[str, StressField]) -> None:
    """All profiles, and below them those that vanish, enlarged."""
    figure = new_figure(8.0, 6.4)
    above, below = (new_axes(figure, 2, 1, position) for position in range(2))
    styles = {"planes": "-", "Irving-Kirkwood": "--", "Hardy, R = 3 Å": ":"}
    for (label, field), color in zip(fields.items(), ("black", *COLORS), strict=False):
        steps = "steps-mid" if label.startswith("per atom") else "default"
        sigma = field.normal.total / units.GPa
        above.plot(field.heights, sigma, styles.get(label, "-"), color=color, drawstyle=steps, label=label)
        if label in styles:
            below.plot(field.heights, sigma * 1e6, styles[label], color=color, label=label)
    for axes in (above, below):
        for height in slab.positions[:, 2]:
            axes.axvline(height, color="#6b7280", linewidth=0.5, alpha=0.5, zorder=0)
        axes.set_xlim(0, slab.cell[2, 2])
        axes.legend(loc="upper right", frameon=True, framealpha=0.9, fontsize=8)
    above.set_title("relaxed Cu(100): the normal stress has to vanish (thin lines: layers of atoms)", fontsize=10)
    above.set_ylabel("σ_zz / GPa")
    below.set_ylabel("σ_zz / 10⁻⁶ GPa")
    below.set_xlabel("height / Å")
    save(figure, path)


def main() -> None:
    """Relax, measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=Path("cu100_planes.png"), metavar="PICTURE.png")
    path = parser.parse_args().picture
    copper = lookup("eam")
    slab = relaxed_slab(MLCalculator(copper(copper.Config())))
    print(f"largest force: {np.abs(slab.get_forces()).max():.1e} eV/Å")
    fields = local_stresses(slab)
    for label, field in fields.items():
        print(f"{label:18s} largest |σ_zz|: {np.abs(field.normal.total).max() / units.GPa:9.2e} GPa")
    draw(path, slab, fields)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
