"""Datasets that are registered as Python functions, in COCO's format."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..errors import UserError
from ..escaping import shown


def coco_content(dataset_dicts: Iterable[dict], class_names: list[str], name: str) -> dict:
    """Converts dataset dicts to COCO's format, without changing values, so that they are checked.

    Args:
        dataset_dicts: dataset dicts in Detectron2's format, as a registered function returns them.
        class_names: ``thing_classes`` of the dataset's metadata.
        name: name of the dataset, for messages.

    Returns:
        The content of an annotation file, with class indices as ids of categories and
        ``file_name`` as it is. Without ``annotations`` if no image has any, as of test sets.

    Raises:
        UserError: if they are no list, an image has no ``image_id`` or, unlike others, no list of
            ``annotations``, a ``bbox_mode`` is missing or not one of absolute coordinates, or a
            mask is an array.
    """
    if not isinstance(dataset_dicts, Iterable):
        raise UserError(
            f"dataset '{name}': its function returned {shown(dataset_dicts)}; it must return a "
            "list of dataset dicts"
        )
    records = list(dataset_dicts)
    annotated = any("annotations" in record for record in records)
    images, annotations = [], []
    for index, record in enumerate(records):
        if "image_id" not in record:
            raise UserError(f"dataset '{name}': the image at index {index} has no 'image_id'")
        image = {"id": record["image_id"], **_chosen(record, "file_name", "width", "height")}
        images.append(image)
        where = f"dataset '{name}': image {image['id']}"
        if annotated and not isinstance(record.get("annotations"), list):
            raise UserError(
                f"{where} has no list of 'annotations'; give an empty one if there is no object"
            )
        for annotation in record.get("annotations", []):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "bbox": _xywh(annotation, where),
                    **_chosen(annotation, "category_id", "iscrowd"),
                    **_masks(annotation, where),
                }
            )
    categories = [{"id": index, "name": each} for index, each in enumerate(class_names)]
    content = {"images": images, "categories": categories}
    if annotated:
        content["annotations"] = annotations
    return json.loads(json.dumps(content, default=_plain))


def _chosen(record: dict, *keys: str) -> dict:
    return {key: record[key] for key in keys if key in record}


def _masks(annotation: dict, where: str) -> dict:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, np.ndarray):  # Detectron2's mapper does not accept it
        raise UserError(
            f"{where}: a mask is an array; encode it as RLE with pycocotools.mask.encode"
        )
    if isinstance(segmentation, list):  # polygons may be arrays of points
        segmentation = [each.ravel() if hasattr(each, "ravel") else each for each in segmentation]
    return {} if segmentation is None else {"segmentation": segmentation}


def _xywh(annotation: dict, where: str) -> Any:
    bbox, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if mode == BoxMode.XYWH_ABS:
        return bbox
    if mode != BoxMode.XYXY_ABS:
        raise UserError(
            f"{where}: an annotation has bbox_mode {mode}; it must be BoxMode.XYXY_ABS or "
            "BoxMode.XYWH_ABS"
        )
    try:
        x0, y0, x1, y1 = bbox
        return [x0, y0, x1 - x0, y1 - y0]
    except (TypeError, ValueError):
        return bbox  # the schema says what is wrong with it


def _plain(value: Any) -> Any:
    """Returns what JSON can hold of arrays, numbers of NumPy, bytes and paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
