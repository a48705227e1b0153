"""The reference of the config keys, from ``msrcnn/config.py`` and the rules about their values."""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, get_cfg

from msrcnn.config import add_msrcnn_config, get_msrcnn_cfg
from msrcnn.config_by_key import flatten
from msrcnn.engine.config_values import CHOICES, range_in_words

# What is code in a comment: text in backticks, values in quotes, and keys.
CODE = re.compile(r'(`[^`]+`)|("\w+(?:/\w+)?"|"")|\b([A-Z][A-Z0-9_]+(?:\.[A-Z][A-Z0-9_]+)*)\b')


class Key(NamedTuple):
    """A key or, if its default is a ``CfgNode``, a section."""

    name: str
    default: object
    text: str


def described() -> Iterator[Key]:
    """Yields the keys that :func:`add_msrcnn_config` sets, in its order, with their comments."""
    source = inspect.getsource(add_msrcnn_config)
    comments = {
        token.start[0]: (token.start[1], token.string.removeprefix("# "))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    aliases, cfg = {}, get_msrcnn_cfg()
    for line in ast.parse(source).body[0].body:
        if not isinstance(line, ast.Assign):
            continue
        target, value = ast.unparse(line.targets[0]), ast.unparse(line.value)
        if isinstance(line.targets[0], ast.Name):
            aliases[target] = value
            continue
        first, _, rest = target.partition(".")
        name = f"{aliases.get(first, first)}.{rest}".removeprefix("cfg.")
        default = cfg
        for part in name.split("."):
            default = default[part]
        found = []
        above = line.lineno - 1
        while above in comments and comments[above][0] == line.col_offset:  # not behind code
            found.insert(0, comments[above][1])
            above -= 1
        if line.end_lineno in comments:
            found.append(comments[line.end_lineno][1])
        yield Key(name, default, " ".join(found))


def new_keys() -> set[str]:
    """Returns every key that msrcnn adds, or whose default it changes."""
    stock = flatten(get_cfg())
    return {
        key
        for key, default in flatten(get_msrcnn_cfg()).items()
        if key not in stock or stock[key] != default
    }


def allowed(key: Key) -> str:
    """Returns the values that a key can have, in words."""
    if key.name in CHOICES:
        choices = CHOICES[key.name]()
        if isinstance(choices, dict):  # a registry, which other projects can add to
            choices = [name for name, value in choices.items() if is_built_in(value)]
        return f"one of {', '.join(code(choice) for choice in choices)}"
    kind = type(key.default).__name__
    return ", ".join(filter(None, [f"`{kind}`", range_in_words(key.name)]))


def is_built_in(part: object) -> bool:
    module = getattr(part, "__module__", "msrcnn")
    if isinstance(part, torch.dtype):
        return True
    return re.match(r"msrcnn\b|detectron2\.(?!projects)", module) is not None


def code(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return f"`{text}`"


def with_code(text: str, section: str, known: set[str]) -> str:
    """Marks values and keys in a comment as code, and links the keys that have an entry.

    Args:
        text: the comment.
        section: the section it is in, whose keys it names without the section.
        known: the keys that have an entry.
    """

    def mark(match: re.Match) -> str:
        _, value, name = match.groups()
        for key in (name, f"{section}.{name}"):
            if key in known:
                return f"[`{name}`](#{key.replace('.', '').lower()})"
        is_key = name and "." in name  # else an abbreviation, such as AP
        return f"`{match[0]}`" if value or is_key else match[0]

    return CODE.sub(mark, text)


def write() -> None:
    """Prints the reference as Markdown."""
    keys = list(described())
    names = {key.name for key in keys if not isinstance(key.default, CfgNode)}
    assert names == new_keys(), names ^ new_keys()
    intro = {key.name: key.text for key in keys if isinstance(key.default, CfgNode)}
    sections: dict[str, list[Key]] = {}
    for key in keys:
        if key.name in names:
            sections.setdefault(key.name.rpartition(".")[0], []).append(key)
    for section, members in sections.items():
        print(f"## {section or 'Top level'}\n")
        if section in intro:
            print(f"{with_code(intro[section], section, names)}\n")
        for key in members:
            assert key.text, f"{key.name} has no comment"
            print(f"### `{key.name}`\n")
            print(f"{with_code(key.text, section, names)}\n")
            print(f"Default: {code(key.default)}. Values: {allowed(key)}.\n")
