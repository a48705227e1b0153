"""Reads the files of labelme: a JSON file for each image."""

import base64
import io
import json
import warnings
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from ..errors import UserError, first_of
from .coco_records import CocoRecords
from .image_paths import leaves_folder
from .label_files import ENCODING, LISTED, box_around, of_polygons, picture_names

OUTLINES = ("polygon", "circle")
WITHOUT_AREA = ("line", "linestrip", "point", "points")
CORNERS = 64  # of the polygon that a circle becomes


def read_labelme(source: str, images: str) -> dict:
    """Converts a folder of labelme's files to COCO's format, with its subfolders.

    Polygons, circles and masks become instances; shapes of one image with the same label and group
    are one instance. Lines and points are left out.

    Args:
        source: the folder, with the JSON files.
        images: the image folder.

    Returns:
        The content of an annotation file. Categories are in alphabetical order.

    Raises:
        UserError: naming every file with a shape that cannot be read.
    """
    files = {path: _content(path) for path in sorted(Path(source).rglob("*.json"))}
    labeled = {path: content for path, content in files.items() if "shapes" in content}
    names = sorted({_label(path, shape) for path in labeled for shape in labeled[path]["shapes"]})
    ids = {name: number for number, name in enumerate(names, start=1)}
    records = CocoRecords([{"id": number, "name": name} for name, number in ids.items()])
    left_out, mistakes = Counter(), []
    for path, content in labeled.items():
        try:
            image = _image(path, content, path.parent.relative_to(source), Path(images))
        except UserError as error:
            mistakes.append(str(error))
            continue
        annotations = []
        for shapes in _instances(path, content["shapes"], left_out):
            try:
                geometry = _geometry(path, shapes, image["height"], image["width"])
            except UserError as error:
                mistakes.append(str(error))
                continue
            if "segmentation" not in geometry:
                mistakes.append(f"{path}: '{shapes[0]['label']}' is a box without a mask")
            category_id = ids[_label(path, shapes[0])]
            annotations.append({"category_id": category_id, "iscrowd": 0, **geometry})
        records.add(**image, annotations=annotations)
    if mistakes:
        raise UserError(f"fix these in labelme: {first_of(mistakes, LISTED, '; ')}")
    _warn_of_unlabeled(Path(images), records.content["images"])
    for kind, number in sorted(left_out.items()):
        warnings.warn(f"left out {number} of kind '{kind}', which have no area", stacklevel=2)
    return records.content


def _warn_of_unlabeled(images: Path, records: list[dict]) -> None:
    """labelme writes no file of a picture in which nothing was drawn, unless it is saved."""
    known = {record["file_name"] for record in records}
    without = [name for name in picture_names(images) if name not in known]
    if without:
        warnings.warn(
            f"left out {len(without)} picture(s) without a file of labelme, such as "
            f"'{without[0]}': if there is nothing to find in them, save them without shapes",
            stacklevel=3,
        )


def _content(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding=ENCODING))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON in UTF-8: {error}") from error
    shapes = content.get("shapes", []) if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise UserError(f"{path} is not a file of labelme: it has no list of 'shapes'")
    return content


def _label(path: Path, shape: object) -> str:
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label:
        raise UserError(f"{path}: a shape has no 'label'")
    return label


def _image(path: Path, content: dict, subfolder: Path, images: Path) -> dict:
    given = content.get("imagePath")
    if not isinstance(given, str) or not given:
        raise UserError(f"{path} has no 'imagePath'")
    name = _image_name(PureWindowsPath(given), subfolder, images)
    size = {key: content.get(f"image{key.capitalize()}") for key in ("width", "height")}
    for key, value in size.items():
        if type(value) is not int or value < 1:
            raise UserError(f"{path}: image{key.capitalize()} is {value!r}; it must be above 0")
    return {"file_name": name, **size}


def _image_name(given: PureWindowsPath, subfolder: Path, images: Path) -> str:
    """Finds an image by a path relative to its JSON file, on the machine of the annotator.

    Args:
        given: the path.
        subfolder: of the JSON file; images are in folders of the same name, or all in one.
        images: the image folder.
    """
    ends = (PurePosixPath(*given.parts[start:]) for start in range(len(given.parts)))
    inside = [str(end) for end in ends if not leaves_folder({"file_name": str(end)})]
    names = [*((subfolder / end).as_posix() for end in inside), *inside]
    missing = (subfolder / given.name).as_posix()
    return next((name for name in names if (images / name).is_file()), missing)


def _instances(path: Path, shapes: list[dict], left_out: Counter) -> list[list[dict]]:
    """Returns the shapes of each instance."""
    instances: dict[object, list[dict]] = {}
    for index, shape in enumerate(shapes):
        kind, group = shape.get("shape_type", "polygon"), shape.get("group_id")
        if kind in WITHOUT_AREA:
            left_out[kind] += 1
            continue
        key = index if group is None else (_label(path, shape), str(group))
        instances.setdefault(key, []).append(shape)
    return list(instances.values())


def _geometry(path: Path, shapes: list[dict], height: int, width: int) -> dict:
    points = [_points(path, shape) for shape in shapes]
    kinds = {shape.get("shape_type", "polygon") for shape in shapes}
    if "rectangle" in kinds:
        bbox = box_around(points)
        return {"bbox": bbox, "area": bbox[2] * bbox[3]}
    if kinds.issubset(OUTLINES):
        return of_polygons(points, height, width)
    polygons = [each.ravel().tolist() for each in points]
    rles = []
    for shape, polygon, corners in zip(shapes, polygons, points):
        if shape.get("shape_type") == "mask":
            rles.append(_mask(path, shape, corners[0], height, width))
        else:
            rles += mask_util.frPyObjects([polygon], height, width)
    rle = mask_util.merge(rles)
    return {
        "bbox": mask_util.toBbox(rle).tolist(),
        "area": float(mask_util.area(rle)),
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
    }


def _points(path: Path, shape: dict) -> np.ndarray:
    kind, label = shape.get("shape_type", "polygon"), shape["label"]
    if kind not in (*OUTLINES, "mask", "rectangle"):
        raise UserError(f"{path}: '{label}' is of kind {kind!r}; draw a polygon or mask instead")
    try:
        points = np.array(shape["points"], dtype=float)
    except (KeyError, TypeError, ValueError):
        points = np.empty(0)
    needed = 3 if kind == "polygon" else 2
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < needed:
        raise UserError(f"{path}: the points of a {kind} '{label}' are not {needed} or more pairs")
    if not np.isfinite(points).all():
        raise UserError(f"{path}: the points of a {kind} '{label}' are not all finite")
    return _around(*points[:2]) if kind == "circle" else points


def _around(center: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """Returns the corners of a polygon like a circle around a point, through another one."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    return center + np.hypot(*(edge - center)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _mask(path: Path, shape: dict, corner: np.ndarray, height: int, width: int) -> dict:
    """Decodes a mask, which labelme keeps as a picture of the box around it."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
            part = np.asarray(picture) > 0
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"{path}: the mask of '{shape['label']}' cannot be read") from error
    x, y = corner.astype(int)
    if part.ndim != 2 or x < 0 or y < 0 or y + part.shape[0] > height or x + part.shape[1] > width:
        raise UserError(f"{path}: the mask of '{shape['label']}' does not fit into the image")
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[y : y + part.shape[0], x : x + part.shape[1]] = part
    return mask_util.encode(mask)
