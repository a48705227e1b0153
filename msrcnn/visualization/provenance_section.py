"""The sections of the HTML report on what made the result, and on the time that it took."""

from __future__ import annotations

import shlex

from ..evaluation import Evaluation
from .html import Content, Element, element, row, table
from .text import number

Record = dict | list | str | float | None


def provenance_section(evaluation: Evaluation) -> list[Content]:
    """Builds the section with command, data, weights, settings and versions.

    Args:
        evaluation: the evaluation. If its summary has no provenance, the section is empty.
    """
    known = dict(evaluation.summary.get("provenance", {}))
    if not known:
        return []
    software, settings = known.pop("software", {}), known.pop("config", {})
    command = known.pop("command", None)
    parts = [
        element("h2", "Settings and versions"),
        element("pre", element("code", shlex.join(command)), tabindex="0") if command else None,
        _table("Inputs and evaluation", _flat(known)),
    ]
    if settings:
        parts += [element("h3", "Config"), _table("Config", settings)]
    return [*parts, element("h3", "Versions"), _table("Versions", software)]


def _flat(record: Record, prefix: str = "") -> dict[str, Record]:
    """Joins the keys of nested records: ``{"a": {"b": 1}}`` becomes ``{"a b": 1}``."""
    if isinstance(record, list) and any(isinstance(each, dict) for each in record):
        record = {str(number): each for number, each in enumerate(record, start=1)}
    if not isinstance(record, dict):
        return {prefix: record}
    flat = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix} {key.replace('_', ' ')}".strip())
    return flat


def _table(label: str, values: dict[str, Record]) -> Element:
    rows = [row(key, _text(value)) for key, value in values.items() if value is not None]
    return table(["setting", "value"], rows, label, class_="settings")


def _text(value: Record) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "none"


def seconds_section(seconds: dict[str, float]) -> list[Content]:
    """Builds the section with the time of each stage.

    Args:
        seconds: by stage.
    """
    rows = [
        (stage.replace("_", " ").replace("maskiou", "MaskIoU"), number(time))
        for stage, time in seconds.items()
    ]
    return [element("h2", "Time"), table(["stage", "seconds"], rows, "Seconds by stage")]
