"""Escapes text from files, so that it has no effect in terminals, Markdown and CSV.

HTML is built by ``visualization.html``, and text in figures by ``visualization.fonts``.
"""

import re
import reprlib
import unicodedata
from typing import Any

JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # needed by several scripts
COLOR = re.compile(r"(\x1b\[[\d;]*m)")  # in Detectron2's log
FORMULA = ("=", "+", "-", "@")  # at the start of a cell
SHOWN = 60  # characters of a value in a message
_shortened = reprlib.Repr()  # values may be nested or long without limit
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = SHOWN


def printable(text: str) -> str:
    """Writes control characters as escapes: they could manipulate a terminal or reorder a line."""
    if text.isprintable():
        return text
    return "".join(char if _is_text(char) else ascii(char)[1:-1] for char in text)


def _is_text(char: str) -> bool:
    return char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs"


def one_line(text: str) -> str:
    """Joins the lines of a message, and makes it printable."""
    return printable(" ".join(line.strip() for line in text.splitlines()).strip())


def printable_log(text: str) -> str:
    """Makes a log message printable, except for its lines and colors."""
    parts = COLOR.split(text)
    parts[::2] = ["\n".join(map(printable, part.split("\n"))) for part in parts[::2]]
    return "".join(parts)


def shown(value: Any) -> str:
    """Returns a value as text of at most ``SHOWN`` characters."""
    text = "null" if value is None else _shortened.repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def for_markdown(text: str) -> str:
    """Escapes what Markdown would take as markup, or as the next cell of a table."""
    return re.sub(r"([\\`|<&\[\]*])", r"\\\1", printable(text))


def for_csv(text: str) -> str:
    """Keeps spreadsheets from taking a name as a formula, by a leading apostrophe."""
    text = printable(text)
    return f"'{text}" if text.startswith(FORMULA) else text
