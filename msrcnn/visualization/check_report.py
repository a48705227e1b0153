"""An HTML page with the problems of a dataset, examples of them, and images with their masks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from ..data.coco_schema import has_readable_mask, record_named
from ..data.finding import Finding
from ..data.mask_extents import mask_extents
from ..data.mask_rules import FAR
from ..errors import UserError
from .html import Content, element, image, page
from .images import path_inside, read_rgb
from .instances_picture import Shape, draw_instances
from .overlay import COLORS, Overlay, draw_overlays
from .text import counted

PICTURES = 6  # images drawn with all their masks
EXAMPLES = 3  # drawn for each kind of problem
LISTED = 20  # messages for each kind of problem
SIDE = 480  # pixels, of the long side of a drawing


def check_report(title: str, content: dict, images: Path, findings: list[Finding]) -> bytes:
    """Returns an HTML page about the findings in a dataset, and without errors, images drawn.

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
        *([] if any(finding.stops for finding in findings) else _pictures(content, images)),
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


def _pictures(content: dict, images: Path) -> list[Content]:
    """Draws all masks of some images, spread over the file."""
    owned: dict[int, list[dict]] = {}
    for annotation in content.get("annotations", []):
        owned.setdefault(annotation["image_id"], []).append(annotation)
    names = {each["id"]: each["name"] for each in content["categories"]}
    colors = {each: COLORS[row % len(COLORS)] for row, each in enumerate(names)}
    with_objects = [each for each in content["images"] if each["id"] in owned]
    drawn = []
    for record in with_objects[:: max(len(with_objects) // PICTURES, 1)][:PICTURES]:
        try:
            pixels = read_rgb(path_inside(record, images))
        except UserError:
            continue
        shapes = [
            Shape(
                _encoded(each["segmentation"], pixels.shape[:2])
                if each.get("segmentation")
                else None,
                np.array(each["bbox"], dtype=float),
                colors[each["category_id"]],
                # Names would hide objects of a class that is the only one.
                names[each["category_id"]] if len(names) > 1 else "",
            )
            for each in owned[record["id"]]
        ]
        picture = draw_instances(pixels, shapes)
        text = f"{record['file_name']}: {counted(len(shapes), 'annotation', 'annotations')}"
        drawn.append(_figure(picture, "an image with its masks", text))
    return [element("h2", "Images with their masks"), *drawn] if drawn else []


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
    if kind == "annotation" and (overlay := _overlay(record, pixels.shape[:2])):
        overlays.append(overlay)
    scale = SIDE / max(pixels.shape[:2])
    return _figure(draw_overlays(pixels, scale, overlays), "the record drawn", message)


def _figure(picture: Image.Image, alt: str, caption: str) -> Content:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return element(
        "figure",
        image(file.getvalue(), "image/jpeg", alt, picture.width, picture.height),
        element("figcaption", caption),
    )


def _image_of(annotation: dict, content: dict) -> dict | None:
    wanted = annotation.get("image_id")
    return next(
        (i for i in content["images"] if isinstance(i, dict) and i.get("id") == wanted), None
    )


def _overlay(annotation: dict, size: tuple[int, int]) -> Overlay | None:
    """Returns what can be drawn of an annotation in an image of the given height and width."""
    try:
        bbox = np.array(annotation["bbox"], dtype=float)
    except (KeyError, TypeError, ValueError):
        return None
    far = FAR * max(size)
    if bbox.shape != (4,) or not np.isfinite(bbox).all() or np.abs(bbox).max() > far:
        return None
    name = str(annotation.get("category_id"))
    return Overlay(_mask(annotation, size, far), bbox, name, "", COLORS[0])


def _mask(annotation: dict, size: tuple[int, int], far: float) -> np.ndarray | None:
    segmentation = annotation.get("segmentation")
    if not segmentation or not has_readable_mask(segmentation):
        return None
    one = {"id": 0, "image_id": 0, "segmentation": segmentation}
    extents = mask_extents([one], {0: size[::-1]})
    if extents.damaged or np.abs(extents.boxes).max() > far:
        return None
    return mask_util.decode(_encoded(segmentation, size))


def _encoded(segmentation: list | dict, size: tuple[int, int]) -> dict:
    """Returns readable polygons or RLE as compressed RLE."""
    encoded = segmentation
    if isinstance(encoded, list) or isinstance(encoded["counts"], list):
        encoded = mask_util.frPyObjects(encoded, *size)
    return mask_util.merge(encoded) if isinstance(encoded, list) else encoded
