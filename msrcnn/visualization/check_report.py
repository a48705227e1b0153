"""An HTML page with the problems and the classes of a dataset, and examples of them drawn."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from ..data.coco_schema import NamedRecords
from ..data.finding import Finding
from ..errors import UserError
from .annotation_masks import annotation_mask, is_near
from .class_examples import class_examples
from .html import Content, element, page
from .images import path_inside, read_rgb
from .overlay import COLORS, Overlay, draw_overlays
from .report_parts import photo
from .text import counted

EXAMPLES = 3  # drawn for each kind of problem
LISTED = 20  # messages for each kind of problem
SIDE = 480  # pixels, of the long side of a drawing


def check_report(title: str, content: dict, images: Path, findings: list[Finding]) -> bytes:
    """Returns an HTML page about the findings in a dataset, and about its classes if it is valid.

    Args:
        title: title of the page.
        content: the content of the file that was checked, of any type.
        images: the directory that ``file_name`` is relative to.
        findings: see :func:`~msrcnn.data.coco_rules.check_coco`.
    """
    records = _Records(content if findings else {})
    body = element(
        "main",
        element("h1", title),
        None if findings else element("p", "No problems.", class_="facts"),
        *(part for finding in findings for part in _section(finding, records, images)),
        *([] if any(f.stops for f in findings) else class_examples(content, images)),
    )
    return page(title, element("body", body))


def _section(finding: Finding, records: _Records, images: Path) -> list[Content]:
    kind = "Error" if finding.stops else "Warning"
    number = counted(len(finding.messages), "record", "records")
    messages = finding.messages[:LISTED]
    left = len(finding.messages) - len(messages)
    drawn = []
    for message in finding.messages:
        figure = _example(message, records, images)
        drawn += [] if figure is None else [figure]
        if len(drawn) == EXAMPLES:
            break
    return [
        element("h2", f"{kind}: {number}"),
        element("ul", *(element("li", message) for message in messages)),
        element("p", f"and {left:,} more") if left else None,
        *drawn,
    ]


class _Records:
    """The records of an annotation file, of any content, which are looked up for every message."""

    def __init__(self, content: object):
        self.named = NamedRecords(content)
        self.images = _by_id(content, "images")
        self.categories = _by_id(content, "categories")


def _by_id(content: object, kind: str) -> dict:
    records = content.get(kind) if isinstance(content, dict) else None
    found: dict = {}
    for each in records if isinstance(records, list) else []:
        if isinstance(each, dict) and isinstance(each.get("id"), Hashable):
            found.setdefault(each.get("id"), each)
    return found


def _referred(annotation: dict, key: str, records: dict) -> dict | None:
    """Returns the record whose id is in an annotation, or ``None``."""
    wanted = annotation.get(key)
    return records.get(wanted) if isinstance(wanted, Hashable) else None


def _example(message: str, records: _Records, images: Path) -> Content:
    """Draws the record that a message is about; ``None`` if there is no image to draw it on."""
    kind, record = records.named.of(message)
    if kind not in ("image", "annotation"):
        return None
    owner = record if kind == "image" else _referred(record, "image_id", records.images)
    try:
        pixels = read_rgb(path_inside(owner or {}, images))
    except UserError:
        return None
    overlays = []
    if kind == "annotation":
        category = _referred(record, "category_id", records.categories) or {}
        name = str(category.get("name", record.get("category_id")))
        overlay = _overlay(record, name, pixels.shape[:2])
        overlays = [] if overlay is None else [overlay]
    scale = SIDE / max(pixels.shape[:2])
    drawn = photo(draw_overlays(pixels, scale, overlays), "the record drawn")
    return element("figure", drawn, element("figcaption", message))


def _overlay(annotation: dict, name: str, size: tuple[int, int]) -> Overlay | None:
    """Returns what can be drawn of an annotation in an image of the given height and width."""
    try:
        bbox = np.array(annotation["bbox"], dtype=float)
    except (KeyError, TypeError, ValueError):
        return None
    if bbox.shape != (4,) or not is_near(bbox, size):
        return None
    encoded = annotation_mask(annotation, size)
    mask = None if encoded is None else mask_util.decode(encoded)
    return Overlay(mask, bbox, name, "", COLORS[0])
