"""Folders of n2p2: every keyword against an independent implementation with loops, and what is refused."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.data import atomic_numbers, chemical_symbols

from ase_mlcalc import Derived, MLCalculator, load, save
from ase_mlcalc.errors import CheckpointError, ModelError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.models.behler_parrinello import BehlerParrinello, BehlerParrinelloConfig, read_n2p2, write_n2p2
from ase_mlcalc.n2p2.functions import read_functions
from ase_mlcalc.n2p2.settings import Settings
from ase_mlcalc.neighbors import find_pairs
from ase_mlcalc.potential import Baseline

FUNCTIONS = """
symfunction_short H 2 O 0.30 0.9 8.0
symfunction_short H 2 H 0.01d0 0.0 9.0
symfunction_short H 2 H 0.15 1.9 9.0      # written in no order: weights follow the sorted one
symfunction_short H 3 O H 0.05 -1.0 2.0 7.0
symfunction_short H 3 H O 0.05 1.0 4.0 7.0 0.5
symfunction_short H 9 O O 0.02 1.0 1.5 6.0
symfunction_short H 12 0.10 0.5 8.0
symfunction_short O 3 O H 0.07 1.0 1.0 7.0
symfunction_short O 3 H H 0.07 1.0 1.0 7.0
symfunction_short O 3 H H 0.07 -1.0 4.0 7.0
symfunction_short O 3 H H 0.07 -1.0 1.0 7.0
symfunction_short O 2 O 0.03 4.0 9.0
symfunction_short O 2 H 0.60 0.9 8.0
symfunction_short O 13 0.05 0.2 -1.0 3.0 6.0
element_symfunction_short O 9 0.01 -1.0 2.0 6.5
global_symfunction_short 2 0.2 0.0 8.5
"""
TRAINING = "epochs 10\nkalman_type 1 # of training\nuse_short_forces\nwrite_weights_epoch 5\nrandom_seed 3\nnnp_gen 2\n"
NORMALIZATION = "mean_energy -3.5\nconv_energy 12.0\nconv_length 2.5\n"
SCALINGS = {
    "none": "",
    "scale": "scale_symmetry_functions\nscale_min_short -0.5\nscale_max_short 1.5\n",
    "center": "center_symmetry_functions\n",
    "scale and center": "scale_symmetry_functions\ncenter_symmetry_functions\n",
    "sigma": "scale_symmetry_functions_sigma\nscale_max_short 2.0\n",
}
ACTIVATE = {
    "t": np.tanh,
    "p": lambda x: np.log1p(np.exp(x)),
    "l": lambda x: x,
    "s": lambda x: 1 / (1 + np.exp(-x)),
    "S": lambda x: 1 - 1 / (1 + np.exp(-x)),
    "e": lambda x: np.exp(-x),
    "g": lambda x: np.exp(-(x**2) / 2),
    "c": np.cos,
    "r": lambda x: np.maximum(x, 0),
    "h": lambda x: x**2,
}
HEADER = "number_of_elements 2\nelements O H\natom_energy H -0.46\natom_energy O -74.9 ! hartree\n"


def network(letters="t p", nodes="5 4", extra=""):
    return f"global_hidden_layers_short 2\nglobal_nodes_short {nodes}\nglobal_activation_short {letters} l\n{extra}"


def parsed(text):
    """Functions in the sorted order of n2p2 as (element, type, neighbours, eta, shift, lambda, zeta, cutoff)."""
    rows = []
    for line in text.replace("d0", "").splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        keyword, *words = words
        centers = ["H", "O"] if keyword.startswith("global") else [words.pop(0)]
        kind = int(words.pop(0))
        n = {2: 1, 3: 2, 9: 2}.get(kind, 0)
        if keyword == "symfunction_short":
            neighbors = [sorted(words[:n])]
            words = words[n:]
        else:
            neighbors = [["H"], ["O"]] if n == 1 else [["H", "H"], ["H", "O"], ["O", "O"]]
        v = [float(word) for word in words]
        if kind in (2, 12):
            eta, rs, la, ze, rc = v[0], v[1], 0, 0, v[2]
        elif kind == 13:
            eta, rs, la, ze, rc = v
        else:
            (eta, la, ze, rc), rs = v[:4], (v[4] if len(v) > 4 else 0.0)
        rows += [(c, kind, tuple(pair), eta, rs, la, ze, rc) for c in centers for pair in neighbors]
    return sorted(rows, key=lambda f: (f[0], f[1], f[7], f[3], f[4], f[6], f[5], f[2]))


def write_folder(folder, settings, functions=FUNCTIONS, sizes=None, seed=0):
    """A random potential."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    (folder / "input.nn").write_text("# made for a test\n" + HEADER + TRAINING + settings + functions, encoding="utf-8")
    rows = parsed(functions)
    lines = ["# scaling"]
    for row, symbol in enumerate("HO", start=1):
        own = [f for f in rows if f[0] == symbol]
        for k in range(1, len(own) + 1):
            low, width = rng.uniform(0, 0.2), rng.uniform(0.5, 2.0)
            numbers = (low, low + width, low + 0.4 * width, 0.3 * width)
            lines.append(f"{row} {k} " + " ".join(f"{x:.16E}" for x in numbers))
        layers = [len(own), *(sizes or {}).get(symbol, (5, 4)), 1]
        weights = []
        for number, (a, b) in enumerate(pairwise(layers)):
            for j in range(a):
                weights += [
                    f"{rng.normal() / a**0.5: .16E} a 0 {number} {j + 1} {number + 1} {i + 1}" for i in range(b)
                ]
            weights += [f"{0.3 * rng.normal(): .16E} b 0 {number + 1} {i + 1}" for i in range(b)]
        z = atomic_numbers[symbol]
        (folder / f"weights.{z:03d}.data").write_text("# weights\n" + "\n".join(weights) + "\n", encoding="utf-8")
    (folder / "scaling.data").write_text("\n".join([*lines, "-0.1 0.3"]) + "\n", encoding="utf-8")


def fc(d, rc, kind, alpha):
    if d >= rc:
        return 0.0
    x = (d - alpha * rc) / (rc - alpha * rc)
    t = math.tanh(1 - d / rc) ** 3
    if kind == 2:
        return t
    if kind == 3:
        return t / math.tanh(1) ** 3
    if x < 0 or kind == 0:
        return 1.0
    return {
        1: lambda: (math.cos(math.pi * x) + 1) / 2,
        4: lambda: math.exp(1 - 1 / (1 - x**2)),
        5: lambda: 1 - 3 * x**2 + 2 * x**3,
        6: lambda: 1 - 10 * x**3 + 15 * x**4 - 6 * x**5,
        7: lambda: 1 - 35 * x**4 + 84 * x**5 - 70 * x**6 + 20 * x**7,
        8: lambda: 1 - 126 * x**5 + 420 * x**6 - 540 * x**7 + 315 * x**8 - 70 * x**9,
    }[kind]()


def loop_energy(folder, atoms, cutoff_type=2, alpha=0.0):
    """eV: the whole evaluation with loops, in bohr and hartree, from the files and the published equations."""
    text = (folder / "input.nn").read_text(encoding="utf-8")
    lines = [re.split("[#!]", line)[0].split() for line in text.splitlines()]
    once = {words[0]: words[1:] for words in lines if words}
    rows = parsed("\n".join(line for line in text.splitlines() if "symfunction_short" in line))
    offset = {words[1]: float(words[2]) for words in lines if words and words[0] == "atom_energy"}
    mean, conv = float(once.get("mean_energy", ["0"])[0]), float(once.get("conv_energy", ["1"])[0])
    scaling = {}
    for line in (folder / "scaling.data").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) == 6:
            scaling[int(words[0]), int(words[1])] = [float(word) for word in words[2:]]
    largest = max(f[7] for f in rows) * units.Bohr
    pairs = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, largest)
    shifts = pairs.shifts @ atoms.cell.array
    total = 0.0
    for i, symbol in enumerate(atoms.get_chemical_symbols()):
        around = [
            (atoms.symbols[j], (atoms.positions[j] + s - atoms.positions[i]) / units.Bohr)
            for c, j, s in zip(pairs.centers, pairs.neighbors, shifts, strict=True)
            if c == i
        ]
        inputs = []
        for k, f in enumerate([f for f in rows if f[0] == symbol], start=1):
            g = loop_function(f, around, cutoff_type, alpha)
            low, high, middle, sigma = scaling["HO".index(symbol) + 1, k]
            smin, smax = (float(once.get(f"scale_{x}_short", [d])[0]) for x, d in (("min", "0"), ("max", "1")))
            if "scale_symmetry_functions" in once and "center_symmetry_functions" in once:
                g = smin + (smax - smin) * (g - middle) / (high - low)
            elif "scale_symmetry_functions" in once:
                g = smin + (smax - smin) * (g - low) / (high - low)
            elif "center_symmetry_functions" in once:
                g = g - middle
            elif "scale_symmetry_functions_sigma" in once:
                g = smin + (smax - smin) * (g - middle) / sigma
            inputs.append(g)
        total += loop_network(folder, symbol, inputs, once) / conv + mean + offset[symbol]
    return total * units.Hartree


def loop_function(f, around, cutoff_type, alpha):
    _, kind, names, eta, rs, la, ze, rc = f
    g = 0.0
    for a, (name_j, r_j) in enumerate(around):
        d_j = np.linalg.norm(r_j)
        if kind in (2, 12):
            factor = atomic_numbers[name_j] if kind == 12 else name_j == names[0]
            g += factor * math.exp(-eta * (d_j - rs) ** 2) * fc(d_j, rc, cutoff_type, alpha)
            continue
        for name_k, r_k in around[a + 1 :]:
            if kind != 13 and tuple(sorted((name_j, name_k))) != names:
                continue
            d_k, d_jk = np.linalg.norm(r_k), np.linalg.norm(r_k - r_j)
            if d_j >= rc or d_k >= rc:
                continue
            term = (1 + la * (r_j @ r_k) / (d_j * d_k)) ** ze * 2 ** (1 - ze)
            term *= math.exp(-eta * ((d_j - rs) ** 2 + (d_k - rs) ** 2))
            term *= fc(d_j, rc, cutoff_type, alpha) * fc(d_k, rc, cutoff_type, alpha)
            if kind != 9:
                term *= math.exp(-eta * (d_jk - rs) ** 2) * fc(d_jk, rc, cutoff_type, alpha)
            g += term * (atomic_numbers[name_j] * atomic_numbers[name_k] if kind == 13 else 1)
    return g


def loop_network(folder, symbol, inputs, once):
    text = (folder / f"weights.{atomic_numbers[symbol]:03d}.data").read_text(encoding="utf-8")
    weight, bias = {}, {}
    for words in (line.split() for line in text.splitlines() if not line.startswith("#")):
        if words[1] == "a":
            weight[tuple(map(int, words[3:]))] = float(words[0])
        else:
            bias[tuple(map(int, words[3:]))] = float(words[0])
    letters = once["global_activation_short"]
    if "element_activation_short" in once and once["element_activation_short"][0] == symbol:
        letters = once["element_activation_short"][1:]
    x = list(inputs)
    n_layers = max(layer for layer, _ in bias)
    for layer in range(1, n_layers + 1):
        units_here = max(k for at, k in bias if at == layer)
        y = []
        for k in range(1, units_here + 1):
            s = bias[layer, k] + sum(weight[layer - 1, j, layer, k] * v for j, v in enumerate(x, start=1))
            if "normalize_nodes" in once:
                s /= len(x)
            y.append(s if layer == n_layers else ACTIVATE[letters[layer - 1]](s))
        x = y
    return x[0]


def water_box():
    rng = np.random.default_rng(2)
    atoms = Atoms(cell=[[4.6, 0.2, 0], [0, 4.4, 0.3], [0.1, 0, 4.8]], pbc=True)
    for k, corner in enumerate([(0.1, 0.2, 0.3), (2.4, 2.2, 2.6)]):
        one = molecule("H2O")
        one.rotate(50 * k + 20, (1, 2, 3))
        one.positions += corner
        atoms += one
    atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
    return atoms


ATOMS = water_box()


def energy(potential, atoms=ATOMS):
    return float(potential(from_atoms(atoms, potential.cutoff)).energy)


@pytest.mark.parametrize("cutoff_type", range(9))
def test_every_cutoff_function(tmp_path, cutoff_type):
    write_folder(tmp_path, f"cutoff_type {cutoff_type} 0.2\n" + network())
    assert energy(read_n2p2(tmp_path)) == pytest.approx(loop_energy(tmp_path, ATOMS, cutoff_type, 0.2), abs=1e-8)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("normalization", ["", NORMALIZATION])
def test_every_scaling(tmp_path, scaling, normalization):
    write_folder(tmp_path, "cutoff_type 1\n" + SCALINGS[scaling] + normalization + network())
    assert energy(read_n2p2(tmp_path)) == pytest.approx(loop_energy(tmp_path, ATOMS, 1), abs=1e-8)


@pytest.mark.parametrize("letters", ["t p", "s S", "g c", "e t", "r h", "l t"])
def test_every_activation_and_normalized_nodes(tmp_path, letters):
    write_folder(tmp_path, "cutoff_type 1\n" + SCALINGS["sigma"] + network(letters, extra="normalize_nodes\n"))
    assert energy(read_n2p2(tmp_path)) == pytest.approx(loop_energy(tmp_path, ATOMS, 1), abs=1e-8)


@pytest.mark.parametrize(
    ("extra", "sizes"),
    [
        ("element_nodes_short O 2 7\n", {"O": (5, 7)}),
        ("element_nodes_short O 6 3\n", {"O": (6, 3)}),
        ("element_hidden_layers_short O 1\nelement_nodes_short O 6\nelement_activation_short O p l\n", {"O": (6,)}),
        ("element_activation_short H p t l\n", {}),
    ],
)
def test_networks_of_single_elements(tmp_path, extra, sizes):
    write_folder(tmp_path, "cutoff_type 1\n" + network(extra=extra), sizes=sizes)
    assert energy(read_n2p2(tmp_path)) == pytest.approx(loop_energy(tmp_path, ATOMS, 1), abs=1e-8)


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "potential", "cutoff_type 2\n" + SCALINGS["scale and center"] + NORMALIZATION + network())
    return tmp_path / "potential"


def test_order_in_which_n2p2_counts_functions(tmp_path):
    # functions of hydrogen in the water potentials of Morawietz et al., PNAS 113, 8368 (2016), by line of the file in
    # which n2p2 has them, and the order that n2p2 printed for it
    radial = {"H": (51, 1.9), "O": (61, 0.9)}
    written = {}
    for other, (line, shift) in radial.items():
        forms = [(0.001, 0), (0.01, 0), (0.03, 0), (0.06, 0), *((eta, shift) for eta in (0.15, 0.3, 0.6, 1.5))]
        written |= {line + k: f"2 {other} {eta} {rs} 12.0" for k, (eta, rs) in enumerate(forms)}
    mixed = {90: "0.2 1 1", 93: "0.07 1 1", 95: "0.07 -1 1", 98: "0.03 1 1", 100: "0.03 -1 1", 103: "0.01 1 4"}
    mixed[105] = "0.01 -1 4"
    written |= {line: f"3 O H {form} 12.0" for line, form in mixed.items()}
    oxygen = {112: "0.03 1 1", 113: "0.03 -1 1", 114: "0.001 1 4", 115: "0.001 -1 4"}
    written |= {line: f"3 O O {form} 12.0" for line, form in oxygen.items()}
    expected = [51, 61, 52, 62, 53, 63, 54, 64, 65, 55, 66, 56, 67, 57, 68, 58]
    expected += [115, 114, 105, 103, 100, 113, 98, 112, 95, 93, 90]
    (tmp_path / "input.nn").write_text("\n".join(f"symfunction_short H {text}" for text in written.values()))
    found = read_functions(Settings(tmp_path / "input.nn"), [1, 8])
    in_order = [read_functions(_only(tmp_path, written[line]), [1, 8])[0] for line in expected]
    assert found == in_order


def test_of_pairs_of_neighbours_the_lighter_counts_first(tmp_path):
    lines = [f"symfunction_short H 3 {pair} 0.1 1 1 9.0" for pair in ("C C", "O H", "H C", "O C")]
    (tmp_path / "input.nn").write_text("\n".join(lines), encoding="utf-8")
    found = read_functions(Settings(tmp_path / "input.nn"), [1, 6, 8])
    assert [function.neighbors for function in found] == [(1, 6), (1, 8), (6, 6), (6, 8)]


def _only(folder, text):
    (folder / "input.nn").write_text(f"symfunction_short H {text}", encoding="utf-8")
    return Settings(folder / "input.nn")


def test_forces_and_stress_are_derivatives_of_the_loops(folder):
    atoms = ATOMS.copy()
    atoms.calc = MLCalculator(read_n2p2(folder))
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    np.testing.assert_allclose(atoms.get_stresses(voigt=False).sum(axis=0), stress, atol=1e-12)
    step = 1e-4
    for atom, axis in [(0, 0), (1, 2), (5, 1)]:
        moved = [ATOMS.copy(), ATOMS.copy()]
        for sign, each in zip((1, -1), moved, strict=True):
            each.positions[atom, axis] += sign * step
        up, down = (loop_energy(folder, each) for each in moved)
        assert -(up - down) / (2 * step) == pytest.approx(forces[atom, axis], rel=1e-5, abs=1e-6 * np.abs(forces).max())
    strained = []
    for sign in (1, -1):
        each = ATOMS.copy()
        deform = np.eye(3)
        deform[0, 2] += sign * step
        each.set_cell(each.cell.array @ deform.T, scale_atoms=True)
        strained.append(loop_energy(folder, each))
    slope = (strained[0] - strained[1]) / (2 * step) / ATOMS.get_volume()
    assert slope == pytest.approx(stress[0, 2], abs=1e-5 * np.abs(stress).max())


def test_forces_against_finite_differences_to_1e_6(folder):
    potential = read_n2p2(folder)
    forces = potential(from_atoms(ATOMS, potential.cutoff)).forces.numpy()
    assert np.abs(forces).max() > 0.01
    step = 2e-4
    weights = {1: 2 / 3, -1: -2 / 3, 2: -1 / 12, -2: 1 / 12}
    for atom in range(len(ATOMS)):
        for axis in range(3):
            slope = 0.0
            for k, weight in weights.items():
                moved = ATOMS.copy()
                moved.positions[atom, axis] += k * step
                slope += weight * energy(potential, moved) / step
            assert -slope == pytest.approx(forces[atom, axis], abs=1e-6 * np.abs(forces).max())


def test_an_isolated_atom_has_the_energy_of_its_network(folder):
    for symbol in "HO":
        alone = Atoms(symbol)
        assert energy(read_n2p2(folder), alone) == pytest.approx(loop_energy(folder, alone), abs=1e-9)


def test_files_in_angstrom_and_electronvolt(folder):
    potential = read_n2p2(folder, length_unit_A=1.0, energy_unit_eV=1.0)
    assert potential.cutoff == pytest.approx(9.0)
    larger = ATOMS.copy()
    larger.set_cell(ATOMS.cell.array / units.Bohr, scale_atoms=True)
    expected = energy(read_n2p2(folder)) / units.Hartree
    assert energy(potential, larger) == pytest.approx(expected, abs=1e-8)


def test_a_checkpoint_of_it(folder, tmp_path):
    potential = read_n2p2(folder)
    save(potential, tmp_path / "model.safetensors")
    assert energy(load(tmp_path / "model.safetensors")) == energy(potential)


def test_written_and_read_again(tmp_path):
    config = BehlerParrinelloConfig(element_hidden={8: (12, 9)}, angular_zeta=(1.0, 1.5))
    config = config.model_copy(update=config.from_structures([ATOMS, ATOMS[:3]]))
    potential = Derived(BehlerParrinello(config).double(), Baseline({1: -13.6, 8: -430.0}, energy_scale=0.7))
    write_n2p2(potential, tmp_path / "new")
    back = read_n2p2(tmp_path / "new")
    before, after = (p(from_atoms(ATOMS, p.cutoff)) for p in (potential, back))
    assert float(after.energy) == pytest.approx(float(before.energy), abs=1e-9)
    np.testing.assert_allclose(after.forces.numpy(), before.forces.numpy(), atol=1e-9)
    assert np.abs(before.forces.numpy()).max() > 0.01


def test_other_models_are_not_written(tmp_path):
    schnet = lookup("schnet")
    with pytest.raises(ModelError, match="only 'behler_parrinello'"):
        write_n2p2(Derived(schnet(schnet.Config())), tmp_path)


def replace(name, old, new, count=1):
    def change(folder):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, count), encoding="utf-8")

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def shorten(name):
    def change(folder):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        (folder / name).write_text("\n".join(lines[:-3]), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("input.nn"), r"cannot read .*input\.nn: No such file.*copy the file"),
        (remove("weights.008.data"), r"cannot read .*weights\.008\.data: No such file.*for each element"),
        (remove("scaling.data"), r"cannot read .*scaling\.data"),
        (shorten("weights.001.data"), r"weights\.001\.data: 7\d weights, expected \d+ for a network of 9-5-4-1 units"),
        (shorten("scaling.data"), r"scaling\.data: \d+ lines for element 2 \(O\), expected"),
        (replace("scaling.data", "2 1 ", "2 x "), r"scaling\.data, line \d+: expected two whole numbers"),
        (replace("weights.001.data", "E", "Q"), r"weights\.001\.data: not a number"),
        (
            replace("input.nn", "symfunction_short H 12", "symfunction_short H 20"),
            r"input\.nn, line \d+: .*type 20 is a f",
        ),
        (
            replace("input.nn", "symfunction_short H 12", "symfunction_short H 7"),
            r"line \d+: .*type 7 .*2, 3, 9, 12, 13",
        ),
        (replace("input.nn", "epochs 10", "use_electrostatics"), r"line \d+: use_electrostatics: adds energies"),
        (replace("input.nn", "nnp_gen 2", "nnp_type 4G-HDNNP"), r"line \d+: nnp_type: '4G-HDNNP' is a potential of an"),
        (replace("input.nn", "nnp_gen 2", "committee_mode prediction"), r"committee_mode: 'prediction'"),
        (replace("input.nn", "elements O H", "elements O Hx"), r"line \d+: elements: 'Hx' is not an element"),
        (replace("input.nn", "number_of_elements 2", "number_of_elements 3"), r"names 2 elements"),
        (replace("input.nn", "symfunction_short H 2 O", "symfunction_short H 2 C"), r"C is not among the elements"),
        (replace("input.nn", "0.30 0.9 8.0", "0.30 8.0"), r"2 numbers do not fit a function of type 2"),
        (replace("input.nn", "0.30 0.9 8.0", "0.30 0.9 zero"), r"'zero' is not a number"),
        (replace("input.nn", "cutoff_type 2", "cutoff_type 9"), r"cutoff_type: unknown type 9"),
        (replace("input.nn", "cutoff_type 2", ""), r"no line 'cutoff_type'"),
        (replace("input.nn", "cutoff_type 2", "cutoff_type 2\ncutoff_type 1"), r"stands in line \d+ already"),
        (replace("input.nn", "conv_length 2.5", ""), r"give all three or none"),
        (replace("input.nn", "t p l", "t q l"), r"unknown activation 'q'"),
        (replace("input.nn", "t p l", "t p t"), r"the output has activation 't'"),
        (replace("input.nn", "global_nodes_short 5 4", "global_nodes_short 5"), r"1 layers, but 2 hidden layers"),
    ],
)
def test_what_is_refused_says_where_and_what_to_do(folder, change, message):
    change(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_n2p2(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_an_unknown_keyword_is_pointed_out(folder):
    replace("input.nn", "epochs 10", "frobnicate 1")(folder)
    with pytest.warns(UserWarning, match=r"line \d+: unknown keyword 'frobnicate'"):
        read_n2p2(folder)


def test_other_elements_than_its_own_are_refused(folder):
    atoms = Atoms("HOC", [[0, 0, 0], [1, 0, 0], [0, 1.2, 0]])
    atoms.calc = MLCalculator(read_n2p2(folder))
    with pytest.raises(Exception, match=f"does not know {chemical_symbols[6]}"):
        atoms.get_potential_energy()
