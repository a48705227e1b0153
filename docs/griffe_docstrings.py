"""Reads the docstrings of msrcnn for docs/api.md: Sphinx roles, and those set afterwards."""

import ast
import re

import griffe

ROLE = re.compile(r":(?:class|func|meth|data|mod|attr|exc):`~?\.?([^`]+)`")
CODE = re.compile(r"``([^`\n]+)``")
# Arguments that share their text: "height, width: in pixels".
SHARED = re.compile(r"^( +)(\w+(?:, \w+)+):( .*(?:\n\1 +.*)*)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Turns reStructuredText into Markdown, and finds ``REGISTRY.__doc__ = "..."``."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_module(self, *, mod: griffe.Module, **kwargs) -> None:
        if not mod.filepath or not str(mod.filepath).endswith(".py"):
            return
        for line in ast.parse(mod.filepath.read_text()).body:
            match line:
                case ast.Assign(
                    targets=[ast.Attribute(value=ast.Name(id=name), attr="__doc__")],
                    value=ast.Constant(value=str(text)),
                ):
                    docstring = griffe.Docstring(
                        as_markdown(text.strip()), lineno=line.lineno, parent=mod.members[name]
                    )
                    mod.members[name].docstring = docstring


def as_markdown(text: str) -> str:
    text = SHARED.sub(_one_by_one, text)
    return CODE.sub(r"`\1`", ROLE.sub(r"`\1`", text)).replace("Example::\n", "Example:\n")


def _one_by_one(match: re.Match) -> str:
    indent, names, text = match.groups()
    return "\n".join(f"{indent}{name}:{text}" for name in names.split(", "))
