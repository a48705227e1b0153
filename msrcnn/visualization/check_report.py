"""An HTML page with the problems and the classes of a dataset, and examples of them drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from ..data.coco_schema import record_named
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
    body = element(
        "main",
        element("h1", title),
        None if findings else element("p", "No problems.", class_="facts"),
        *(part for finding in findings for part in _section(finding, content, images)),
        *([] if any(f.stops for f in findings) else class_examples(content, images)),
    )
    return page(title, element("body", body))


def _section(finding: Finding, content: dict, images: Path) -> list[Content]:
    kind = "Error" if finding.stops else "Warning"
    number = counted(len(finding.messages), "record", "records")
    messages = finding.messages[:LISTED]
    left = len(finding.messages) - len(messages)
    drawn = []
    for message in finding.messages:
        figure = _example(message, content, images)
        drawn += [] if figure is None else [figure]
        if len(drawn) == EXAMPLES:
            break
    return [
        element("h2", f"{kind}: {number}"),
        element("ul", *(element("li", message) for message in messages)),
        element("p", f"and {left:,} more") if left else None,
        *drawn,
    ]


def _example(message: str, content: dict, images: Path) -> Content:
    """Draws the record that a message is about; ``None`` if there is no image to draw it on."""
    kind, record = record_named(message, content)
    if kind not in ("image", "annotation"):
        return None
    owner = record if kind == "image" else _image_of(record, content)
    try:
        pixels = read_rgb(path_inside(owner or {}, images))
    except UserError:
        return None
    overlays = []
    if kind == "annotation":
        name = _category_name(record, content)
        overlay = _overlay(record, name, pixels.shape[:2])
        overlays = [] if overlay is None else [overlay]
    scale = SIDE / max(pixels.shape[:2])
    drawn = photo(draw_overlays(pixels, scale, overlays), "the record drawn")
    return element("figure", drawn, element("figcaption", message))


def _image_of(annotation: dict, content: dict) -> dict | None:
    wanted = annotation.get("image_id")
    return next(
        (i for i in content["images"] if isinstance(i, dict) and i.get("id") == wanted), None
    )


def _category_name(annotation: dict, content: dict) -> str:
    wanted = annotation.get("category_id")
    categories = content.get("categories")
    for each in categories if isinstance(categories, list) else []:
        if isinstance(each, dict) and each.get("id") == wanted:
            return str(each.get("name"))
    return str(wanted)


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
