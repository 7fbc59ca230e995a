"""Checkpoints: the same bits back, and a clear refusal of everything that is not one."""

import json
import pickle
import zipfile

import pytest
import torch
from ase.build import molecule
from safetensors import safe_open
from safetensors.torch import save_file

from ase_mlcalc import checkpoint
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.errors import CheckpointError, ConfigError, MLCalcError, ModelError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.models.lennard_jones import LennardJones, LennardJonesConfig
from ase_mlcalc.models.schnet import SchNet, SchNetConfig
from ase_mlcalc.potential import Baseline, Derived

BASELINE = Baseline({1: -13.587, 8: -432.5}, energy_scale=0.123456789012345, force_scale=2.5, stress_scale=1 / 3)


def make(dtype=torch.float32, seed=0) -> Derived:
    torch.manual_seed(seed)
    config = SchNetConfig(species=(1, 8), features=8, n_interactions=1, n_gaussians=6, cutoff=4.0)
    return Derived(SchNet(config).to(dtype), BASELINE)


@pytest.fixture
def path(tmp_path):
    saved = tmp_path / "model.safetensors"
    checkpoint.save(make(), saved, {"trained_on": "nothing", "n": 3})
    return saved


def rewrite(path, edit=None, weights=None):
    """Change the header or the weights of a checkpoint."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[checkpoint.HEADER_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if edit is not None:
        edit(header)
    save_file(tensors if weights is None else weights, path, {checkpoint.HEADER_KEY: json.dumps(header)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_gives_the_same_bits(tmp_path, dtype):
    saved = make(dtype)
    checkpoint.save(saved, tmp_path / "model.safetensors")
    loaded = checkpoint.load(tmp_path / "model.safetensors")
    assert loaded.dtype == dtype
    assert loaded.baseline == saved.baseline
    assert loaded.model.config == saved.model.config
    graph = from_atoms(molecule("H2O"), 4.0)
    for name in ("energy", "energies", "forces"):
        assert torch.equal(getattr(loaded(graph), name), getattr(saved(graph), name))


@pytest.mark.parametrize(
    "change", [('"cutoff":4.0', '"cutoff":5.0'), ('"energy_scale":', '"energy_scale":-'), ("eV", "Ha")]
)
def test_a_header_that_is_not_what_was_written_is_refused(path, change):
    raw = path.read_bytes()
    old, new = (text.replace('"', '\\"').encode() for text in change)
    assert old in raw
    rest = raw[8:].replace(old, new, 1)
    path.write_bytes((int.from_bytes(raw[:8], "little") + len(new) - len(old)).to_bytes(8, "little") + rest)
    with pytest.raises(CheckpointError, match="header is not the one that was written"):
        checkpoint.load(path)


def test_other_units_and_precisions_are_refused(path):
    def in_hartree(header):
        header["units"]["energy"] = "Ha"

    with safe_open(path, framework="pt") as file:
        half = {name: file.get_tensor(name).half() for name in file.keys()}  # noqa: SIM118
    rewrite(path, weights=half)
    with pytest.raises(CheckpointError, match=r"weights of torch.float16; expected float32 or float64"):
        checkpoint.load(path)
    rewrite(path, in_hartree)
    with pytest.raises(CheckpointError, match="in other units"):
        checkpoint.load(path)


def test_a_folder_in_place_of_a_checkpoint(path, tmp_path):
    with pytest.raises(CheckpointError, match=r"did you mean .*model\.safetensors\?"):
        checkpoint.load(tmp_path)
    path.unlink()
    (tmp_path / "input.nn").touch()
    with pytest.raises(CheckpointError, match="read_n2p2"):
        checkpoint.load(tmp_path)


def test_one_flipped_bit_is_noticed(path):
    contents = bytearray(path.read_bytes())
    contents[-2] ^= 0x01  # in the last weight
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match="is corrupt: its weights"):
        checkpoint.load(path)


def test_a_checkpoint_without_a_checksum_is_read(path):
    rewrite(path, lambda header: header.pop("weights_sha256"))
    assert checkpoint.load(path).baseline == BASELINE


@pytest.mark.parametrize("start", [b"\x80", b"PK"])
def test_a_header_length_that_looks_like_a_pickle_is_read(tmp_path, start):
    """The first bytes of a file are the length of its header; one in 32 begins like a pickle."""
    saved, path = make(), tmp_path / "model.safetensors"
    checkpoint.save(saved, path, {"padding": ""})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    more = (int.from_bytes(start, "little") - length) % 256 ** len(start)
    checkpoint.save(saved, path, {"padding": "x" * more})
    assert path.read_bytes().startswith(start)
    assert checkpoint.load(path).baseline == saved.baseline


def test_analytic_potentials_can_be_saved(tmp_path):
    saved = Derived(LennardJones(LennardJonesConfig(species=(1, 8), epsilon=0.3, cutoff=4.0)))
    checkpoint.save(saved, tmp_path / "lj.safetensors")
    graph = from_atoms(molecule("H2O"), 4.0)
    loaded = checkpoint.load(str(tmp_path / "lj.safetensors"))
    assert torch.equal(loaded(graph).energy, saved(graph).energy)


def test_a_bare_model_is_saved_as_the_calculator_takes_it(tmp_path):
    model = make().model
    checkpoint.save(model, tmp_path / "model.safetensors")
    energies = []
    for source in (model, tmp_path / "model.safetensors"):
        atoms = molecule("H2O")
        atoms.calc = MLCalculator(source)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1] != 0.0
    with pytest.raises(ConfigError, match=r"expected a model, .* to save, got str"):
        checkpoint.save("model.safetensors", tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def test_header_says_what_it_is(path):
    header = checkpoint.read_header(path)
    assert header.model == "schnet"
    assert header.config["species"] == [1, 8]
    assert header.units["energy"] == "eV"
    assert header.provenance["trained_on"] == "nothing"
    assert header.format_version == checkpoint.FORMAT_VERSION


def test_calculator_reads_a_path(path):
    atoms = molecule("H2O")
    atoms.calc = MLCalculator(path)
    assert atoms.get_potential_energy() == MLCalculator(str(path)).get_property("energy", atoms)


def test_loading_leaves_the_random_state_and_default_dtype_alone(path):
    """A constructor draws random weights; a loaded model must not depend on them, nor the caller on it."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    checkpoint.load(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


class Boom:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a checkpoint was unpickled",))


def as_pickle(path):
    path.write_bytes(pickle.dumps(Boom()))


def as_torch_zip(path):
    torch.save({"weights": torch.zeros(3)}, path)


def as_torch_legacy(path):
    torch.save({"weights": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)


def as_old_pickle(path):
    path.write_bytes(pickle.dumps(Boom(), protocol=0))


def as_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def only_the_start(path):
    path.write_bytes(path.read_bytes()[:20])


def foreign(path):
    save_file({"a": torch.zeros(3)}, path)


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("this is not a checkpoint, but it is long enough to look at\n")


def newer(path):
    rewrite(path, lambda header: header.update(format_version=99, something_new=1))


def no_version(path):
    rewrite(path, lambda header: header.pop("format_version"))


def unknown_config_key(path):
    rewrite(path, lambda header: header["config"].update(featurse=3))


def bad_baseline(path):
    rewrite(path, lambda header: header["baseline"].update(energy_scale=None))


def bad_references(path):
    rewrite(path, lambda header: header["baseline"].update(species_energy=[1, 2]))


def other_weights(path):
    rewrite(path, weights={"a": torch.zeros(3)})


def weights_of_another_size(path):
    rewrite(path, lambda header: header["config"].update(features=16))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (as_pickle, "pickle"),
        (as_torch_zip, "pickle"),
        (as_torch_legacy, "pickle"),
        (as_old_pickle, "not a safetensors file"),
        (as_zip, "never read"),
        (truncated, "truncated"),
        (only_the_start, "truncated"),
        (empty, "truncated"),
        (text, "not a safetensors file"),
        (foreign, "another program"),
        (newer, "format 99.*upgrade"),
        (no_version, "unreadable header"),
        (unknown_config_key, "does not fit.*featurse"),
        (bad_baseline, "does not fit"),
        (bad_references, "does not fit"),
        (other_weights, "weights do not fit"),
        (weights_of_another_size, "weights do not fit"),
    ],
)
def test_spoilt_checkpoint_is_refused_in_one_line(path, spoil, message):
    spoil(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "nothing.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            checkpoint.load(path)


def test_unknown_model_is_named(path):
    rewrite(path, lambda header: header.update(model="from_another_package"))
    with pytest.raises(ModelError, match=r"from_another_package.*registered are"):
        checkpoint.load(path)


def test_failed_write_keeps_the_earlier_file(path, monkeypatch):
    before = path.read_bytes()

    def disk_full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", disk_full)
    with pytest.raises(MLCalcError, match="No space left"):
        checkpoint.save(make(seed=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
