"""The order of the package: a module imports only from its left, and the documentation states that order."""

import ast
import re
from pathlib import Path

import ase_mlcalc

PACKAGE = Path(ase_mlcalc.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "architecture.md"
BY_NAME = {("model", "models")}
"""The registry imports every file of ``models/`` when it is first asked, so that none is listed anywhere."""


def documented_order():
    """Parts of the package as the line of the documentation has them: groups that may only look to the left."""
    (block,) = re.findall(r"<!-- import order -->\n+```\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return [group.split() for group in block.split("->")]


def part_of(module):
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imports():
    """(part, imported part, where) of all imports inside the package, those inside functions included."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE.parent).with_suffix("")
        module = ".".join(relative.parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}, line {node.lineno}: imports are absolute"
                whole = node.module == "ase_mlcalc"
                names = [f"ase_mlcalc.{alias.name}" for alias in node.names] if whole else [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] == "ase_mlcalc" and part_of(name) != part_of(module):
                    yield part_of(module), part_of(name), f"{path.name}, line {node.lineno}"


def test_every_part_has_a_place():
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    placed = [part for group in documented_order() for part in group]
    assert sorted(placed) == sorted(parts - {"__init__", "__main__"})


def test_modules_import_only_from_their_left():
    place = {part: k for k, group in enumerate(documented_order()) for part in group}
    found = [each for each in imports() if each[0] in place and each[1] in place]
    assert len(found) > 100
    wrong = [each for each in found if place[each[1]] >= place[each[0]] and each[:2] not in BY_NAME]
    assert not wrong
