"""Imports run one way through the packages, as docs/architecture.md draws it."""

import ast
import re
from collections import Counter

import pytest
from conftest import ROOT

PACKAGE = ROOT / "msrcnn"
# From the top; what shares a line does not import each other.
LEVELS = [
    ["cli"],
    ["commands"],
    ["ablation"],
    ["benchmark"],
    ["engine"],
    ["visualization", "lazy"],
    ["evaluation", "data", "checkpoint"],
    ["modeling"],
    ["config", "atomic_file"],
    ["errors", "version"],
]
NAMES_WIDTH = 34  # columns of the drawing, before the descriptions
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# msrcnn/__init__.py is the public face: it imports what registers itself with Detectron2.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def place(path):
    """Package or module right below msrcnn that a file is part of."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Packages and modules below msrcnn that a file imports, wherever in the file it does."""
    parents = ("msrcnn", *path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = list(parents[: len(parents) - node.level + 1]) if node.level else []
            module = start + (node.module.split(".") if node.module else [])
            # `from . import a` imports a module of that name, `from .a import b` the module a.
            modules = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found |= {module[1] for module in modules if module[0] == "msrcnn" and len(module) > 1}
    return found & LEVEL.keys()


def test_every_package_has_a_level():
    assert {place(path) for path in FILES} == LEVEL.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down(path):
    own = place(path)
    for name in imported(path) - {own}:
        assert LEVEL[name] > LEVEL[own], f"{own} imports {name}"


def test_imports_are_seen():
    """The walk finds relative and absolute imports, so that the test above can fail."""
    assert {"engine", "ablation", "errors"} <= imported(PACKAGE / "commands" / "ablate.py")
    assert {"modeling", "evaluation"} <= imported(PACKAGE / "engine" / "config_rules.py")


def test_modules_have_names_of_their_own():
    # Modules of commands are named after their command.
    files = [path for path in FILES if path.name != "__init__.py" and place(path) != "commands"]
    names = Counter(path.stem for path in files)
    names.update(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
    assert [name for name, count in names.items() if count > 1] == []


def test_the_drawing_shows_all_packages_in_this_order():
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawing = text.split("## Packages")[1].split("```")[1]
    lines = [line for line in drawing.splitlines() if re.match(r"\s*\w", line)]
    drawn = [
        sorted(name for name in LEVEL if re.search(rf"\b{name}\b", line[:NAMES_WIDTH]))
        for line in lines
    ]
    assert [names for names in drawn if names] == [sorted(names) for names in LEVELS]
