"""Packages import only the packages below them in docs/architecture.md."""

import ast
import re
from collections import Counter

import pytest
from conftest import ROOT

PACKAGE = ROOT / "msrcnn"
# From top to bottom. Packages on the same line do not import each other.
LEVELS = [
    ["__main__"],
    ["cli"],
    ["commands"],
    ["ablation"],
    ["benchmark"],
    ["scores", "published", "prediction", "export"],
    ["engine"],
    ["visualization", "lazy"],
    ["evaluation", "checkpoint"],
    ["data"],
    ["modeling"],
    ["config", "class_names", "provenance"],
    ["folder_lock", "config_mistakes"],
    ["atomic_file", "json_file", "error_report"],
    ["errors", "version", "escaping"],
    ["config_by_key", "yaml_limits"],
]
NAMES_WIDTH = 34  # characters per line of the drawing before the description
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# msrcnn/__init__.py is exempt: it imports the modules that register classes with Detectron2.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def package_of(path):
    """Returns the package or module directly under msrcnn that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    """Returns the packages and modules directly under msrcnn that a file imports anywhere."""
    parents = ("msrcnn", *path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = list(parents[: len(parents) - node.level + 1]) if node.level else []
            module = start + (node.module.split(".") if node.module else [])
            # `from . import a` may import the module a, like `from .a import b`.
            modules = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found |= {module[1] for module in modules if module[0] == "msrcnn" and len(module) > 1}
    return found & LEVEL.keys()


def test_every_package_has_a_level():
    assert {package_of(path) for path in FILES} == LEVEL.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_import_only_lower_levels(path):
    own = package_of(path)
    for name in imported(path) - {own}:
        assert LEVEL[name] > LEVEL[own], f"{own} imports {name}"


def test_imports_are_found():
    """Makes sure that the test above can fail."""
    assert {"engine", "ablation", "errors"} <= imported(PACKAGE / "commands" / "ablate.py")
    assert {"modeling", "evaluation"} <= imported(PACKAGE / "engine" / "config_values.py")


def test_module_names_are_unique():
    # Except in commands, where a module is named after its command.
    files = [
        path for path in FILES if path.name != "__init__.py" and package_of(path) != "commands"
    ]
    names = Counter(path.stem for path in files)
    names.update(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
    assert [name for name, count in names.items() if count > 1] == []


def test_drawing_shows_all_packages_in_order():
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawing = text.split("## Packages")[1].split("```")[1]
    lines = [line for line in drawing.splitlines() if re.match(r"\s*\w", line)]
    drawn = [
        sorted(name for name in LEVEL if re.search(rf"\b{name}\b", line[:NAMES_WIDTH]))
        for line in lines
    ]
    assert [names for names in drawn if names] == [sorted(names) for names in LEVELS]
