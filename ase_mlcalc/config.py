"""Job configuration: TOML files checked against pydantic models that sit beside the code they configure."""

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ase_mlcalc.errors import ConfigError

ConfigModel = TypeVar("ConfigModel", bound=BaseModel)


class Section(BaseModel):
    """A table of a job file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_toml(path: Path | str) -> dict[str, Any]:
    """The raw contents of a configuration file.

    Raises
    ------
    ConfigError
        No such file, or not TOML.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration file at {path}; `ase-mlcalc template JOB` prints one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from error


def apply_overrides(raw: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `raw` with ``section.key=value`` items put in; values are TOML, or else plain strings."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    for item in overrides:
        name, separator, text = item.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"an override reads section.key=value, got {item!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        *sections, key = name.strip().split(".")
        table = result
        for section in sections:
            inner = table.get(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"override {item!r}: {section!r} is the value {inner!r}, not a section")
            table[section] = dict(inner)
            table = table[section]
        table[key] = value
    return result


def validate(config_class: type[ConfigModel], raw: dict[str, Any], where: str) -> ConfigModel:
    """Raw values to a checked configuration.

    Raises
    ------
    ConfigError
        One line that names every wrong key, what it got, what is expected and, for a typo, the likely key.
    """
    try:
        return config_class.model_validate(raw)
    except ValidationError as error:
        problems = [_describe(config_class, dict(problem)) for problem in error.errors()]
        raise ConfigError(f"{where}: " + "; ".join(problems)) from error


def _describe(config_class: type[BaseModel], problem: dict[str, Any]) -> str:
    location = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        reason = problem["msg"].removeprefix("Value error, ")
        got = problem.get("input")
        # what is wrong with a table as a whole is in the words; all of its values would bury them
        shown = "" if isinstance(got, dict) else f" (got {_shortened(got)})"
        return f"{location}: {reason}{shown}" if location else f"{reason}{shown}"
    known = _known_keys(config_class, problem["loc"][:-1])
    guess = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f"did you mean {guess[0]!r}?" if guess else f"known keys are {', '.join(known)}"
    return f"unknown key {location!r}; {hint}"


def _shortened(value: Any, most: int = 100) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _known_keys(config_class: type[BaseModel], path: Iterable[Any]) -> list[str]:
    fields = config_class.model_fields
    for part in path:
        if isinstance(part, int):  # position in a list of tables
            continue
        annotation = fields[part].annotation if part in fields else None
        sections = (_section_class(each)[0] for each in (annotation, *get_args(annotation)))  # also of "Section | None"
        section = next((each for each in sections if each is not None), None)
        if section is None:
            return []
        fields = section.model_fields
    return sorted(fields)


def _section_class(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model behind a table or a list of tables, ``tuple[Model, ...]``, and whether it is a list."""
    listed = get_origin(annotation) is tuple
    candidate = get_args(annotation)[0] if listed else annotation
    return (candidate, listed) if isinstance(candidate, type) and issubclass(candidate, BaseModel) else (None, listed)


def template(config_class: type[BaseModel], table: str = "") -> str:
    """A commented TOML text with every key of a configuration class and its default."""
    lines = [f"[{table}]"] if table else []
    nested = []
    for name, field in config_class.model_fields.items():
        section, listed = _section_class(field.annotation)
        if section is not None:
            path = f"{table}.{name}" if table else name
            text = template(section, path)
            nested.append(text.replace(f"[{path}]", f"[[{path}]]", 1) if listed else text)
            continue
        lines += [f"# {field.description}"] if field.description else []
        default = _default(field)
        commented = default is None
        lines.append(f"{'# ' if commented else ''}{name} = {'...' if commented else toml_value(default)}")
    return "\n\n".join(["\n".join(lines)] * bool(lines) + nested)


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return None if default is PydanticUndefined else default


def toml_value(value: Any) -> str:
    """A Python value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON strings are TOML strings


def toml_key(key: Any) -> str:
    """A key as TOML, quoted where needed."""
    text = str(key)
    bare = text.isascii() and text.replace("_", "").replace("-", "").isalnum()
    return text if bare else toml_value(text)


def changed_keys(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """Dotted names of the keys in which two configurations differ, with both values."""
    changes = []
    for key in sorted(old.keys() | new.keys()):
        name = f"{path}.{key}" if path else key
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += changed_keys(before, after, name)
        elif before != after:
            changes.append(f"{name} (was {before!r}, now {after!r})")
    return changes
