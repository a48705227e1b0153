"""A section of an HTML page with the classes of a dataset, and examples of each drawn."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from ..errors import UserError
from .html import Content, element, image, table
from .images import path_inside, read_rgb
from .overlay import COLORS, Overlay, draw_overlays
from .text import counted

EXAMPLES = 3  # pictures of each class
DRAWN = 20  # classes that are drawn, the rarest ones
SIDE = 480  # pixels, of the long side of a drawing


def class_counts(content: dict) -> list[tuple[str, int]]:
    """Returns the classes of a valid dataset with the number of annotations, the rarest first."""
    number = Counter(each["category_id"] for each in content.get("annotations", []))
    counts = [(each["name"], number[each["id"]]) for each in content["categories"]]
    return sorted(counts, key=lambda pair: (pair[1], pair[0]))


def class_examples(content: dict, images: Path) -> list[Content]:
    """Returns a table of the classes, and pictures of each with all their annotations.

    Args:
        content: a dataset without errors.
        images: the directory that ``file_name`` is relative to.
    """
    if not content.get("annotations"):
        return []
    counts = class_counts(content)
    rows = [[name, f"{number:,}"] for name, number in counts]
    parts = [
        element("h2", "Classes"),
        element("p", "The rarest first. A class that you do not expect is often a misspelled one."),
        table(["class", "annotations"], rows, "Number of annotations of each class"),
    ]
    owners: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        owners.setdefault(annotation["image_id"], []).append(annotation)
    ids = {each["name"]: each["id"] for each in content["categories"]}
    for name, number in counts[:DRAWN]:
        having = [
            record
            for record in content["images"]
            if any(a["category_id"] == ids[name] for a in owners.get(record["id"], []))
        ]
        chosen = [having[len(having) * i // EXAMPLES] for i in range(EXAMPLES)] if having else []
        figures = [
            _figure(record, owners[record["id"]], content["categories"], images)
            for record in {record["id"]: record for record in chosen}.values()
        ]
        if any(figure is not None for figure in figures):
            title = f"{name}: {counted(number, 'annotation', 'annotations')}"
            parts += [element("h3", title), element("div", *figures, class_="gallery")]
    return parts


def _figure(record: dict, annotations: list[dict], categories: list[dict], images: Path) -> Content:
    try:
        pixels = read_rgb(path_inside(record, images))
    except UserError:
        return None
    order = {each["id"]: index for index, each in enumerate(categories)}
    overlays = []
    for annotation in annotations:
        index = order[annotation["category_id"]]
        overlays.append(
            Overlay(
                _mask(annotation, pixels.shape[:2]),
                np.array(annotation["bbox"], dtype=float),
                categories[index]["name"],
                "",
                COLORS[index % len(COLORS)],
            )
        )
    picture = draw_overlays(pixels, SIDE / max(pixels.shape[:2]), overlays)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    drawn = image(file.getvalue(), "image/jpeg", "annotations", picture.width, picture.height)
    name = str(record.get("file_name", record["id"]))
    return element("figure", drawn, element("figcaption", name))


def _mask(annotation: dict, size: tuple[int, int]) -> np.ndarray | None:
    encoded = annotation.get("segmentation")
    if not encoded:
        return None
    if isinstance(encoded, list) or isinstance(encoded["counts"], list):
        encoded = mask_util.frPyObjects(encoded, *size)
    return mask_util.decode(mask_util.merge(encoded) if isinstance(encoded, list) else encoded)
