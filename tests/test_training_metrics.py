import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.units import GPa

from ase_mlcalc.data.frames import Frame
from ase_mlcalc.errors import DataError, NumericalError, SpeciesError
from ase_mlcalc.properties import Properties
from ase_mlcalc.training.metrics import evaluate


class Known:
    """A potential whose energy is 0.4 eV per atom, whose forces are 0.1 eV/Å and whose stress is 2 GPa throughout."""

    cutoff = 4.0
    species = (18, 36)
    properties = frozenset({"energy", "forces", "stress"})
    device = torch.device("cpu")
    dtype = torch.float64
    force = 0.1

    def __call__(self, graph):
        n_atoms = torch.bincount(graph.system, minlength=graph.n_structures).double()
        forces = torch.full((graph.n_atoms, 3), self.force, dtype=torch.float64)
        stress = torch.full((graph.n_structures, 3, 3), 2 * GPa, dtype=torch.float64)
        stress[torch.linalg.det(graph.cell) == 0] = torch.nan
        return Properties(energy=0.4 * n_atoms, forces=forces, stress=stress)


def frames():
    molecule = Atoms("ArKr", [[0, 0, 0], [0, 0, 3.5]])
    crystal = bulk("Ar", cubic=True)
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    zeros[1] = 0.3  # on Kr
    half = torch.zeros(4, 3, dtype=torch.float64)
    half[2:] = torch.nan
    return [
        Frame(molecule, Properties(energy=torch.tensor([0.6]).double(), forces=zeros), "molecule", "a[0]"),
        Frame(
            crystal,
            Properties(energy=torch.tensor([1.6]).double(), stress=torch.full((1, 3, 3), GPa)),
            "crystal",
            "a[1]",
        ),
        Frame(crystal, Properties(forces=half), "crystal", "a[2]"),
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_errors_by_hand(batch_size):
    metrics = evaluate(Known(), frames(), batch_size)
    # per atom: 0.4 - 0.3 for the molecule, 0.4 - 0.4 for the crystal
    assert metrics.energy_mae_meV_per_atom == pytest.approx(50.0)
    assert metrics.energy_rmse_meV_per_atom == pytest.approx(100 / np.sqrt(2))
    # labelled are Ar and Kr of the molecule and two atoms of a crystal: errors 0.1, 0.2, 0.1, 0.1
    assert metrics.force_mae_meV_per_A == pytest.approx(125.0)
    assert metrics.stress_mae_GPa == pytest.approx(1.0, rel=1e-6)
    assert metrics.stresses_mae_GPa is None
    assert metrics.elements["Kr"].force_mae_meV_per_A == pytest.approx(200.0)
    assert metrics.elements["Ar"].force_mae_meV_per_A == pytest.approx(100.0)
    assert (metrics.elements["Ar"].n_atoms, metrics.n_atoms, metrics.n_structures) == (9, 10, 3)
    assert metrics.groups["molecule"].energy_mae_meV_per_atom == pytest.approx(100.0)
    assert metrics.groups["molecule"].stress_mae_GPa is None
    assert metrics.groups["crystal"].force_rmse_meV_per_A == pytest.approx(100.0)


def test_stable_names_in_json(tmp_path):
    evaluate(Known(), frames()[:1]).write(tmp_path / "metrics.json", epochs=3)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["force_mae_meV_per_A"] == pytest.approx(150.0)
    assert written["stress_mae_GPa"] is None
    assert written["epochs"] == 3
    assert {"force_rmse_meV_per_A", "energy_mae_meV_per_atom", "energy_rmse_meV_per_atom"} <= written.keys()


def test_what_cannot_be_evaluated():
    with pytest.raises(DataError, match="no structures"):
        evaluate(Known(), [])
    neon = Frame(Atoms("Ne"), Properties(energy=torch.zeros(1)), "", "a[0]")
    with pytest.raises(SpeciesError, match="Ne"):
        evaluate(Known(), [neon])
    broken = Known()
    broken.force = float("nan")
    with pytest.raises(NumericalError, match="forces of 12 labelled"):
        evaluate(broken, frames())
