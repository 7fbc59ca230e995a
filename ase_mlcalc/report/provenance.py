"""Section: what made the numbers, so that they can be made again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ase_mlcalc.config import toml_key, toml_value
from ase_mlcalc.report.page import Block, Code, Facts, Section


def provenance_section(facts: Mapping[str, Any], configurations: Sequence[tuple[str, Mapping[str, Any]]]) -> Section:
    """Versions, seeds, files and their digests, the machine; and configurations as they can be used again."""
    rows = [(name.replace("_", " "), text) for name, value in facts.items() if (text := _shown(value))]
    blocks: list[Block] = [Facts(rows)] if rows else []
    blocks += [Code(title, toml(values)) for title, values in configurations]
    return Section("Provenance", blocks)


def toml(values: Mapping[str, Any], table: str = "") -> str:
    """A configuration as TOML, tables behind plain keys; keys without a value are left out."""
    plain = {key: value for key, value in values.items() if value is not None and not _is_table(value)}
    lines = [f"{toml_key(key)} = {toml_value(value)}" for key, value in plain.items()]
    text = [f"[{table}]\n" + "\n".join(lines) if table else "\n".join(lines)] if lines else []
    for key, value in values.items():
        path = f"{table}.{toml_key(key)}" if table else toml_key(key)
        if isinstance(value, Mapping):
            text.append(toml(value, path))
        elif _is_table(value):
            text += [toml(each, path).replace(f"[{path}]", f"[[{path}]]", 1) for each in value]
    return "\n\n".join(part for part in text if part)


def _is_table(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(each, Mapping) for each in value)


def _shown(value: Any) -> str:
    if value is None or value in ({}, [], ()):
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, each in value.items() if (text := _shown(each)))
    if isinstance(value, list | tuple):
        return ", ".join(_shown(each) for each in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
