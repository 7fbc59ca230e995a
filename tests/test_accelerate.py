"""Compiled potentials: that code does what the model does, and what happens where there is none."""

import copy
import json
import os
import pickle
import shutil
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from test_native import COMPILER
from typer.testing import CliRunner

from ase_mlcalc import Baseline, Derived, Ensemble, MLCalculator, checkpoint, load
from ase_mlcalc import accelerate as package_of_code
from ase_mlcalc.accelerate import CannotCompileError, aot, cache, compile_model, is_package, package, read_header
from ase_mlcalc.accelerate.engines import ENGINES
from ase_mlcalc.accelerate.verify import check_code
from ase_mlcalc.cli.studies import _sources
from ase_mlcalc.cli.verbs import app
from ase_mlcalc.errors import CheckpointError, ConfigError, ModelError, SpeciesError, StructureError
from ase_mlcalc.graph import collate, from_atoms
from ase_mlcalc.model import lookup
from ase_mlcalc.native.build import NoCompilerError
from ase_mlcalc.study.config import ModelSource

needs_compiler = pytest.mark.skipif(not COMPILER, reason="needs a C++ compiler")

SPECIES = (1, 6, 8)
BASELINE = Baseline({1: -13.0, 6: -1000.0, 8: -2000.0}, energy_scale=0.7)
TINY = {
    "schnet": {"features": 8, "n_interactions": 1, "n_gaussians": 6, "cutoff": 4.0},
    "equivariant": {"features": 8, "edge_features": 8, "n_radial": 4, "l_max": 1, "cutoff": 4.0},
    "body_order": {"features": 8, "hidden": 8, "n_steps": 1, "cutoff": 4.0},
    "behler_parrinello": {"cutoff": 4.0, "n_radial": 4, "hidden": (8,), "activations": ("t",)},
    "tensor_field": {"variant": "pairwise", "layers": (8, 8), "l_max": 1, "edge_channels": 4, "cutoff": 4.0},
}


def potential(name="schnet", dtype=torch.float64, **keys) -> Derived:
    torch.manual_seed(3)
    cls = lookup(name)
    return Derived(cls(cls.Config(species=SPECIES, **{**TINY.get(name, {}), **keys})).to(dtype), BASELINE)


def structures():
    """Molecules, a slab and crystals of many sizes, one of them without edges; code was traced with others."""
    slab = fcc111("C", (2, 2, 2), a=4.0, vacuum=6.0)
    skewed = Atoms("CO", [[0, 0, 0], [1.1, 0.2, 0.1]], cell=[[3.0, 0, 0], [0.4, 3.1, 0], [0.2, 0.3, 2.9]], pbc=True)
    crystal = bulk("C", cubic=True)
    crystal.rattle(0.05, seed=1)
    found = [
        Atoms("H"),
        Atoms("O", cell=[2.5, 2.6, 2.7], pbc=True),
        molecule("CO"),
        molecule("H2O"),
        molecule("C6H6"),
        slab,
        skewed,
        crystal,
        crystal.repeat((3, 2, 2)),
    ]
    for atoms in found[3:]:
        atoms.rattle(0.03, seed=5)
    return found


def assert_same(found, expected, tolerance):
    assert found.given() == expected.given()
    for name in sorted(expected.given()):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert torch.equal(one.isnan(), other.isnan())
        size = float(other.nan_to_num().abs().max())
        assert float((one - other).nan_to_num().abs().max()) <= tolerance * max(size, 1e-3), name


@pytest.fixture(scope="module")
def compiled_file(tmp_path_factory):
    """A ``.compiled`` file of a tiny SchNet in float64, without tables."""
    if not COMPILER:
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("compiled")
    checkpoint.save(potential(), folder / "model.safetensors")
    compile_model(folder / "model.safetensors", tolerance=None)
    return folder / "model.compiled"


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASE_MLCALC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


@pytest.fixture
def as_if_compiled(compiled_file, monkeypatch):
    """`compile_model` as the cache calls it, with the code of `compiled_file`; the list counts calls."""
    calls = []

    def copied(source, out, *, several_threads):
        calls.append(several_threads)
        assert checkpoint.fingerprint(source) == read_header(compiled_file).fingerprint
        shutil.copyfile(compiled_file, out)

    monkeypatch.setattr(cache, "compile_model", copied)
    return calls


def rewritten(source, target, **changes):
    """A copy of a ``.compiled`` file with other values in its header, or other entries."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        header = json.loads(old.read(package.HEADER))
        for name in old.namelist():
            content = old.read(name)
            if name == package.HEADER:
                content = json.dumps(header | {k: v for k, v in changes.items() if k in header})
            new.writestr(name, changes.get(name, content))
    return target


# ----- what it computes -----------------------------------------------------------------------------------------------


def test_code_does_what_the_model_does(compiled_file):
    fast, exact = load(compiled_file), potential()
    assert fast.compiled is not None
    for atoms in structures():
        graph = from_atoms(atoms, exact.cutoff)
        expected = exact(graph)
        assert_same(fast(graph), expected, 1e-10)
        if len(atoms) > 2:
            assert float(expected.forces.abs().max()) > 1e-3, "there is a signal"


def test_code_takes_several_structures_at_once(compiled_file):
    fast, exact = load(compiled_file), potential()
    graph = collate([from_atoms(atoms, exact.cutoff) for atoms in [*structures(), Atoms("H")]])
    assert_same(fast(graph), exact(graph), 1e-10)


def test_the_calculator_takes_the_file_as_it_takes_a_checkpoint(compiled_file):
    fast, exact = MLCalculator(compiled_file), MLCalculator(potential())
    assert fast.implemented_properties == exact.implemented_properties
    for atoms in structures()[3:]:
        for name in ("energy", "forces", "stress", "stresses"):
            if name.startswith("stress") and atoms.cell.rank < 3:
                continue
            one, other = fast.get_property(name, atoms), exact.get_property(name, atoms)
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_other_definitions_of_stress_are_those_of_the_model(compiled_file):
    atoms = structures()[-1]
    fast, exact = (MLCalculator(each, stress_definition="center") for each in (compiled_file, potential()))
    np.testing.assert_allclose(fast.get_stresses(atoms), exact.get_stresses(atoms), rtol=1e-10, atol=1e-14)
    assert fast.stress_definition == "center"


def test_results_do_not_depend_on_the_number_of_threads(compiled_file):
    fast, before = load(compiled_file), torch.get_num_threads()
    graph = from_atoms(structures()[-1], fast.cutoff)
    try:
        torch.set_num_threads(1)
        one = fast(graph).forces
        torch.set_num_threads(2)
        assert_same(fast(graph)._replace(), fast(graph), 1e-12)
        assert float((fast(graph).forces - one).abs().max()) < 1e-11
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_copies_and_pickles_hold_the_code(compiled_file):
    fast = load(compiled_file)
    graph = from_atoms(molecule("H2O"), fast.cutoff)
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):  # noqa: S301
        assert twin.compiled is not None
        assert_same(twin(graph), fast(graph), 0.0)


def test_a_check_notices_code_that_is_wrong(compiled_file):
    right = load(compiled_file)
    assert check_code(right.compiled, right, None) < 1e-9
    other = potential()
    with torch.no_grad():
        other.model.readout[2].weight.mul_(1.001)
    with pytest.raises(CannotCompileError, match=r"is wrong: .* off by"):
        check_code(right.compiled, other, None)


# ----- what it is given -----------------------------------------------------------------------------------------------


def test_inputs_of_another_kind_are_refused(compiled_file):
    code = load(compiled_file).compiled
    graph = from_atoms(molecule("H2O"), 4.0)
    with pytest.raises(StructureError, match=r"takes vectors as torch.float64 .* got torch.float32"):
        code(graph._replace(vectors=graph.vectors.float()))
    with pytest.raises(StructureError, match="do not belong together"):
        code(graph._replace(centers=graph.centers[:-1]))
    with pytest.raises(StructureError, match="do not belong together"):
        code(graph._replace(system=graph.system[:-1]))
    with pytest.raises(ModelError, match="no gauge"):
        code(graph._replace(gauge=torch.zeros(3)))
    with pytest.raises(RuntimeError, match="out of bounds"):
        code(graph._replace(neighbors=graph.neighbors + 1000))


def test_arrays_in_another_order_are_put_into_theirs(compiled_file):
    fast = load(compiled_file)
    graph = from_atoms(molecule("C6H6"), 4.0)
    fortran = graph._replace(vectors=graph.vectors.T.contiguous().T)
    assert not fortran.vectors.is_contiguous()
    assert_same(fast(fortran), fast(graph), 0.0)


# ----- the file -------------------------------------------------------------------------------------------------------


def test_the_file_says_what_it_is(compiled_file):
    header = read_header(compiled_file)
    assert (header.model, header.dtype, header.tables) == ("schnet", "float64", None)
    assert header.fingerprint == checkpoint.fingerprint(potential())
    assert (header.cutoff, header.species, header.torch) == (4.0, SPECIES, torch.__version__)
    assert 0 < header.force_error < 1e-9
    assert is_package(compiled_file)
    assert not is_package(compiled_file.with_suffix(".safetensors"))
    with zipfile.ZipFile(compiled_file) as archive:
        assert sorted(archive.namelist()) == sorted([package.HEADER, package.CHECKPOINT, package.CODE])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"torch": "1.0"}, "made with PyTorch 1.0, and this is"),
        ({"processor": "Plan9 m68k fpu"}, "for Plan9 m68k"),
        ({"engine": "steam"}, "for the engine 'steam'"),
        ({"code": b"no library"}, "not to be loaded"),
    ],
)
def test_code_that_does_not_fit_is_left_for_the_model(compiled_file, tmp_path, changes, message):
    foreign = rewritten(compiled_file, tmp_path / "foreign.compiled", **changes)
    with pytest.warns(UserWarning, match=message) as seen:
        calculator = MLCalculator(foreign)
    assert len(seen) == 1
    assert calculator.potential.compiled is None
    graph = from_atoms(molecule("C6H6"), 4.0)
    assert_same(calculator.potential(graph), potential()(graph), 0.0)


def test_code_for_a_lesser_processor_fits(compiled_file):
    header = read_header(compiled_file)
    engine = ENGINES[header.engine]
    assert engine.reason_not_here(header.torch, header.processor) == ""
    assert engine.reason_not_here(header.torch, " ".join(header.processor.split()[:-3])) == ""
    assert "avx4096, which this one lacks" in engine.reason_not_here(header.torch, header.processor + " avx4096")


def test_damaged_files_are_refused(compiled_file, tmp_path):
    whole = compiled_file.read_bytes()
    for k, damaged in enumerate((whole[: len(whole) // 2], whole[:-1000] + b"x" + whole[-999:], b"", b"PK")):
        path = tmp_path / f"{k}.compiled"
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged, or no compiled potential"):
            load(path)
    middle = bytearray(whole)
    with zipfile.ZipFile(compiled_file) as archive:
        start = archive.getinfo(package.CODE).header_offset
    middle[start + 5000] ^= 1
    (tmp_path / "flipped.compiled").write_bytes(middle)
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path / "flipped.compiled")


def test_foreign_files_are_refused(compiled_file, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.compiled", "w") as archive:
        archive.writestr("letter.txt", "dear reader")
    with pytest.raises(CheckpointError, match="damaged, or no compiled potential"):
        load(tmp_path / "other.compiled")
    with pytest.raises(CheckpointError, match=r"no compiled potential at .*; `ase-mlcalc compile` writes one"):
        load(tmp_path / "nothing.compiled")
    with pytest.raises(CheckpointError, match="has format 99, this version reads up to 1: upgrade"):
        load(rewritten(compiled_file, tmp_path / "new.compiled", format_version=99))
    with pytest.raises(CheckpointError, match="not of the checkpoint beside it"):
        load(rewritten(compiled_file, tmp_path / "mixed.compiled", fingerprint="0" * 64))
    with pytest.raises(CheckpointError, match="is compiled code; what is asked for takes the checkpoint"):
        checkpoint.load(compiled_file)
    torch.save({"model": 1}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load(tmp_path / "model.pt")


def test_precision_and_place_of_code_are_fixed(compiled_file):
    assert MLCalculator(compiled_file, dtype="float64", device="cpu").potential.compiled is not None
    with pytest.raises(ConfigError, match=r"compiled for torch.float64 on cpu, not for dtype torch.float32"):
        MLCalculator(compiled_file, dtype="float32")


@needs_compiler
def test_equivariant_is_evaluated_by_the_kernel_of_the_package(own_cache, tmp_path):
    exact = potential("equivariant")
    header = compile_model(exact, tmp_path / "model.compiled")
    assert (header.engine, header.tables) == ("native", None)
    for fast in (load(tmp_path / "model.compiled"), cache.compiled(exact)):
        for twin in (fast, copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):  # noqa: S301
            for atoms in structures():
                graph = from_atoms(atoms, exact.cutoff)
                assert_same(twin(graph), exact(graph), 1e-10)
    with pytest.raises(SpeciesError, match="does not know"):
        fast(from_atoms(molecule("NH3"), exact.cutoff))
    with pytest.raises(StructureError, match=r"takes vectors as torch.float64"):
        fast(graph._replace(vectors=graph.vectors.float()))


# ----- at first use ---------------------------------------------------------------------------------------------------


@needs_compiler
def test_the_calculator_compiles_once(own_cache, as_if_compiled):
    calculators = [MLCalculator(potential(), compile=True) for _ in range(3)]
    assert len(as_if_compiled) == 1
    assert all(each.potential.compiled is not None for each in calculators)
    (kept,) = own_cache.glob("*.compiled")
    assert kept.name.startswith("schnet-")
    atoms = molecule("C6H6")
    np.testing.assert_allclose(
        calculators[2].get_forces(atoms), MLCalculator(potential()).get_forces(atoms), rtol=0, atol=1e-10
    )


@needs_compiler
def test_what_code_depends_on_is_in_its_name(own_cache, monkeypatch):
    names = [cache._path(potential(), "aotinductor")]
    names.append(cache._path(potential(dtype=torch.float32), "aotinductor"))
    names.append(cache._path(Derived(potential().model, Baseline()), "aotinductor"))
    other = potential()
    with torch.no_grad():
        next(other.model.parameters()).add_(1e-6)
    names.append(cache._path(other, "aotinductor"))
    monkeypatch.setattr(cache, "processor", lambda: "Plan9 m68k")
    names.append(cache._path(potential(), "aotinductor"))
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    names.append(cache._path(potential(), "aotinductor"))
    assert len({path.name for path in names}) == 6


@needs_compiler
def test_damaged_code_in_the_cache_is_made_anew(own_cache, as_if_compiled):
    MLCalculator(potential(), compile=True)
    (kept,) = own_cache.glob("*.compiled")
    whole = kept.read_bytes()
    for damage in (whole[:-2000], b""):
        kept.write_bytes(damage)
        assert MLCalculator(potential(), compile=True).potential.compiled is not None
        assert kept.read_bytes() == whole
    rewritten(kept, own_cache / "old", torch="1.0")
    (own_cache / "old").replace(kept)
    assert MLCalculator(potential(), compile=True).potential.compiled is not None
    assert len(as_if_compiled) == 4


@needs_compiler
def test_those_who_want_the_same_code_wait_for_it(own_cache, as_if_compiled, monkeypatch):
    copied, started = cache.compile_model, threading.Event()

    def slowly(*arguments, **keys):
        started.set()
        threading.Event().wait(0.5)
        copied(*arguments, **keys)

    monkeypatch.setattr(cache, "compile_model", slowly)
    found, wanted = [], [potential() for _ in range(3)]
    threads = [threading.Thread(target=lambda one=one: found.append(cache.compiled(one))) for one in wanted]
    threads[0].start()
    started.wait(10)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert all(each.compiled is not None for each in found)
    assert len(as_if_compiled) == 1


@needs_compiler
def test_members_of_an_ensemble_are_compiled_each(own_cache, as_if_compiled):
    ensemble = Ensemble([potential(), potential()], {"forces": 1.7})
    fast = MLCalculator(ensemble, compile=True).potential
    assert [member.compiled is not None for member in fast.members] == [True, True]
    assert fast.uncertainty_scale == {"forces": 1.7}


def test_without_a_compiler_the_model_is_evaluated_and_one_warning_says_so(own_cache, monkeypatch):
    def nowhere():
        raise NoCompilerError("no C++ compiler (g++) is on the PATH; install one")

    monkeypatch.setattr(aot, "find_compiler", nowhere)
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler .*; going on without compiled code") as seen:
        calculator = MLCalculator(potential(), compile=True)
    assert len(seen) == 1
    assert calculator.get_potential_energy(molecule("H2O")) == MLCalculator(potential()).get_potential_energy(
        molecule("H2O")
    )
    assert not list(own_cache.glob("*.compiled"))
    with pytest.raises(NoCompilerError):
        compile_model(potential(), own_cache / "model.compiled")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("sgdml", "made for one molecule"), ("stress_mlp", "neither an energy nor forces of pairs")],
)
def test_models_that_are_not_compiled(name, reason, own_cache):
    cls = lookup(name)
    model = Derived(cls(cls.Config()))
    with pytest.raises(CannotCompileError, match=reason):
        compile_model(model, own_cache / "model.compiled")
    with pytest.warns(UserWarning, match=reason):
        assert package_of_code.compiled(model) is model


def test_failures_of_the_compiler_are_told_in_one_line(monkeypatch, tmp_path):
    def fails(potential, example):
        raise RuntimeError("\nthe middle end fell over\nand more")

    monkeypatch.setattr(aot, "_traced", fails)
    monkeypatch.setattr(aot, "find_compiler", lambda: "g++")
    with pytest.raises(CannotCompileError, match=r"model 'schnet' \(RuntimeError: the middle end fell over\)"):
        compile_model(potential(), tmp_path / "model.compiled")
    assert not list(tmp_path.iterdir())


def test_nothing_of_the_process_changes(monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with aot._quiet_and_private():
        assert torch.compiler.is_compiling()
        inside = os.environ["TORCHINDUCTOR_CACHE_DIR"]
        assert Path(inside).is_dir()
    assert not torch.compiler.is_compiling()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert not Path(inside).exists()
    with pytest.warns(UserWarning, match="still there"):
        warnings.warn("still there", stacklevel=1)


def test_ensembles_are_not_one_file(tmp_path):
    checkpoint.save(Ensemble([potential(), potential()]), tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="ensemble is not one file of code"):
        compile_model(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="give out"):
        compile_model(potential())


# ----- commands -------------------------------------------------------------------------------------------------------


def run(*words):
    shown = CliRunner().invoke(app, [str(word) for word in words])
    assert shown.exit_code == 0, shown.output
    return shown.output


def test_commands_take_the_file(compiled_file, tmp_path):
    water = tmp_path / "water.extxyz"
    molecule("H2O").write(water)
    assert "passed" in run("check", compiled_file, water, "--no-scans", "--json", tmp_path / "check.json")
    run("md", "--model", compiled_file, "--structure", water, "--time-ps", 0.002, "--out", tmp_path / "run")
    labelled = molecule("H2O")
    labelled.calc = MLCalculator(potential())
    labelled.get_forces()
    labelled.write(tmp_path / "labelled.extxyz")
    run("evaluate", compiled_file, tmp_path / "labelled.extxyz", "--out", tmp_path / "errors")
    errors = json.loads((tmp_path / "errors" / "metrics.json").read_text())
    assert 0 < errors["force_mae_meV_per_A"] < 1e-3


def test_jobs_compile_if_they_say_so(own_cache, as_if_compiled, tmp_path):
    molecule("H2O").write(tmp_path / "water.extxyz")
    checkpoint.save(potential(), tmp_path / "model.safetensors")
    job = ("--model", tmp_path / "model.safetensors", "--structure", tmp_path / "water.extxyz", "--time-ps", 0.002)
    run("md", *job, "--compile", "--out", tmp_path / "run")
    assert len(as_if_compiled) == 1


def test_studies_compile_checkpoints_and_nothing_else():
    sources = _sources(["a/one.safetensors", "two.safetensors"], ["ase.calculators.emt:EMT"], (), compiled=True)
    assert sources["one"] == {"model": "a/one.safetensors", "compile": True}
    assert sources["EMT"] == {"calculator": "ase.calculators.emt:EMT"}
    assert ModelSource(**sources["two"]).files(structure="x", output="y").compile


# ----- all models -----------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted({*TINY, "eam", "lennard_jones", "stillinger_weber"}))
def test_every_model_is_compiled_to_the_accuracy_of_its_precision(name, dtype, tmp_path):
    exact = potential(name, dtype=torch.float64)
    header = compile_model(exact, tmp_path / "model.compiled", dtype=dtype)
    fast = load(tmp_path / "model.compiled")
    assert header.force_error < (1e-4 if dtype == torch.float32 else 1e-5 if header.tables else 1e-9)
    assert fast.compiled is not None
    for atoms in structures():
        graph = from_atoms(atoms, exact.cutoff)
        assert_same(fast(graph), exact(graph), 2e-4 if dtype == torch.float32 else 2e-5 if header.tables else 1e-9)


@needs_compiler
@pytest.mark.slow
def test_the_command_compiles(tmp_path):
    checkpoint.save(potential(dtype=torch.float32), tmp_path / "model.safetensors")
    said = run("compile", tmp_path / "model.safetensors", "--several-threads")
    assert "model.compiled: schnet, float32, tables to 1e-05" in said.replace("\n", "")
    header = read_header(tmp_path / "model.compiled")
    assert header.several_threads
    graph = from_atoms(molecule("C6H6"), 4.0)
    assert_same(load(tmp_path / "model.compiled")(graph), potential()(graph), 2e-5)
