"""From one level of theory to another: other weights to begin with, differences, and data that are kept apart."""

import json
import tomllib

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.calculator import all_changes
from ase.calculators.mixing import SumCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from safetensors.torch import load_file
from training_cases import SCHNET, clusters, crystals, isolated_atoms, lennard_jones, make_job, write

from ase_mlcalc import checkpoint
from ase_mlcalc.calculator import MLCalculator
from ase_mlcalc.cli import main
from ase_mlcalc.cli.templates import template_of
from ase_mlcalc.config import validate
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.ensemble import Ensemble
from ase_mlcalc.errors import CheckpointError, ConfigError, DataError, NumericalError, SpeciesError
from ase_mlcalc.graph import from_atoms
from ase_mlcalc.models.sum import Sum
from ase_mlcalc.training import calibration, members, steps, written
from ase_mlcalc.training.config import FROM_OTHER_WEIGHTS, BaseConfig, TrainConfig, TrainJob
from ase_mlcalc.training.dataset import load
from ase_mlcalc.training.delta import corrected, relative
from ase_mlcalc.training.seen import n_seen
from ase_mlcalc.training.train import train

OFFSET_EV = {18: -3.0, 36: 2.0}
"""Per atom, between the two levels."""


def other_level(structures, factor=1.1, offset=OFFSET_EV):
    """The same structures at another level: a little stiffer, and with other energies of atoms."""
    found = []
    for atoms in structures:
        results = {name: factor * np.array(value) for name, value in atoms.calc.results.items()}
        results["energy"] += sum(offset[int(z)] for z in atoms.numbers)
        moved = atoms.copy()
        moved.calc = SinglePointCalculator(moved, **results)
        found.append(moved)
    return found


def both_levels(folder):
    low = clusters(10) + crystals(6) + isolated_atoms()
    return write(folder / "low.xyz", low), write(folder / "high.xyz", other_level(low))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than training here."""
    for module in (written, members):
        monkeypatch.setattr(module, "parity", lambda *_: None)
    monkeypatch.setattr(written, "learning_curves", lambda *_: None)
    monkeypatch.setattr(calibration, "calibration_plot", lambda *_: None)


@pytest.fixture
def files(tmp_path):
    return both_levels(tmp_path)


@pytest.fixture
def first(tmp_path, files):
    """A potential of the lower level."""
    return train(make_job(tmp_path / "first", files[0], max_epochs=2, learning_rate=0.01), progress=False).checkpoint


@pytest.fixture
def frozen(monkeypatch):
    """No step changes anything."""
    monkeypatch.setattr(steps, "step", lambda *_: torch.zeros(2, dtype=torch.float64))


# ----- starting from other weights -----


def test_the_model_may_be_left_to_the_checkpoint(tmp_path, files, first, frozen):
    raw = {"output": tmp_path / "run", "data": {"train": files[1]}, "train": {"max_epochs": 1, "start_from": first}}
    result = train(validate(TrainJob, raw, "test"), progress=False)
    old, new = checkpoint.load(first), checkpoint.load(result.checkpoint)
    assert new.model.config == old.model.config
    assert old.model.config.features == SCHNET["features"], "the default is another, or this would say nothing"
    assert all(torch.equal(value, new.model.state_dict()[name]) for name, value in old.model.state_dict().items())
    with pytest.raises(ConfigError, match="model: needs name"):
        validate(TrainJob, {**raw, "train": {"max_epochs": 1}}, "test")


def test_isolated_atoms_of_the_new_level_are_its_reference_energies(tmp_path, files, first, frozen):
    old = checkpoint.load(first).baseline
    new = checkpoint.load(
        train(make_job(tmp_path / "run", files[1], start_from=first, max_epochs=1), progress=False).checkpoint
    ).baseline
    assert new.energy_scale == old.energy_scale, "the weights mean energies in this unit"
    for z, offset in OFFSET_EV.items():
        assert new.species_energy[z] == pytest.approx(old.species_energy[z] + offset)


def test_without_isolated_atoms_reference_energies_are_fitted_to_the_new_level(tmp_path, files, first, frozen):
    high = write(tmp_path / "bound.xyz", other_level(clusters(10) + crystals(6), factor=1.0))
    result = train(make_job(tmp_path / "run", high, start_from=first, max_epochs=1), progress=False)
    before = train(make_job(tmp_path / "before", files[0], start_from=first, max_epochs=1), progress=False)
    assert result.metrics.energy_mae_meV_per_atom < before.metrics.energy_mae_meV_per_atom + 200
    new = checkpoint.load(result.checkpoint)
    atoms = other_level(clusters(1, seed=5), factor=1.0)[0]
    predicted = float(new(from_atoms(atoms, new.cutoff)).energy)
    assert abs(predicted - atoms.calc.results["energy"]) < 1.0
    assert abs(sum(OFFSET_EV[int(z)] for z in atoms.numbers)) > 3.0


def test_steps_are_smaller_from_other_weights_unless_they_are_given(tmp_path, files, first):
    assert make_job(tmp_path, files[0]).train.learning_rate > FROM_OTHER_WEIGHTS["learning_rate"]
    job = make_job(tmp_path, files[0], start_from=first)
    assert job.train.learning_rate == FROM_OTHER_WEIGHTS["learning_rate"]
    assert make_job(tmp_path, files[0], start_from=first, learning_rate=0.01).train.learning_rate == 0.01


def test_members_start_from_the_members_of_an_ensemble(tmp_path, files, frozen):
    job = make_job(tmp_path / "committee", files[0], members=2, max_epochs=1)
    committee = train(job, progress=False).checkpoint
    tuned = train(make_job(tmp_path / "tuned", files[1], members=2, start_from=committee, max_epochs=1), progress=False)
    before, after = load_file(committee), load_file(tuned.checkpoint)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(*(before[f"member-{k}.readout.0.weight"] for k in (1, 2)))
    one = train(
        make_job(tmp_path / "one", files[1], start_from=committee, start_member=2, max_epochs=1), progress=False
    )
    assert torch.equal(load_file(one.checkpoint)["readout.0.weight"], before["member-2.readout.0.weight"])
    with pytest.raises(ConfigError, match=r"holds 2 potentials and train\.members is 3"):
        train(make_job(tmp_path / "three", files[1], members=3, start_from=committee), progress=False)
    with pytest.raises(ConfigError, match=r"holds an ensemble of 2; train as many members"):
        train(make_job(tmp_path / "none", files[1], start_from=committee), progress=False)


def test_which_levels_are_said_and_kept(tmp_path, files, capsys):
    low, high = ([*clusters(8)], other_level(clusters(8, seed=5)))
    for atoms in low:
        atoms.info["level_of_theory"] = "LDA"
    for atoms in high:
        atoms.info["level_of_theory"] = "CCSD(T)"
    first = train(make_job(tmp_path / "first", write(tmp_path / "l.xyz", low), max_epochs=1), progress=False).checkpoint
    assert checkpoint.read_header(first).provenance["level_of_theory"] == ["LDA"]
    train(make_job(tmp_path / "run", write(tmp_path / "h.xyz", high), max_epochs=1, start_from=first))
    assert "from LDA to CCSD(T)" in " ".join(capsys.readouterr().out.split())


def test_on_the_command_line(tmp_path, files, first, capsys):
    text = f'output = "{tmp_path}/run"\n[data]\ntrain = "{files[1]}"\n[train]\nmax_epochs = 1\ndevice = "cpu"\n'
    (tmp_path / "job.toml").write_text(text)
    assert main(["train", str(tmp_path / "job.toml"), "--from", str(first)]) == 0
    stored = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert (stored["model"]["name"], stored["train"]["start_from"]) == ("schnet", str(first))
    assert stored["train"]["learning_rate"] == FROM_OTHER_WEIGHTS["learning_rate"]
    assert main(["train", str(tmp_path / "job.toml"), "--from", str(first)]) == 0
    assert "holds a finished run" in " ".join(capsys.readouterr().out.split())
    assert main(["train", str(tmp_path / "job.toml")]) == 1
    assert 'model: needs name = "..."' in capsys.readouterr().err


def test_the_template_is_valid_and_says_the_defaults_in_use():
    job = validate(TrainJob, tomllib.loads(template_of("transfer")), "template")
    assert (job.model, job.train.max_minutes) == ({}, None)
    by_default = validate(TrainConfig, {"start_from": job.train.start_from, "max_epochs": job.train.max_epochs}, "x")
    assert job.train == by_default
    plain = tomllib.loads(template_of("train"))
    assert not FROM_OTHER_WEIGHTS.keys() & plain["train"].keys(), "they would win over the defaults of --from"
    with pytest.raises(ConfigError, match="a transfer has the model"):
        template_of("transfer", "schnet")


# ----- differences to another potential -----


def delta_job(folder, file, base, **keys):
    return make_job(folder, file, data={"base": base, **keys.pop("data", {})}, **keys)


def test_labels_are_relative_to_the_base(files, first):
    data = load(make_job(first.parent, files[1]).data)
    job = delta_job(first.parent, files[1], {"model": first})
    old = checkpoint.load(first)
    for frame, rest in zip(data.train, relative(data.train, job.data.base), strict=True):
        predicted = old(from_atoms(frame.atoms, old.cutoff))
        for name in rest.labels.given():
            label = getattr(frame.labels, name)
            torch.testing.assert_close(getattr(rest.labels, name) + getattr(predicted, name), label, rtol=0, atol=1e-6)
    assert {"energy", "forces", "stress"} == set().union(
        *(frame.labels.given() for frame in relative(data.train, job.data.base))
    )


def test_the_result_is_one_potential_of_base_and_difference(tmp_path, files, first):
    result = train(delta_job(tmp_path / "run", files[1], {"model": first}, max_epochs=2), progress=False)
    whole, base = checkpoint.load(result.checkpoint), checkpoint.load(first)
    assert isinstance(whole.model, Sum)
    assert checkpoint.read_header(result.checkpoint).provenance["base"]["model"] == str(first)
    atoms = crystals(1, seed=9)[0]
    atoms.calc = MLCalculator(result.checkpoint)
    assert np.abs(atoms.get_stresses().sum(axis=0) - atoms.get_stress()).max() < 1e-9
    # what training measured are the errors of the whole on the labels of the files
    data = load(make_job(tmp_path, files[1]).data)
    held = [frame for frame in data.validation if frame.labels.forces is not None]
    errors = [whole(from_atoms(frame.atoms, whole.cutoff)).forces - frame.labels.forces for frame in held]
    mae = 1000 * float(torch.cat(errors).abs().mean())
    assert mae == pytest.approx(result.metrics.force_mae_meV_per_A, rel=1e-4)
    own = 1000 * float(
        torch.cat([base(from_atoms(f.atoms, base.cutoff)).forces - f.labels.forces for f in held]).abs().mean()
    )
    assert mae != pytest.approx(own, rel=1e-3), "nothing was learned"


def test_an_untrained_difference_is_small_beside_the_base(tmp_path, files, first):
    """Reference energies of the difference take up the offset between the levels from the start."""
    result = train(delta_job(tmp_path / "run", files[1], {"model": first}, max_epochs=1), progress=False)
    energies = checkpoint.load(result.checkpoint).baseline.species_energy
    old = checkpoint.load(first).baseline.species_energy
    for z, offset in OFFSET_EV.items():
        assert energies[z] == pytest.approx(old[z] + offset, abs=1e-3)


def test_a_killed_run_goes_on_and_another_base_is_refused(tmp_path, files, first):
    class KilledError(Exception):
        """Stands for a kill."""

    def job(name, base=first):
        return delta_job(tmp_path / name, files[1], {"model": base}, max_epochs=4)

    train(job("whole"), progress=False)
    calls = []

    def killed(run, batch, step=steps.step):
        calls.append(1)
        if len(calls) == 9:
            raise KilledError
        return step(run, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "step", killed)
        with pytest.raises(KilledError):
            train(job("killed"), progress=False)
    moved = first.rename(tmp_path / "moved.safetensors")
    train(job("killed", moved), progress=False)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    another = train(make_job(tmp_path / "another", files[0], max_epochs=1, seed=3), progress=False).checkpoint
    with pytest.raises(ConfigError, match=r"other data: .* or the model .* that they are taken relative to, changed"):
        train(job("killed", another), progress=False)


def test_members_learn_differences_too(tmp_path, files, first):
    job = delta_job(tmp_path / "run", files[1], {"model": first}, members=2, max_epochs=1)
    result = train(job, progress=False)
    ensemble = checkpoint.load(result.checkpoint)
    assert isinstance(ensemble, Ensemble)
    assert all(isinstance(member.model, Sum) for member in ensemble.members)
    raw = json.loads((tmp_path / "run" / "metrics.json").read_text())
    each = [json.loads((tmp_path / "run" / f"member-{k}" / "metrics.json").read_text()) for k in (1, 2)]
    for one, other in zip(raw["members"], each, strict=True):
        assert one["force_mae_meV_per_A"] == pytest.approx(other["force_mae_meV_per_A"], rel=1e-4)


def test_a_difference_goes_on_from_an_earlier_one(tmp_path, files, first, frozen):
    earlier = train(
        delta_job(tmp_path / "earlier", files[1], {"model": first}, max_epochs=1), progress=False
    ).checkpoint
    again = delta_job(tmp_path / "again", files[1], {"model": first}, max_epochs=1, start_from=earlier, seed=5)
    one, other = load_file(earlier), load_file(train(again, progress=False).checkpoint)
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ConfigError, match=r"holds the sum of schnet, schnet; learn a difference to it"):
        train(make_job(tmp_path / "other", files[1], start_from=earlier, max_epochs=1), progress=False)


def test_a_difference_to_a_calculator_is_a_correction(tmp_path, files):
    base = {"calculator": "training_cases:lennard_jones"}
    result = train(delta_job(tmp_path / "run", files[1], base, max_epochs=2), progress=False)
    atoms = crystals(1, seed=9)[0]
    atoms.calc = corrected(result.checkpoint)
    assert isinstance(atoms.calc, SumCalculator)
    lower = atoms.copy()
    lower.calc = lennard_jones()
    alone = atoms.copy()
    with pytest.warns(UserWarning, match=r"on top of the calculator training_cases:lennard_jones and is no potential"):
        alone.calc = MLCalculator(result.checkpoint)
    expected = lower.get_forces() + alone.get_forces()
    np.testing.assert_allclose(atoms.get_forces(), expected, atol=1e-9)
    # the labels are Lennard-Jones times 1.1, so that the difference is a tenth of them
    assert result.metrics.force_mae_meV_per_A < 100 * np.abs(lower.get_forces()).max()
    with pytest.raises(ConfigError, match="no correction to a calculator"):
        corrected(train(make_job(tmp_path / "plain", files[0], max_epochs=1), progress=False).checkpoint)


def smeared():
    """Lennard-Jones whose energy is not the one that forces are derivatives of, as with smeared electrons."""
    calculator = lennard_jones()
    calculate = calculator.calculate

    def shifted(atoms=None, properties=None, system_changes=all_changes):
        calculate(atoms, properties, system_changes)
        calculator.results["energy"] += 0.1 * calculator.results["free_energy"]

    calculator.calculate = shifted
    return calculator


def test_a_calculator_less_itself_is_nothing(tmp_path):
    """Also where its forces are derivatives of a free energy, and where atoms are fixed."""
    structures = clusters(3)
    for atoms in structures:
        atoms.calc = smeared()
        atoms.get_forces()
        atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "own.traj", structures)
    frames = read_frames([tmp_path / "own.traj"])
    for left in relative(frames, validate(BaseConfig, {"calculator": "test_training_transfer:smeared"}, "data.base")):
        assert float(left.labels.energy) == pytest.approx(0.0, abs=1e-12)
        np.testing.assert_allclose(left.labels.forces, 0.0, atol=1e-12)


def fails():
    """A calculator that never converges."""
    calculator = lennard_jones()

    def calculate(*_, **__):
        raise RuntimeError("no convergence")

    calculator.calculate = calculate
    return calculator


def test_bases_that_do_not_do_are_refused(tmp_path, files, first):
    def refused(error, match, base):
        with pytest.raises(error, match=match):
            train(delta_job(tmp_path / "run", files[1], base, max_epochs=1), progress=False)

    refused(ConfigError, "give either model or calculator", {})
    refused(ConfigError, "give either model or calculator", {"model": first, "calculator": "ase.calculators.emt:EMT"})
    refused(ConfigError, r"unknown key 'data\.base\.modle'; did you mean 'model'", {"modle": first})
    refused(ConfigError, "arguments are for a calculator", {"model": first, "arguments": {"a": 1}})
    refused(CheckpointError, "no checkpoint at", {"model": tmp_path / "none.safetensors"})
    refused(ConfigError, r"data\.base\.calculator = 'a:B' cannot be imported", {"calculator": "a:B"})
    refused(
        NumericalError,
        r"fails on high\.xyz\[\d+\] \(RuntimeError: no convergence\)",
        {"calculator": f"{__name__}:fails"},
    )
    direct = {"name": "tensor_field", "cutoff": 5.0}
    with pytest.raises(ConfigError, match=r"predicts forces; only energies of atoms can be added"):
        train(delta_job(tmp_path / "run", files[1], {"model": first}, model=direct, max_epochs=1), progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists(), "it is said before anything is trained"
    argon = write(tmp_path / "argon.xyz", crystals(6))
    narrow = train(make_job(tmp_path / "narrow", argon, max_epochs=1), progress=False).checkpoint
    refused(SpeciesError, "does not know Kr", {"model": narrow})


# ----- data that are kept apart -----


def test_levels_are_not_mixed_unless_they_are_named(tmp_path):
    low, high = clusters(4), clusters(5, seed=5)
    for atoms in low:
        atoms.info["level_of_theory"] = "LDA"
    for atoms in high:
        atoms.info["level_of_theory"] = "PBE"
    mixed = write(tmp_path / "mixed.xyz", low + high)
    with pytest.raises(DataError, match=r"several levels of theory, PBE \(5\), LDA \(4\); name what is meant"):
        load(make_job(tmp_path, mixed).data)
    named = load(make_job(tmp_path, mixed, data={"level_of_theory": "PBE"}).data)
    assert len(named.train) + len(named.validation) == 5
    both = load(make_job(tmp_path, mixed, data={"level_of_theory": ["PBE", "LDA"]}).data)
    assert len(both.train) + len(both.validation) == 9
    pair = {"train": [write(tmp_path / "low.xyz", low)], "validation": [write(tmp_path / "high.xyz", high)]}
    with pytest.raises(DataError, match="several levels of theory"):
        load(make_job(tmp_path, mixed, data=pair).data)
    with pytest.raises(DataError, match=r"no structure in the files of data\.validation is of a level in \['LDA'\]"):
        load(make_job(tmp_path, mixed, data={**pair, "level_of_theory": ["LDA"]}).data)


def test_evaluating_on_what_was_seen_is_said(tmp_path, capsys):
    learned, others = clusters(6), clusters(3, seed=8)
    file = write(tmp_path / "train.xyz", learned + isolated_atoms())
    mixed = write(tmp_path / "mixed.xyz", others + learned[:2] + isolated_atoms())
    write(tmp_path / "others.xyz", others)
    model = train(make_job(tmp_path / "run", file, max_epochs=1), progress=False).checkpoint
    assert n_seen(model, read_frames([mixed])) == 2
    assert main(["evaluate", str(model), str(mixed), "--out", str(tmp_path / "out")]) == 0
    assert "note: 2 of the structures were trained or validated on" in " ".join(capsys.readouterr().out.split())
    assert main(["evaluate", str(model), str(tmp_path / "others.xyz"), "--out", str(tmp_path / "out")]) == 0
    assert "note:" not in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["n_seen_in_training"] == 0
    committee = train(make_job(tmp_path / "two", file, max_epochs=1, members=2), progress=False).checkpoint
    assert n_seen(committee, read_frames([mixed])) == 2
    capsys.readouterr()
    words = [str(tmp_path / "two"), str(mixed), "--out", str(tmp_path / "out")]
    for verb in ("calibrate", "compare", "evaluate"):  # a folder of training stands for the checkpoint in it
        assert main([verb, *words]) == 0
        assert "note: 2 of the structures were trained or validated on; errors" in capsys.readouterr().out, verb
    assert main(["compare", str(model), *words]) == 0
    shown = capsys.readouterr().out
    assert "note: 2 of the structures were trained or validated on by run; errors" in shown
    assert "note: 2 of the structures were trained or validated on by two; errors" in shown
    assert main(["compare", str(model), str(tmp_path / "others.xyz"), *words[-2:]]) == 0
    assert "note:" not in capsys.readouterr().out
    checkpoint.save(checkpoint.load(model), tmp_path / "bare.safetensors")
    assert n_seen(tmp_path / "bare.safetensors", read_frames([mixed])) is None


def test_what_is_trained_on_is_not_validated_or_tested_on(tmp_path):
    learned, held = clusters(6) + isolated_atoms(), clusters(4, seed=8)
    moved = clusters(6)[2]
    moved.translate([3.0, 1.0, -2.0])
    moved.rotate(40, (1, 1, 0))
    files = {
        "train": [write(tmp_path / "train.xyz", learned)],
        "good": [write(tmp_path / "good.xyz", held + isolated_atoms())],
        "bad": [write(tmp_path / "bad.xyz", [held[0], moved])],
    }
    good = load(make_job(tmp_path, files["train"][0], data={"validation": files["good"]}).data)
    assert len(good.validation) == 6
    with pytest.raises(
        DataError, match=r"validation structure bad\.xyz\[1\] is the training structure train\.xyz\[2\]"
    ):
        load(make_job(tmp_path, files["train"][0], data={"validation": files["bad"]}).data)
    with pytest.raises(DataError, match=r"test structure bad\.xyz\[0\] is the training or validation structure good"):
        load(make_job(tmp_path, files["train"][0], data={"validation": files["good"], "test": files["bad"]}).data)
