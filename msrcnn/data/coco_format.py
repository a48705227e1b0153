"""Validates COCO-format annotation files record by record."""

import os
from collections.abc import Iterator
from pathlib import Path


def mask_format(content: dict) -> str:
    """Returns the ``INPUT.MASK_FORMAT`` that an annotation file requires.

    Args:
        content: a COCO-format dict.

    Returns:
        ``"polygon"`` if every training instance is a polygon, otherwise ``"bitmask"``, which
        supports both polygons and RLE.
    """
    # Crowd regions are always RLE, but are not used for training.
    rle = any(
        isinstance(annotation.get("segmentation"), dict)
        for annotation in content["annotations"]
        if not annotation.get("iscrowd", 0)
    )
    return "bitmask" if rle else "polygon"


def check_coco(content: dict, images: Path) -> list[str]:
    """Finds every problem that makes a COCO-format file unusable for training or evaluation.

    Args:
        content: the content of the file.
        images: the directory that ``file_name`` is relative to.

    Returns:
        One message per problem, which names the record; empty if the file is valid.
    """
    if not isinstance(content, dict):
        return ["expected a JSON object with 'images', 'annotations' and 'categories'"]
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(content.get(key), list)
    ]
    if missing:
        return [f"'{key}' is missing or is not a list" for key in missing]
    if not content["categories"]:
        return ["'categories' is empty; list every class with its 'id' and 'name'"]
    problems = [*_check_categories(content), *_check_images(content, images)]
    # Annotations are checked against images and categories, so those must be valid.
    return problems or list(_check_annotations(content))


def _duplicates(records: list[dict], kind: str) -> Iterator[str]:
    seen = set()
    for record in records:
        if record["id"] in seen:
            yield f"{kind} id {record['id']} is used more than once; ids must be unique"
        seen.add(record["id"])


def _missing_keys(record: object, index: int, kind: str, keys: tuple[str, ...]) -> Iterator[str]:
    """Yields one message per key that is missing from a record."""
    if not isinstance(record, dict):
        yield f"{kind} at index {index} is not a JSON object"
        return
    name = f"{kind} {record['id']}" if "id" in record else f"{kind} at index {index}"
    for key in keys:
        if key not in record:
            yield f"{name} has no '{key}'"


def _check_categories(content: dict) -> list[str]:
    records = content["categories"]
    problems = [
        problem
        for index, record in enumerate(records)
        for problem in _missing_keys(record, index, "category", ("id", "name"))
    ]
    return problems or list(_duplicates(records, "category"))


def _check_images(content: dict, folder: Path) -> list[str]:
    records = content["images"]
    keys = ("id", "file_name", "width", "height")
    problems = [
        problem
        for index, record in enumerate(records)
        for problem in _missing_keys(record, index, "image", keys)
    ]
    if problems:
        return problems
    problems = list(_duplicates(records, "image"))
    listed: dict[Path, set[str]] = {}  # one directory listing instead of one stat per image
    for record in records:
        path = folder / record["file_name"]
        if path.parent not in listed:
            listed[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in listed[path.parent]:
            problems.append(
                f"image {record['id']}: '{path}' does not exist; fix its 'file_name' or the image "
                "directory"
            )
    return problems


def _check_annotations(content: dict) -> Iterator[str]:
    sizes = {image["id"]: [image["height"], image["width"]] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    keys = ("id", "image_id", "category_id", "bbox", "segmentation")
    for index, record in enumerate(content["annotations"]):
        missing = list(_missing_keys(record, index, "annotation", keys))
        if missing:
            yield from missing
            continue
        name = f"annotation {record['id']}"
        if record["image_id"] not in sizes:
            yield f"{name}: image_id {record['image_id']} is not the id of an image"
        elif record["category_id"] not in categories:
            yield f"{name}: category_id {record['category_id']} is not the id of a category"
        elif not _is_box(record["bbox"]):
            yield (
                f"{name}: bbox {record['bbox']} must be [x, y, width, height] with a width and "
                "height above 0"
            )
        else:
            problem = _segmentation_problem(record["segmentation"], sizes[record["image_id"]])
            if problem:
                yield f"{name}: {problem}"


def _is_box(box: object) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, int | float) for value in box)
        and box[2] > 0
        and box[3] > 0
    )


def _segmentation_problem(segmentation: object, size: list[int]) -> str | None:
    if isinstance(segmentation, dict):
        if "counts" not in segmentation or "size" not in segmentation:
            return "its RLE segmentation must have both 'counts' and 'size'"
        if list(segmentation["size"]) != size:
            return (
                f"its RLE segmentation has size {segmentation['size']}, but its image has size "
                f"{size} (height, width)"
            )
        return None
    if not isinstance(segmentation, list) or not segmentation:
        return "its segmentation must be a nonempty list of polygons or an RLE object"
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return (
                "a polygon of its segmentation is not [x0, y0, x1, y1, ...] with at least three "
                "points; fix or remove it"
            )
    return None
