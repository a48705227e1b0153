"""What a COCO-format annotation file must hold, checked record by record."""

import os
from collections.abc import Iterator
from pathlib import Path


def mask_format(content: dict) -> str:
    """The ``INPUT.MASK_FORMAT`` that a file needs.

    Args:
        content: a COCO-format dict.

    Returns:
        ``"polygon"`` if all instances that are trained on are polygons, else ``"bitmask"``,
        which takes polygons and RLE alike.
    """
    # Crowd regions are RLE by rule, and left out of training.
    rle = any(
        isinstance(annotation.get("segmentation"), dict)
        for annotation in content["annotations"]
        if not annotation.get("iscrowd", 0)
    )
    return "bitmask" if rle else "polygon"


def check_coco(content: dict, images: Path) -> list[str]:
    """Find what keeps a COCO-format file from being trained on or evaluated with.

    Args:
        content: the file's content.
        images: the folder that ``file_name`` is relative to.

    Returns:
        A sentence for each problem, naming the record and the mend; none if the file is good.
    """
    if not isinstance(content, dict):
        return ["is not a JSON object with 'images', 'annotations' and 'categories'"]
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(content.get(key), list)
    ]
    if missing:
        return [f"has no list '{key}'" for key in missing]
    if not content["categories"]:
        return ["'categories' is empty: list every class with 'id' and 'name'"]
    problems = [*_check_categories(content), *_check_images(content, images)]
    # An annotation is checked against images and categories, which must be readable for that.
    return problems or list(_check_annotations(content))


def _duplicates(records: list[dict], kind: str) -> Iterator[str]:
    seen = set()
    for record in records:
        if record["id"] in seen:
            yield f"{kind} id {record['id']} stands twice: give each its own id"
        seen.add(record["id"])


def _lacks(record: object, index: int, kind: str, keys: tuple[str, ...]) -> Iterator[str]:
    """A sentence for each key that a record lacks."""
    if not isinstance(record, dict):
        yield f"{kind} number {index} is not an object"
        return
    name = f"{kind} {record['id']}" if "id" in record else f"{kind} number {index}"
    for key in keys:
        if key not in record:
            yield f"{name} has no '{key}'"


def _check_categories(content: dict) -> list[str]:
    records = content["categories"]
    problems = [
        problem
        for index, record in enumerate(records)
        for problem in _lacks(record, index, "category", ("id", "name"))
    ]
    return problems or list(_duplicates(records, "category"))


def _check_images(content: dict, folder: Path) -> list[str]:
    records = content["images"]
    keys = ("id", "file_name", "width", "height")
    problems = [
        problem
        for index, record in enumerate(records)
        for problem in _lacks(record, index, "image", keys)
    ]
    if problems:
        return problems
    problems = list(_duplicates(records, "image"))
    listed: dict[Path, set[str]] = {}  # one look per folder, not one per image
    for record in records:
        path = folder / record["file_name"]
        if path.parent not in listed:
            listed[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in listed[path.parent]:
            problems.append(
                f"image {record['id']}: '{path}' does not exist; correct its 'file_name' or the "
                "image folder"
            )
    return problems


def _check_annotations(content: dict) -> Iterator[str]:
    sizes = {image["id"]: [image["height"], image["width"]] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    keys = ("id", "image_id", "category_id", "bbox", "segmentation")
    for index, record in enumerate(content["annotations"]):
        lacks = list(_lacks(record, index, "annotation", keys))
        if lacks:
            yield from lacks
            continue
        name = f"annotation {record['id']}"
        if record["image_id"] not in sizes:
            yield f"{name}: image_id {record['image_id']} is not among the images"
        elif record["category_id"] not in categories:
            yield f"{name}: category_id {record['category_id']} is not among the categories"
        elif not _is_box(record["bbox"]):
            yield f"{name}: bbox {record['bbox']} is not [x, y, width, height] with a size above 0"
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
            return "its RLE segmentation lacks 'counts' or 'size'"
        if list(segmentation["size"]) != size:
            return (
                f"its RLE segmentation is of size {segmentation['size']} (height, width), its "
                f"image of {size}"
            )
        return None
    if not isinstance(segmentation, list) or not segmentation:
        return "its segmentation is neither a list of polygons nor an RLE object"
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return (
                "a polygon of its segmentation is not [x0, y0, x1, y1, ...] with three points or "
                "more: correct or remove it"
            )
    return None
