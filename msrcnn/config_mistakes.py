"""Says in words which key or value does not fit a config; yacs's messages name Python's types."""

import ast
import difflib
import re
from collections.abc import Iterable, Sequence

from detectron2.config import CfgNode

from .config_by_key import flatten
from .errors import first_of
from .escaping import one_line

UNKNOWN = re.compile(r"Non-existent(?: config)? key: (\S+)$")
MISMATCH = re.compile(
    r"Type mismatch \(<class '(.*)'> vs. <class '(.*)'>\) with values \((.*) vs. (.*)\) "
    r"for config key: (\S+)",
    re.DOTALL,  # the values of a section have a line for each key
)
NEAREST = 3
# By type of a key's default, what its value must be.
KINDS = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "tuple": "a tuple",
    "list": "a list",
}


def check_overrides(cfg: CfgNode, opts: Sequence) -> None:
    """Rejects words that yacs would misunderstand, or name by their position only.

    Args:
        cfg: the config that they override.
        opts: ``KEY VALUE ...``, which may lack the last value.

    Raises:
        ValueError: naming the word.
    """
    known, keys = flatten(cfg), [str(key) for key in opts[::2]]
    for key in keys:
        if key.startswith("--"):
            raise ValueError(f"{key} must stand before the first KEY VALUE")
        name, equals, value = key.partition("=")
        if equals:
            raise ValueError(f"'{key}' is one word: put a space for '=', as in {name} {value}")
    if len(opts) % 2:  # the last word may be one that a command has added
        what = keys[-1] if keys[-1] in known else "a key"
        raise ValueError(f"{what} has no value; give KEY VALUE for each")
    for key in keys:
        if key in known:
            continue
        # yacs would replace all of a section.
        if below := [each for each in known if each.startswith(f"{key}.")]:
            raise ValueError(f"{key} is a section; give one of its keys, such as {min(below)}")
        raise ValueError(unknown_key(key, known))


def check_sections(cfg: CfgNode, content: dict) -> None:
    """Rejects a value in place of a section, such as ``MODEL: 5``.

    Raises:
        ValueError: naming the section.
    """
    for key, value in content.items():
        if isinstance(cfg.get(key), CfgNode) and not isinstance(value, dict):
            raise ValueError(_not_a_section(key, value))


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Says that there is no such key, and which are like it."""
    known = list(known)
    wanted = key.upper()
    near = [each for each in known if each == wanted or each.endswith(f".{wanted}")]
    near = near or difflib.get_close_matches(wanted, known)
    if not near:  # a part of a key
        last = wanted.rpartition(".")[2]
        names = difflib.get_close_matches(last, {each.rpartition(".")[2] for each in known})
        near = [each for name in names for each in known if each.rpartition(".")[2] == name]
    hint = first_of(near, NEAREST) if near else "docs/config.md lists msrcnn's keys"
    return f"there is no key '{key}'; {'nearest: ' if near else ''}{hint}"


def mistake(error: Exception, cfg: CfgNode) -> str:
    """Returns why a key or a value does not fit a config.

    Args:
        error: what yacs, or Python, has raised.
        cfg: the config.
    """
    if isinstance(error, RecursionError | MemoryError):
        return "a value is nested too deep"
    # str() of a KeyError is quoted; the first argument of an OSError is a number.
    message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    if match := UNKNOWN.search(message):
        return unknown_key(match[1], flatten(cfg))
    if match := MISMATCH.search(message):
        return _mismatch(*match.groups())
    return one_line(message) or type(error).__name__


def _mismatch(expected: str, found: str, default: str, value: str, key: str) -> str:
    if CfgNode.__name__ in expected:
        return _not_a_section(key, value)
    if CfgNode.__name__ in found:
        return f"{key} has keys below it, but it is not a section: its default is {default}"
    if expected in ("tuple", "list"):
        hint = f', such as "{_sequence(value, expected)}"'
    elif (expected, found) == ("float", "int"):
        hint = f" with a point: {value}.0"
    elif expected == "str":
        hint = f" in quotes of its own: \"'{value}'\""
    else:
        hint = f", as its default, {default}"
    return f"{key} is {value}; it must be {KINDS.get(expected, expected)}{hint}"


def _not_a_section(key: str, value: object) -> str:
    return f"{key} is {value}, but it is a section: give values to its keys, or remove it"


def _sequence(text: str, kind: str) -> str:
    """Returns a value that was written without parentheses, or without quotes, as a sequence."""
    words = (word.strip(" \t'\"()[]") for word in text.split(","))
    values = [_literal(word) for word in words if word]
    return repr(tuple(values) if kind == "tuple" else values)


def _literal(word: str) -> object:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
