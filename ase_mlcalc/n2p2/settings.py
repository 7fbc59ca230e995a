"""The keywords of ``input.nn``: which lines there are, and which say that this is not a potential known here."""

import re
import warnings
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from ase.data import atomic_numbers

from ase_mlcalc.errors import CheckpointError

REPEATED = {
    "atom_energy",
    "symfunction_short",
    "element_symfunction_short",
    "global_symfunction_short",
    "element_hidden_layers_short",
    "element_nodes_short",
    "element_activation_short",
}
"""Keywords that may stand in several lines."""
ONCE = {
    "number_of_elements",
    "elements",
    "cutoff_type",
    "cutoff_alpha",
    "scale_symmetry_functions",
    "scale_symmetry_functions_sigma",
    "center_symmetry_functions",
    "scale_min_short",
    "scale_max_short",
    "global_hidden_layers_short",
    "global_nodes_short",
    "global_activation_short",
    "normalize_nodes",
    "mean_energy",
    "conv_energy",
    "conv_length",
    "nnp_type",
    "nn_type",
    "nnp_gen",
    "nn_type_short",
    "committee_mode",
}
OF_ATOMS = {
    "nnp_type": {"0", "2", "2g", "2g-hdnnp"},
    "nn_type": {"0", "2", "2g", "2g-hdnnp"},
    "nnp_gen": {"2"},
    "nn_type_short": {"1"},
    "committee_mode": {"disabled"},
}
"""Values of these keywords that mean one short-range network for each element, and nothing else."""
OTHER_PHYSICS = re.compile(r"^(use_)?electrostatics?(_nn)?$|^use_(vdw|ewald|fixed_charges|hirshfeld|magnetic|spin|ham)")
"""Keywords that add energies which are not those of short-range networks of atoms."""
WITHOUT_EFFECT = re.compile(
    r"electrostatic|_elec$|charge|ewald|vdw|screen|pair|_ham|hardness|^use_|^write|^read|^print|^analy|^calculate|"
    r"^check|^debug|^detailed|^find|^fit|^fix|^growth|^force|^energy|^short_|^stress|^optmode|^kalman|^gradient|^rmse|"
    r"^weight|^precondition|^nguyen|^selection|^epochs|^random|^test|^update|^memorize|^repeat|^parallel|^jacobian|"
    r"^main_error|^task_batch|^batch|^mix|^shuffle|^save|^restart|^separate|^points|^nblock|^runner|^bond_threshold|"
    r"^cutoff_inner|^noise|^normalize_data|^max|^md_|^enforce|^dynforce|^joint|^levenberg|^conjugate|^steepest|"
    r"^remove|^enable|^environment|^data|^reset|^number_of_|^nn_type|^nnp_|^committee|^total|^ion_|^omp|^prune|"
    r"^silent|^start|^scale_m|^symfunction_(el|corr)|^global_(output|symfunction_el)|^element_symfunction_el|^lambda"
)
"""Keywords that change how a potential is trained, what is printed, or parts that are switched off."""


class Line(NamedTuple):
    """A keyword of ``input.nn`` with where it stands."""

    path: Path
    number: int
    keyword: str
    words: tuple[str, ...]

    def wrong(self, problem: str) -> CheckpointError:
        """An error that says where it is."""
        return CheckpointError(f"{self.path}, line {self.number}: {self.keyword}: {problem}")

    def word(self, k: int) -> str:
        """The value at a place."""
        if k >= len(self.words):
            raise self.wrong(
                f"{len(self.words)} values, expected more; see the format of input.nn and correct the line"
            )
        return self.words[k]

    def real(self, k: int) -> float:
        """The value at a place as a number."""
        try:
            return float(self.word(k).lower().replace("d", "e"))  # Fortran writes 1.0d0
        except ValueError:
            raise self.wrong(f"{self.word(k)!r} is not a number; correct the line") from None

    def integer(self, k: int) -> int:
        """The value at a place as a whole number."""
        value = self.real(k)
        if value != int(value):
            raise self.wrong(f"{self.word(k)!r} is not a whole number; correct the line")
        return int(value)

    def element(self, k: int) -> int:
        """The value at a place, a symbol, as an atomic number."""
        if self.word(k) not in atomic_numbers or self.word(k) == "X":
            raise self.wrong(f"{self.word(k)!r} is not an element; write its symbol, such as O")
        return atomic_numbers[self.word(k)]


class Settings:
    """The lines of ``input.nn`` by keyword."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, list[Line]] = defaultdict(list)
        for number, text in enumerate(read_text(path).splitlines(), start=1):
            keyword, *words = re.split(r"[#!]", text)[0].split() or [""]
            if keyword:
                self._add(Line(path, number, keyword, tuple(words)))

    def _add(self, line: Line) -> None:
        word = line.keyword
        if word in OF_ATOMS and line.word(0).lower() not in OF_ATOMS[word]:
            raise line.wrong(
                f"{line.word(0)!r} is a potential of another kind; expected one short-range network for each element "
                f"({' or '.join(sorted(OF_ATOMS[word]))}): evaluate it with the program that made it"
            )
        if word in ONCE and word in self.lines:
            first = self.lines[word][0].number
            raise line.wrong(f"stands in line {first} already; remove one of the two")
        if word in ONCE or word in REPEATED:
            self.lines[word].append(line)
        elif OTHER_PHYSICS.search(word):
            raise line.wrong(
                "adds energies that are not predicted here, where only short-range networks of atoms are known: "
                "evaluate the potential with the program that made it"
            )
        elif not WITHOUT_EFFECT.search(word):
            warnings.warn(
                f"{line.path}, line {line.number}: unknown keyword {word!r} is ignored, as n2p2 does", stacklevel=4
            )

    def has(self, keyword: str) -> bool:
        """Whether there is such a line."""
        return keyword in self.lines

    def one(self, keyword: str) -> Line:
        """The line with a keyword that has to be there."""
        if keyword not in self.lines:
            raise CheckpointError(f"{self.path}: no line {keyword!r}; it is needed to evaluate the potential: add it")
        return self.lines[keyword][0]

    def all(self, keyword: str) -> list[Line]:
        """All lines with a keyword; maybe none."""
        return self.lines.get(keyword, [])


def read_text(path: Path) -> str:
    """A file of a folder that has to be there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror or error}; expected a folder with input.nn, scaling.data and a "
            "weights.ZZZ.data for each element, as RuNNer and n2p2 write them: copy the file there"
        ) from error
