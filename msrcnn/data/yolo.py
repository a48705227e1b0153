"""Reads YOLO's labels for segmentation: a text file for each image, with a polygon on each line."""

import warnings
from pathlib import Path

import numpy as np
import yaml

from ..errors import UserError, first_of
from ..yaml_limits import UniqueKeysLoader, check_yaml
from .coco_records import CocoRecords
from .image_files import read_header
from .label_files import ENCODING, LISTED, of_polygons, picture_names

CLASSES = "data.yaml"
ABOVE = 3  # folders above the labels in which CLASSES may be: labels/train, labels, the dataset
ROUNDING = 1e-3  # of coordinates beyond the image
BOX = 5  # numbers on the line of a box: its class, center, width and height


def read_yolo(source: str, images: str) -> dict:
    """Converts a folder of YOLO's label files to COCO's format, with its subfolders.

    A line ``class x1 y1 x2 y2 ...``, with coordinates between 0 and 1, becomes an instance. A line
    of 5 numbers is a box and becomes an annotation without a mask. An image without a label file
    has no objects, as for Ultralytics.

    Args:
        source: the folder, with the label files. ``data.yaml``, which names the classes, is in it
            or in one of the ``ABOVE`` folders above it.
        images: the image folder.

    Returns:
        The content of an annotation file. Categories have the ids 1, 2, ... in the order of
        ``data.yaml``.

    Raises:
        UserError: naming the lines that cannot be read.
    """
    names = _class_names(Path(source).resolve())
    labels = {_key(path, source): path for path in sorted(Path(source).rglob("*.txt"))}
    files = {name: Path(images, name) for name in picture_names(Path(images))}
    known = {_key(path, images) for path in files.values()}
    mistakes = [f"{path} has no image" for key, path in labels.items() if key not in known]
    records = CocoRecords([{"id": number, "name": name} for number, name in enumerate(names, 1)])
    without = []
    for name, file in files.items():
        try:
            width, height = read_header(str(file)).shown
        except Exception as error:  # its type depends on the format
            mistakes.append(f"{file} cannot be read: {error}")
            continue
        annotations = []
        if label := labels.get(_key(file, images)):
            annotations = _annotations(label, len(names), width, height, mistakes)
        else:
            without.append(name)
        records.add(name, width, height, annotations)
    if mistakes:
        raise UserError(first_of(mistakes, LISTED, "; "))
    if without:
        warnings.warn(
            f"{len(without)} image(s) without a label file, such as '{without[0]}', count as "
            "images without objects",
            stacklevel=2,
        )
    return records.content


def _key(path: Path, folder: str) -> Path:
    """Returns what a label file and its image have in common."""
    return path.relative_to(folder).with_suffix("")


def _class_names(folder: Path) -> list[str]:
    candidates = [each / CLASSES for each in (folder, *folder.parents[:ABOVE])]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None:
        raise UserError(f"there is no {CLASSES} with the names of the classes in {folder} or above")
    try:
        check_yaml(path, UniqueKeysLoader)  # the keys of 'names' can be numbers
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        if isinstance(names, dict):
            names = [names[number] for number in range(len(names))]
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} has no list of class 'names', in order from 0") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(names, list) or not names or len({*map(str, names)}) < len(names):
        raise UserError(f"{path}: 'names' is not a list of different class names")
    return [str(name) for name in names]


def _annotations(
    path: Path, classes: int, width: int, height: int, mistakes: list[str]
) -> list[dict]:
    """Converts the lines of a file; adds those that cannot be read to the mistakes."""
    annotations = []
    # A byte that is not UTF-8 is part of no number.
    text = path.read_text(encoding=ENCODING, errors="replace")
    for index, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            annotations.append(_annotation(line, classes, width, height))
        except ValueError as error:
            mistakes.append(f"{path}, line {index}: {error}")
    return annotations


def _annotation(line: str, classes: int, width: int, height: int) -> dict:
    """Converts a line.

    Raises:
        ValueError: saying what is wrong with it.
    """
    number, *values = (float(value) for value in line.split())
    if not (number.is_integer() and 0 <= number < classes):
        raise ValueError(f"class {number:g} is not one of the {classes} in {CLASSES}, from 0")
    points = np.array(values)
    if not (points >= -ROUNDING).all() or not (points <= 1 + ROUNDING).all():  # also for NaN
        raise ValueError("coordinates are not between 0 and 1")
    points = points.clip(0, 1)
    common = {"category_id": int(number) + 1, "iscrowd": 0}
    size = np.array([width, height])
    if len(values) == BOX - 1:
        center, extent = points[:2] * size, points[2:] * size
        box = [*(center - extent / 2).tolist(), *extent.tolist()]
        return {**common, "bbox": box, "area": box[2] * box[3]}
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} coordinates are not 3 or more points")
    return {**common, **of_polygons([points.reshape(-1, 2) * size], height, width)}
