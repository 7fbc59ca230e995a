"""Numbers as readers want to see them: rounded to their error, with a true minus sign, a dash where unknown."""

import math
import re
from collections.abc import Sequence

from ase_mlcalc.md.drift import Slope

UNKNOWN = "–"
"""Shown for a number that is not known."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def minus(text: str) -> str:
    """The text with a true minus sign before numbers; hyphens in words and ranges stay."""
    return re.sub(r"(?<![\w)])-(?=[\d.])", "−", text)


def number(value: float | None, digits: int = 3) -> str:
    """A number with some significant digits, without a power of ten where it can be avoided."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value != 0 and not 1e-4 <= abs(value) < 10.0**6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return minus(f"{mantissa}×10{_raised(int(exponent))}")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{places}f}"
    return minus(text.rstrip("0").rstrip(".") if "." in text else text)


def plus_minus(value: float, stderr: float | None, *, sign: bool = True) -> str:
    """A value with its standard error, rounded to two digits of the error; a power of ten keeps small ones short."""
    plus = "+" if sign else ""
    if stderr is None or not math.isfinite(stderr):
        return minus(f"{value:{plus}.3g}")
    if stderr <= 0:
        return minus(f"{value:{plus}.3g} ± 0")
    power = math.floor(math.log10(stderr))
    if power < -3 and abs(value) < 1:
        scale = 10.0**power
        return minus(f"({value / scale:{plus}.1f} ± {stderr / scale:.1f})×10{_raised(power)}")
    digits = max(0, 1 - power)
    return minus(f"{value:{plus}.{digits}f} ± {stderr:.{digits}f}")


def slope_words(line: Slope) -> str:
    """A slope with its standard error."""
    return plus_minus(line.slope, line.stderr)


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 run, 3 runs."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def sentence(text: str) -> str:
    """With a capital at its start, unless that is the name of a setting, and a full stop at its end."""
    text = text.strip()
    if not text:
        return ""
    start = text[0].upper() if text.split()[0].rstrip(",;:").isalpha() else text[0]
    return f"{start}{text[1:]}" + ("" if text.endswith((".", "!", "?", ":")) else ".")


def duration(seconds: float | None) -> str:
    """A time of work: 12 s, 4.2 min, 3.1 h."""
    if seconds is None:
        return UNKNOWN
    if seconds < 100:
        return f"{number(seconds, 2)} s"
    return f"{number(seconds / 60, 2)} min" if seconds < 6000 else f"{number(seconds / 3600, 2)} h"


def _raised(power: int) -> str:
    return str(power).translate(_SUPERSCRIPTS)
