"""Job files: defaults once, typos refused with a hint, templates that are valid."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest
from pydantic import BaseModel, Field
from pydantic_core import PydanticUndefined

from ase_mlcalc.config import Section, apply_overrides, read_toml, template, toml_key, toml_value, validate
from ase_mlcalc.errors import ConfigError
from ase_mlcalc.md.stages import MDJob
from ase_mlcalc.model import ModelConfig, registered
from ase_mlcalc.training.config import TrainConfig, TrainJob


class Inner(Section):
    timestep_fs: float = Field(0.5, gt=0, description="fs")
    name: str = 'say "hello"\\n\n\x7f'


class Job(Section):
    steps: int = Field(10, description="how many")
    output: Path = Path("run")
    limit: float | None = Field(None, description="not given")
    sizes: tuple[int, ...] = (1, 2)
    table: dict[str, float] = {"Å": 1.5, "a b": 2.0, "plain": 3.0}  # noqa: RUF012
    fast: bool = True
    md: Inner = Inner()


def test_defaults_and_values():
    job = validate(Job, {"steps": 3, "md": {"timestep_fs": 1}}, "job.toml")
    assert (job.steps, job.md.timestep_fs, job.fast) == (3, 1.0, True)


def test_typo_gets_a_hint():
    with pytest.raises(ConfigError, match=r"^job\.toml: unknown key 'stesp'; did you mean 'steps'\?$"):
        validate(Job, {"stesp": 3}, "job.toml")


def test_typo_in_a_section_gets_a_hint():
    with pytest.raises(ConfigError, match=r"unknown key 'md\.timestep'; did you mean 'timestep_fs'\?"):
        validate(Job, {"md": {"timestep": 1}}, "job.toml")


def test_unlike_key_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown key 'md\.zzz'; known keys are name, timestep_fs"):
        validate(Job, {"md": {"zzz": 1}}, "job.toml")


def test_all_problems_are_told_in_one_line():
    with pytest.raises(ConfigError) as caught:
        validate(Job, {"steps": "many", "md": {"timestep_fs": -1}, "typo": 0}, "job.toml")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("steps", "'many'", "md.timestep_fs", "-1", "'typo'"):
        assert part in message


def test_a_table_that_is_wrong_as_a_whole_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        validate(TrainConfig, {"workers": 2}, "train.toml")
    assert str(caught.value) == ("train.toml: bootstrap and workers are for ensembles; give members (for example 4)")


def test_alternatives_are_told_in_one_sentence():
    raw = {"job": {"structure": "a", "model": "b"}, "md": {"monitors": {"bonds": {"use": "maybe"}}}}
    with pytest.raises(ConfigError) as caught:
        validate(MDJob, raw, "md.toml")
    assert str(caught.value) == "md.toml: md.0.monitors.bonds.use: Input should be true, false or 'auto' (got 'maybe')"


class Wide(Section):
    low: int | float = 0


class Several(Section):
    one: Annotated[tuple[int, ...], "remark"] | Wide | None = None
    each: dict[str, bool | Literal["a", "b"]] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"one": "x"}, r"one: Input should be a list or .* \(got 'x'\)"),
        ({"one": [1, "x"]}, r"one\.1: Input should be a valid integer.* \(got 'x'\)"),
        ({"one": {"low": "x"}}, r"one\.low: Input should be a whole number or a number \(got 'x'\)"),
        ({"one": {"lou": 1}}, r"unknown key 'one\.lou'; did you mean 'low'\?"),
        ({"each": {"k": 7}}, r"each\.k: Input should be true, false, 'a' or 'b' \(got 7\)"),
    ],
)
def test_keys_are_named_without_the_alternatives_for_their_values(raw, message):
    with pytest.raises(ConfigError, match=f"^job: {message}$"):
        validate(Several, raw, "job")


def test_long_values_are_cut_off():
    with pytest.raises(ConfigError, match=r"^job\.toml: steps: .* \(got \[0, 1, .{,100}\.\.\.\)$"):
        validate(Job, {"steps": list(range(1000))}, "job.toml")


@pytest.mark.parametrize("config", [TrainJob, MDJob, *(model.Config for model in registered().values())])
def test_nothing_is_lost_where_none_cannot_be_written(config):
    """TOML has no null: a key that may be None has to be None where it is not given."""
    for section in sections(config):
        for name, field in section.model_fields.items():
            if type(None) in get_args(field.annotation):
                default = field.get_default(call_default_factory=True)
                assert default in (None, PydanticUndefined), f"{section.__name__}.{name} defaults to {default!r}"


def sections(config):
    """A configuration class and those of its tables."""
    yield config
    for field in config.model_fields.values():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from sections(inner)


def test_configurations_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Job().steps = 3


def test_overrides_put_values_in_without_changing_the_input():
    raw = {"steps": 1, "md": {"timestep_fs": 0.5}}
    result = apply_overrides(raw, ["steps=7", "md.timestep_fs = 2.0", "md.name=two words", "sizes=[3, 4]", "new.x=1"])
    assert result == {"steps": 7, "md": {"timestep_fs": 2.0, "name": "two words"}, "sizes": [3, 4], "new": {"x": 1}}
    assert raw == {"steps": 1, "md": {"timestep_fs": 0.5}}


def test_overrides_of_nested_sections_do_not_change_the_input():
    raw = {"a": {"b": {"c": {"x": 1}}}}
    assert apply_overrides(raw, ["a.b.c.x=2"]) == {"a": {"b": {"c": {"x": 2}}}}
    assert raw == {"a": {"b": {"c": {"x": 1}}}}


def test_overrides_reach_into_lists():
    raw = {"md": [{"time_ps": 1}, {"time_ps": 2}], "data": {"train": ["a", "b"]}}
    result = apply_overrides(raw, ["md.1.time_ps=5", "md.0.monitors.bonds.use=true", "data.train.0=c"])
    assert result["md"] == [{"time_ps": 1, "monitors": {"bonds": {"use": True}}}, {"time_ps": 5}]
    assert result["data"] == {"train": ["c", "b"]}
    assert raw == {"md": [{"time_ps": 1}, {"time_ps": 2}], "data": {"train": ["a", "b"]}}
    assert apply_overrides({"md": {"seed": 1}}, ["md.0.time_ps=5"]) == {"md": {"seed": 1, "time_ps": 5}}
    assert apply_overrides({}, ["md.0.time_ps=5"]) == {"md": {"time_ps": 5}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("md.time_ps=1", "md is a list of 2 tables: md.0.time_ps to md.1.time_ps"),
        ("md.2.time_ps=1", "md is a list of 2 tables: md.0.time_ps to md.1.time_ps"),
        ("md.-1.time_ps=1", "md is a list of 2 tables: md.0.time_ps to md.1.time_ps"),
        ("data.train.1=b", "data.train is a list of 1 value: data.train.0"),
        ("data.none.0=b", "data.none is a list of 0 values"),
    ],
)
def test_an_override_of_a_list_without_its_place_says_which_there_are(override, message):
    raw = {"md": [{"time_ps": 1}, {"time_ps": 2}], "data": {"train": ["a"], "none": []}}
    with pytest.raises(ConfigError, match=f"^override {override!r}: {re.escape(message)}$"):
        apply_overrides(raw, [override])


@pytest.mark.parametrize("override", ["steps", "=3", "steps.deeper=3"])
def test_wrong_override_is_refused(override):
    with pytest.raises(ConfigError, match="override"):
        apply_overrides({"steps": 1}, [override])


def test_template_is_valid_toml_with_the_defaults():
    text = template(Job)
    assert "# how many\nsteps = 10" in text
    assert "# limit = ..." in text
    assert "[md]" in text
    assert validate(Job, tomllib.loads(text), "template") == Job()


@pytest.mark.parametrize("value", ['a "quoted" \\ word', "two\nlines", "tab\t", "\x00\x1b\x7f", "Å ü 🙂", ""])
def test_strings_survive_toml(value):
    assert tomllib.loads(f"{toml_key(value)} = {toml_value(value)}") == {value: value}


@pytest.mark.parametrize("value", [True, 3, 2.5, 1e-300, [1, 2.5, "x"], {"a": {"b c": [1]}}, {1: 2.0}])
def test_values_survive_toml(value):
    expected = {str(key): item for key, item in value.items()} if isinstance(value, dict) else value
    assert tomllib.loads(f"v = {toml_value(value)}")["v"] == expected


def test_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="no configuration file"):
        read_toml(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_toml(tmp_path)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("steps = = 3")
    with pytest.raises(ConfigError, match=r"wrong\.toml is not a TOML file.*line 1"):
        read_toml(wrong)
    wrong.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_toml(wrong)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"species": []}, "species"),
        ({"species": [0]}, "0 is not an atomic number"),
        ({"species": [500]}, "500 is not an atomic number"),
        ({"species": [1, 1]}, "listed twice"),
        ({"cutoff": 0}, "cutoff"),
        ({"cutof": 3}, "did you mean 'cutoff'"),
    ],
)
def test_model_configurations_are_checked(raw, message):
    with pytest.raises(ConfigError, match=message):
        validate(ModelConfig, raw, "model")


def test_species_are_sorted():
    assert ModelConfig(species=(8, 1, 6)).species == (1, 6, 8)
