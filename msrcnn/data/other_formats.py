"""Reads annotations in other formats; ``msrcnn check --convert``."""

import warnings
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import hotcoco

from ..errors import UserError
from .labelme import read_labelme
from .yolo import read_yolo

UNREAD = ("mask", "ellipse")  # CVAT's shapes that have an area, but that hotcoco passes over


def _read_cvat(source: str, images: str) -> dict:
    content = hotcoco.COCO.from_cvat(source).dataset
    shapes = [shape for kind in UNREAD for shape in ElementTree.parse(source).iter(kind)]
    if shapes:
        warnings.warn(
            f"left out {len(shapes)} mask(s) and ellipse(s), so that their objects are missing: "
            'export masks as "COCO 1.0" from CVAT, and draw polygons instead of ellipses',
            stacklevel=2,
        )
    if groups := _groups(source):
        warnings.warn(
            f"the shapes of {groups} group(s) become objects of their own; to keep them together, "
            'export "COCO 1.0" from CVAT',
            stacklevel=2,
        )
    return content


def _groups(source: str) -> int:
    """Returns the number of CVAT's groups of polygons, each of which is one object."""
    members = Counter(
        (number, shape.get("group_id"))
        for number, image in enumerate(ElementTree.parse(source).getroot().iter("image"))
        for shape in image.iter("polygon")
        if shape.get("group_id", "0") != "0"
    )
    return sum(count > 1 for count in members.values())


READERS = {"labelme": read_labelme, "cvat": _read_cvat, "yolo": read_yolo}


def read_other(kind: str, source: Path, images: Path) -> tuple[dict, list[str]]:
    """Reads annotations in another format.

    Args:
        kind: a key of ``READERS``: labelme (a folder of its JSON files), CVAT for images 1.1 (an
            XML file) or YOLO (a folder of label files for segmentation).
        source: the file or folder.
        images: the image folder.

    Returns:
        The content in COCO's format, and what the reader left out.

    Raises:
        UserError: if the files cannot be read, or they have no masks.
    """
    if not source.exists():
        raise UserError(f"'{source}' does not exist")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            content = READERS[kind](str(source), str(images))
    except (ValueError, OSError, ElementTree.ParseError) as error:
        raise UserError(f"'{source}' cannot be read as {kind}: {error}") from error
    if not content["images"]:
        raise UserError(f"'{source}' cannot be read as {kind}: it names no images")
    without = sum(not each.get("segmentation") for each in content["annotations"])
    if without:
        raise UserError(
            f"'{source}': {without} of {len(content['annotations'])} annotations are boxes without "
            "a mask, which training needs; export polygons or masks, as COCO or CVAT do"
        )
    return content, [str(warning.message) for warning in caught]
