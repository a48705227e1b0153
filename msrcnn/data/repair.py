"""Repairs COCO-format files, as far as nothing is guessed; ``msrcnn check --fix``."""

import copy
import math
from collections import Counter
from collections.abc import Callable
from itertools import compress
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from ..errors import UserError
from ..escaping import shown
from .coco_schema import KINDS, has_readable_mask
from .image_files import Header, read_header
from .image_paths import image_path
from .mask_extents import mask_extents
from .mask_rle import as_rle
from .mask_rules import FAR, MIN_IOU, are_fractions, area_fits, box_iou, lie_inside, nearly_all
from .repair_records import Note, is_whole, repair_records

POLYGON = 6  # numbers of the smallest one, which has three points


def repaired(content: object, images: Path) -> tuple[dict, list[str]]:
    """Returns a copy of a COCO-format dict without the problems that can be fixed.

    Args:
        content: the content of a file; not modified.
        images: the directory that ``file_name`` is relative to.

    Returns:
        The copy, and a line about every change.

    Raises:
        UserError: if it has no lists of images and categories, or is nested too deeply to copy.
    """
    changes: list[str] = []
    lists = ("images", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in lists):
        raise UserError("cannot be fixed: it has no lists of 'images' and 'categories'")
    try:
        content = copy.deepcopy(content)
    except RecursionError as error:
        raise UserError("cannot be fixed: it is nested too deeply") from error
    if not isinstance(content.get("annotations", []), list):
        raise UserError("cannot be fixed: 'annotations' is not a list")
    for kind in KINDS:
        _keep(content, kind, lambda record: isinstance(record, dict), "no JSON object", changes)
    repair_records(content, changes.append)
    _fix_images(content, images, changes)
    for key, kind in (("image_id", "images"), ("category_id", "categories")):
        known = {record["id"] for record in content[kind]}
        _keep(
            content,
            "annotations",
            lambda a, key=key, known=known: _value(a, key) in known,
            f"its {key} is not the id of one of the {kind}",
            changes,
        )
    _fix_polygons(content, changes)
    _fix_masks(content, changes)
    return content, changes


def _keep(
    content: dict, kind: str, wanted: Callable[[dict], bool], reason: str, changes: list[str]
) -> None:
    """Removes the records that are not wanted."""
    kept = []
    for index, record in enumerate(content.get(kind, [])):
        if wanted(record):
            kept.append(record)
        else:
            name = shown(record.get("id") if isinstance(record, dict) else f"at index {index}")
            if kind == "images" and isinstance(record, dict):
                name += f" ({shown(record.get('file_name'))})"
            changes.append(f"{KINDS[kind]} {name} is removed: {reason}")
    if kind in content:
        content[kind] = kept


def _value(record: dict, key: str) -> object:
    value = record.get(key)
    return value if isinstance(value, int) else None  # lists cannot be looked up


def _fix_images(content: dict, folder: Path, changes: list[str]) -> None:
    """Removes records without a file that can be read; sizes are those of the files."""
    images = content["images"]
    for image in images:
        _fix_name(image, folder, changes.append)
    headers = [_header(image, folder) for image in images]
    for image, header in zip(images, headers):
        if header is not None:
            _fix_size(image, header, changes.append)
    if nearly_all(np.array([header is None for header in headers])):
        return  # of another folder, which removing them would hide
    own = _ids_used_once(images)  # the annotations of others may be those of a file that is there
    lost = {
        image["id"]
        for image, header in zip(images, headers)
        if header is None and image["id"] in own and not _is_misnamed(image)
    }
    _keep(
        content,
        "images",
        lambda image: image["id"] not in lost,
        "its file cannot be read",
        changes,
    )


def _ids_used_once(images: list[dict]) -> set[int]:
    numbers = Counter(image["id"] for image in images)
    return {each for each, number in numbers.items() if number == 1}


def _fix_name(image: dict, folder: Path, note: Note) -> None:
    """Makes a text of a number if that is the name of a file."""
    name = image.get("file_name")
    if is_whole(name) and _header(image, folder):
        image["file_name"] = str(name)
        note(f"image {image['id']}: file_name {name} is {shown(image['file_name'])} now")


def _is_misnamed(image: dict) -> bool:
    """Whether its file name is a value of another type, which a person may know the file of."""
    name = image.get("file_name")
    return name is not None and not isinstance(name, str)


def _header(image: dict, folder: Path) -> Header | None:
    try:
        return read_header(image_path(image, folder))
    except Exception:  # depends on the format
        return None


def _fix_size(image: dict, header: Header, note: Note) -> None:
    found, recorded = header.shown, (image.get("width"), image.get("height"))
    # If EXIF data turn the image, the masks would have to be turned, too.
    swapped = found == recorded[::-1] and not header.turned
    if found != recorded and (not _has_size(image) or swapped):
        image["width"], image["height"] = found
        note(
            f"image {image['id']}: {shown(recorded[0])} x {shown(recorded[1])} is "
            f"{found[0]} x {found[1]} now, as in its file"
        )


def _has_size(image: dict) -> bool:
    sides = image.get("width"), image.get("height")
    return all(is_whole(side) and side > 0 for side in sides)


class _Masks:
    """The annotations that have a mask which can be read, in an image of known size, and what is
    known of them as arrays.
    """

    def __init__(self, content: dict):
        own = _ids_used_once(content["images"])
        sizes = {
            image["id"]: (image["width"], image["height"])
            for image in content["images"]
            if image["id"] in own and _has_size(image)
        }
        self.annotations = [
            each
            for each in content.get("annotations", [])
            if each["image_id"] in sizes
            and each.get("segmentation")
            and has_readable_mask(each["segmentation"])
        ]
        extents = mask_extents(self.annotations, sizes)
        kept = [row for row in range(len(self.annotations)) if row not in extents.damaged]
        self.annotations = [self.annotations[row] for row in kept]
        self.boxes, self.flat = extents.boxes[kept], extents.flat[kept]
        self.empty = extents.empty_rle[kept]
        image = [sizes[each["image_id"]] for each in self.annotations]
        self.image = np.array(image, dtype=float).reshape(-1, 2)


def _fix_polygons(content: dict, changes: list[str]) -> None:
    """Removes polygons of fewer than three points, which have no area."""
    polygons = [
        each
        for each in content.get("annotations", [])
        if isinstance(each.get("segmentation"), list)
        and all(isinstance(polygon, list) for polygon in each["segmentation"])
    ]
    kept = [[p for p in each["segmentation"] if not _is_short(p)] for each in polygons]
    fewer = [len(own) < len(each["segmentation"]) for own, each in zip(kept, polygons)]
    if nearly_all(np.array(fewer)):  # the corners of boxes, perhaps
        return
    for annotation, own in zip(compress(polygons, fewer), compress(kept, fewer)):
        if own:
            number = len(annotation["segmentation"]) - len(own)
            changes.append(
                f"annotation {annotation['id']}: {number} polygon(s) with fewer than three points "
                "removed from its mask"
            )
        annotation["segmentation"] = own
    empty = {each["id"] for each in compress(polygons, fewer) if not each["segmentation"]}
    reason = "its mask has fewer than three points"
    _keep(content, "annotations", lambda a: a["id"] not in empty, reason, changes)


def _is_short(polygon: list) -> bool:
    return len(polygon) < POLYGON and len(polygon) % 2 == 0  # of an odd number, one is lost


def _fix_masks(content: dict, changes: list[str]) -> None:
    masks = _Masks(content)
    fractions = are_fractions(masks.boxes, masks.image) & ~masks.empty
    if nearly_all(fractions):
        polygons = [isinstance(each["segmentation"], list) for each in masks.annotations]
        for row in np.flatnonzero(fractions & polygons).tolist():
            _multiply(masks.annotations[row], masks.image[row].tolist(), changes.append)
        masks = _Masks(content)
    lost = masks.empty | ~lie_inside(masks.boxes, masks.image)
    if nearly_all(lost):  # made for other images, which removing would hide
        lost[:] = False
    removed = {masks.annotations[row]["id"] for row in np.flatnonzero(lost).tolist()}
    wrong = ~np.array(list(map(_box_fits, masks.annotations, masks.boxes)), dtype=bool)
    if nearly_all(wrong):  # the others fit by chance
        wrong[:] = True
    areas = [each.get("area") for each in masks.annotations]
    areas = np.array([area if _is_finite(area) else np.nan for area in areas], dtype=float)
    sized = area_fits(areas, masks.boxes)
    for row in np.flatnonzero(~lost & ~masks.empty).tolist():
        annotation, size = masks.annotations[row], masks.image[row]
        if np.abs(masks.boxes[row]).max() > FAR * size.max():  # its area would take all memory
            continue
        if wrong[row] and not masks.flat[row]:
            _fix_box(annotation, masks.boxes[row], changes.append)
        if not sized[row]:
            _fix_area(annotation, size.astype(int).tolist(), changes.append)
    reason = "its mask is empty or lies outside its image"
    _keep(content, "annotations", lambda a: a["id"] not in removed, reason, changes)


def _multiply(annotation: dict, size: list[float], note: Note) -> None:
    def scaled(values: list[float]) -> list[float]:
        return [value * size[index % 2] for index, value in enumerate(values)]

    annotation["segmentation"] = [scaled(polygon) for polygon in annotation["segmentation"]]
    if _is_box(annotation.get("bbox")):
        annotation["bbox"] = scaled(annotation["bbox"])
    annotation.pop("area", None)
    note(f"annotation {annotation['id']}: fractions are multiplied by the size of the image")


def _is_box(bbox: object) -> bool:
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(_is_finite(value) for value in bbox)
        and min(bbox[2:]) > 0
    )


def _is_finite(value: object) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or is_whole(value)


def _box_fits(annotation: dict, mask: np.ndarray) -> bool:
    """Whether the box of an annotation is one, and fits the box around its mask."""
    bbox = annotation.get("bbox")
    if not _is_box(bbox):
        return False
    x, y, width, height = map(float, bbox)
    return box_iou(np.array([[x, y, x + width, y + height]]), mask[None])[0] >= MIN_IOU


def _fix_box(annotation: dict, mask: np.ndarray, note: Note) -> None:
    bbox = shown(annotation.get("bbox"))
    x0, y0, x1, y1 = mask.tolist()
    annotation["bbox"] = [x0, y0, x1 - x0, y1 - y0]
    note(
        f"annotation {annotation['id']}: bbox {bbox} is {shown(annotation['bbox'])} now, "
        "around its mask"
    )


def _fix_area(annotation: dict, size: list[int], note: Note) -> None:
    width, height = size
    area = float(mask_util.area(as_rle(annotation["segmentation"], height, width)))
    if annotation.get("area") != area:
        note(
            f"annotation {annotation['id']}: area {shown(annotation.get('area'))} is {area:g} now, "
            "that of its mask"
        )
        annotation["area"] = area
