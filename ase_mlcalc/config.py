"""Job configuration: TOML files checked against pydantic models that sit beside the code they configure."""

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

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
    """A copy of `raw` with ``section.key=value`` items put in; values are TOML, or else plain strings.

    Places in lists count from 0: ``md.1.time_ps`` is a key of the second ``[[md]]`` table.  The first of a list may
    stand in the file as a table by itself, ``[md]``, which ``md.0.time_ps`` names too.
    """
    result = copy.deepcopy(raw)
    for item in overrides:
        name, separator, text = item.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"an override reads section.key=value, got {item!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        _put(result, name.strip().split("."), value, item)
    return result


def _put(table: dict[str, Any], path: list[str], value: Any, item: str) -> None:
    """Set what a path names, and make the tables on the way that are not there yet."""
    at: Any = table
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(at, list):
            key: Any = _place(at, path, depth, item)
        elif isinstance(at, dict):
            if part == "0" and depth and not last and part not in at:
                continue  # a table that stands for a list of one
            key = part
        else:
            raise ConfigError(f"override {item!r}: {path[depth - 1]!r} is the value {at!r}, not a section")
        if last:
            at[key] = value
        else:
            at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]


def _place(items: list[Any], path: list[str], depth: int, item: str) -> int:
    """The place in a list that a path names."""
    part = path[depth]
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    name = ".".join(path[:depth])
    what = "table" if items and all(isinstance(each, dict) for each in items) else "value"
    is_place = part.lstrip("-").isdecimal()  # and no place in this list; otherwise it is left out
    rest = path[depth + is_place :]
    ends = [".".join([name, f"{place}", *rest]) for place in sorted({0, len(items) - 1})] if items else []
    known = f": {' to '.join(ends)}" if ends else ""
    raise ConfigError(f"override {item!r}: {name} is a list of {len(items)} {what}{'s' * (len(items) != 1)}{known}")


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
        problems = [_describe(config_class, problem) for problem in _problems(config_class, error)]
        raise ConfigError(f"{where}: " + "; ".join(problems)) from error


ALTERNATIVES = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a table",
}
"""Type of a problem to what was expected, for values that may be one of several things."""


def _problems(config_class: type[BaseModel], error: ValidationError) -> list[dict[str, Any]]:
    """Problems of pydantic, those about the alternatives for one value as one.

    Pydantic tells one for each alternative and names the alternative as if it were a key: ``use.bool`` and
    ``use.literal['auto']`` for what may be true, false or "auto".
    """
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in error.errors():
        found.setdefault(_keys_only(config_class, each["loc"]), []).append(dict(each))
    # where an alternative fits but not what is in it, only that is told
    inner = {key for key in found if not any(len(other) > len(key) and other[: len(key)] == key for other in found)}
    return [_as_one(key, problems) for key, problems in found.items() if key in inner]


def _as_one(key: tuple[Any, ...], problems: list[dict[str, Any]]) -> dict[str, Any]:
    if len(problems) == 1:
        return problems[0] | {"loc": key}
    words = [ALTERNATIVES.get(each["type"], each["msg"].removeprefix("Input should be ")) for each in problems]
    single = [part for each in dict.fromkeys(words) for part in re.split(" or |, ", each)]  # of a literal, several
    expected = " or ".join(filter(None, [", ".join(single[:-1]), single[-1]]))
    return problems[0] | {"loc": key, "type": "alternatives", "msg": f"Input should be {expected}"}


def _keys_only(annotation: Any, location: tuple[Any, ...]) -> tuple[Any, ...]:
    """A location of pydantic without the names of alternatives."""
    if not location:
        return ()
    part, rest = location[0], location[1:]
    alternatives = _alternatives(annotation)
    if len(alternatives) > 1:  # `part` names one of them
        return _keys_only(next((each for each in alternatives if getattr(each, "__name__", "") == part), None), rest)
    return (part, *_keys_only(_inside(alternatives[0], part), rest))


def _alternatives(annotation: Any) -> list[Any]:
    """What a value may be, besides ``None``."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for each in get_args(annotation) if each is not type(None) for one in _alternatives(each)]
    return [annotation]


def _inside(annotation: Any, part: Any) -> Any:
    """The type of a part of a table or list, ``None`` if that is not known."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields[part].annotation if part in annotation.model_fields else None
    arguments = [each for each in get_args(annotation) if each is not Ellipsis]
    return arguments[-1] if arguments else None


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
    return f"unknown key {location!r}" + (f"; {hint}" if known else "")


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
