"""A section of an HTML page with the classes of a dataset, and examples of each drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.class_counts import class_counts
from ..data.coco_schema import image_name
from ..errors import UserError
from .annotation_masks import annotation_mask
from .html import Content, element, table
from .images import path_inside, read_rgb
from .instances_picture import Shape, draw_instances
from .overlay import category_color
from .report_parts import photo
from .text import counted

EXAMPLES = 3  # pictures of each class
DRAWN = 20  # classes that are drawn, the rarest ones


def class_examples(content: dict, images: Path) -> list[Content]:
    """Returns a table of the classes, and pictures of each with all their annotations.

    Args:
        content: a dataset without errors.
        images: the directory that ``file_name`` is relative to.
    """
    if not content.get("annotations"):
        return []
    counts = class_counts(content)
    rows = [[category["name"], f"{number:,}"] for category, number in counts]
    parts = [
        element("h2", "Classes"),
        element("p", "The rarest first. A class that you do not expect is often a misspelled one."),
        table(["class", "annotations"], rows, "Number of annotations of each class"),
    ]
    owned: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        owned.setdefault(annotation["image_id"], []).append(annotation)
    for category, number in counts[:DRAWN]:
        figures = []
        for record in _spread(_images_with(category["id"], content["images"], owned)):
            try:
                pixels = read_rgb(path_inside(record, images))
            except UserError:
                continue
            shapes = _shapes(owned[record["id"]], content["categories"], pixels.shape[:2])
            picture = photo(draw_instances(pixels, shapes), "an image with its annotations")
            drawn = counted(len(shapes), "annotation", "annotations")
            caption = element("figcaption", f"{image_name(record)}: {drawn}")
            figures.append(element("figure", picture, caption))
        if figures:
            title = f"{category['name']}: {counted(number, 'annotation', 'annotations')}"
            parts += [element("h3", title), element("div", *figures, class_="gallery")]
    return parts


def _images_with(category_id: int, images: list[dict], owned: dict[int, list[dict]]) -> list[dict]:
    return [
        record
        for record in images
        if any(each["category_id"] == category_id for each in owned.get(record["id"], []))
    ]


def _spread(records: list[dict]) -> list[dict]:
    """Returns up to ``EXAMPLES`` records from all parts of a list."""
    number = min(EXAMPLES, len(records))
    return [records[len(records) * i // number] for i in range(number)]


def _shapes(annotations: list[dict], categories: list[dict], size: tuple[int, int]) -> list[Shape]:
    # Names would hide objects of a class that is the only one.
    names = {each["id"]: each["name"] if len(categories) > 1 else "" for each in categories}
    return [
        Shape(
            annotation_mask(each, size),
            np.array(each["bbox"], dtype=float),
            category_color(names, each["category_id"]),
            names[each["category_id"]],
        )
        for each in annotations
    ]
