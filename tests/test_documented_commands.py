"""Command lines and flags in the documentation are those of the commands."""

import argparse
import re
import shlex

import pytest
from conftest import ROOT

from msrcnn.cli import COMMANDS, command_parser

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "datasets/README.md"]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAM = r"(?:\w+=\S+ )*(?:msrcnn [a-z]|(?:python )?tools/\w)"


def blocks(text: str) -> list[str]:
    """Command lines in code blocks, each on one line."""
    lines = "".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if re.match(PROGRAM, line) and "..." not in line]


def inline(text: str) -> list[str]:
    """Command lines in the text, which may leave out arguments."""
    return re.findall(rf"`({PROGRAM}[^`]*)`", FENCE.sub("", text))


def split(line: str) -> tuple[str, list[str]]:
    """Returns the command of ``COMMANDS`` and its arguments."""
    words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
    words = words[1:] if words[0] == "python" else words
    if words[0] == "msrcnn":
        return words[1], words[2:]
    (command,) = re.findall(r'main\("(.+)"\)', (ROOT / words[0]).read_text())
    return command, words[1:]


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """Returns the flags of a parser and of its subcommands."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(flags, action.choices.values()))
    return found


def cases(lines_of):
    lines = {line for page in PAGES for line in lines_of(page.read_text())}
    return sorted(line for line in lines if "install_detectron2" not in line)


@pytest.mark.parametrize("line", cases(blocks))
def test_command_line_in_a_block_is_valid(line):
    command, arguments = split(line)
    args = command_parser(command, f"msrcnn {command}").parse_args(arguments)
    opts = getattr(args, "opts", [])  # trailing KEY VALUE
    assert len(opts) % 2 == 0
    assert all(re.fullmatch(r"[A-Z0-9_.]+", key) for key in opts[::2]), opts


@pytest.mark.parametrize("line", cases(inline))
def test_flags_of_a_command_line_in_the_text_exist(line):
    command, arguments = split(line)
    named = {word for word in arguments if word.startswith("--")}
    assert named <= flags(command_parser(command, command))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_named_alone_are_those_of_some_command(page):
    known = set().union(*(flags(command_parser(name, name)) for name in COMMANDS))
    assert set(re.findall(r"`(--[\w-]+)", FENCE.sub("", page.read_text()))) <= known


def test_command_lines_are_found():
    text = "```\nmsrcnn eval --weights a \\\n  --x\n```\n`tools/eval_net.py --y`\n"
    assert [split(line) for line in blocks(text)] == [("eval", ["--weights", "a", "--x"])]
    assert [split(line) for line in inline(text)] == [("eval", ["--y"])]
    assert len(cases(blocks)) > 15
