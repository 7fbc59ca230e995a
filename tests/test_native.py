"""The kernel for `equivariant` against the torch model, and its own ways to go wrong."""

import copy
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_mlcalc import accelerate
from ase_mlcalc.accelerate.native import NativeEquivariant, reason_against
from ase_mlcalc.data.sets import water16
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.native import build
from ase_mlcalc.native.build import NoCompilerError, find_compiler, library
from ase_mlcalc.potential import Baseline, Derived

try:
    find_compiler()
    COMPILER = True
except NoCompilerError:
    COMPILER = False
pytestmark = pytest.mark.skipif(not COMPILER, reason="needs a C++ compiler")

BASELINE = Baseline({1: -13.0, 6: -1000.0, 8: -2000.0}, energy_scale=0.7)
SMALL = {"features": 16, "edge_features": 8, "n_radial": 5}


def potential(dtype=torch.float64, **keys) -> Derived:
    torch.manual_seed(0)
    cls = lookup("equivariant")
    model = cls(cls.Config(species=(1, 6, 8), **{**SMALL, **keys})).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases start at zero, where a mistake would not show
                parameter.normal_(std=0.3)
        model.density.gain.weight.normal_(1.0, 0.3)
    return Derived(model, BASELINE)


def structures():
    ethanol = molecule("CH3CH2OH", vacuum=4.0)
    ethanol.rattle(0.1, seed=1)
    box = ase.io.read(water16("gfn1"), index=0)
    skewed = bulk("O", "fcc", a=3.1)  # atoms are their own neighbours through the cell
    slab = box.copy()
    slab.pbc = (True, False, True)
    return {"molecule": ethanol, "one atom": Atoms("O"), "box": box, "tiny": skewed, "slab": slab}


def assert_equal(native, reference, relative):
    for name in ("energy", "energies", "forces", "stress", "stresses"):
        mine, theirs = getattr(native, name), getattr(reference, name)
        assert mine.dtype == torch.float64
        assert mine.shape == theirs.shape
        scale = 1.0 if name.startswith("energ") else max(float(theirs.abs().nan_to_num().max()), 1e-9)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=relative * scale, equal_nan=True, msg=name)


OTHERS = [
    {"l_max": 1},
    pytest.param({"l_max": 3}, marks=pytest.mark.slow),
    {"n_interactions": 0},
    {"n_interactions": 2, "radial_decay": 1.5},
]


@pytest.mark.parametrize("keys", [{}, *OTHERS], ids=str)
@pytest.mark.parametrize("which", structures())
def test_same_numbers_as_the_torch_model(keys, which):
    derived = potential(**keys)
    graph = from_atoms(structures()[which], derived.cutoff)
    reference = derived(graph)
    assert which in ("one atom", "tiny") or reference.forces.abs().max() > 0.01  # there is something to compare
    assert_equal(NativeEquivariant(derived.model, BASELINE)(graph), reference, 1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_float32_in_blocks_and_threads(threads):
    derived = potential(torch.float32, features=64, edge_features=32, n_radial=8)
    graph = from_atoms(structures()["box"] * (2, 1, 1), derived.cutoff)
    reference = potential(features=64, edge_features=32, n_radial=8)
    reference.model.load_state_dict(derived.model.state_dict())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        native = NativeEquivariant(derived.model, BASELINE)
        assert_equal(native(graph), reference(graph), 3e-6)
        assert torch.equal(native(graph).forces, native(graph).forces)  # no race
    finally:
        torch.set_num_threads(before)


def test_several_structures_at_once_and_one_after_the_other():
    derived = potential()
    native = NativeEquivariant(derived.model, BASELINE)
    graphs = [from_atoms(atoms, derived.cutoff) for atoms in structures().values()]
    together = native(collate(graphs))
    assert_equal(together, derived(collate(graphs)), 1e-12)
    alone = [native(graph) for graph in graphs]
    torch.testing.assert_close(together.forces, torch.cat([each.forces for each in alone]), rtol=0, atol=1e-12)


def test_weights_are_a_copy():
    derived = potential()
    native = NativeEquivariant(derived.model, BASELINE)
    graph = from_atoms(structures()["molecule"], derived.cutoff)
    before = native(graph).energy
    changed = copy.deepcopy(derived.model)
    with torch.no_grad():
        changed.readout[2].bias.add_(1.0)
        changed.readout[2].weight.mul_(2.0)
    other = NativeEquivariant(changed, BASELINE)(graph).energy
    assert torch.equal(native(graph).energy, before)
    assert abs(float(other - before)) > 1e-3


def test_what_it_does_not_fit():
    assert "for the model 'equivariant'" in reason_against(lookup("schnet")(lookup("schnet").Config()))
    assert "multiples of" in reason_against(potential(edge_features=3).model)
    assert reason_against(potential().model) is None


def test_compilers_that_are_not_there_or_fail(monkeypatch, tmp_path):
    monkeypatch.setenv("ASE_MLCALC_CACHE", str(tmp_path))
    with pytest.raises(NoCompilerError, match="cannot compile"):
        library("equivariant.cpp", {"REAL": "float"})  # nothing else is defined
    monkeypatch.setenv("ASE_MLCALC_NATIVE", "0")
    with pytest.raises(NoCompilerError, match="ASE_MLCALC_NATIVE"):
        library("pairs.cpp", {"ANOTHER": 1})
    monkeypatch.delenv("ASE_MLCALC_NATIVE")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "none")
    find_compiler.cache_clear()
    try:
        with pytest.raises(NoCompilerError, match="no C\\+\\+ compiler"):
            library("pairs.cpp", {"ANOTHER": 2})
    finally:
        find_compiler.cache_clear()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_library_that_was_cut_is_made_anew(monkeypatch, tmp_path, part):
    monkeypatch.setenv("ASE_MLCALC_CACHE", str(tmp_path))
    build._loaded.cache_clear()
    library("pairs.cpp", {"ANOTHER": 3})
    (made,) = (tmp_path / "native").glob("*.so")
    whole = made.read_bytes()
    made.unlink()  # the one that is loaded stays as it is
    made.write_bytes(whole[: int(part * len(whole))])
    build._loaded.cache_clear()
    library("pairs.cpp", {"ANOTHER": 3})
    assert build._is_whole(made)


@pytest.mark.parametrize("folder", ["a file", "no home"])
def test_without_a_cache_kernels_are_made_for_this_process(monkeypatch, tmp_path, folder):
    if folder == "a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("ASE_MLCALC_CACHE", str(tmp_path / "file" / "cache"))
    else:
        for name in ("ASE_MLCALC_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)

        def homeless():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
    assert library("pairs.cpp", {"ANOTHER": f'"{folder}"'}).pairs_search
    cls = lookup("schnet")
    with pytest.warns(UserWarning, match="Not a directory.*going on without"):
        without = accelerate.compiled(Derived(cls(cls.Config(species=(1, 6, 8))), BASELINE))
    assert without.compiled is None


def test_a_terminal_is_told_that_a_kernel_is_compiled(monkeypatch, capsys):
    def slow(*_):
        time.sleep(0.5)
        raise NoCompilerError("not here")

    monkeypatch.setattr(accelerate.cache, "Kernel", slow)
    monkeypatch.setattr(build, "COMPILING_AFTER_S", 0.01)
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        accelerate.with_kernels(potential())
        assert ("compiling kernels, once for this machine" in capsys.readouterr().err) == is_terminal


def test_forces_are_derivatives_of_the_energy():
    derived = potential()
    native = NativeEquivariant(derived.model, BASELINE)
    atoms = structures()["box"]
    forces = native(from_atoms(atoms, derived.cutoff)).forces.numpy()
    h = 1e-5
    for atom, axis in ((0, 0), (5, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            energies.append(float(native(from_atoms(moved, derived.cutoff)).energy))
        assert abs(forces[atom, axis]) > 1e-3
        assert np.isclose(-(energies[0] - energies[1]) / (2 * h), forces[atom, axis], rtol=1e-5)
