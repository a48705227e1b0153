"""Predictions as a COCO-format file, which labelling tools can open."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pycocotools.mask as mask_util

from ..atomic_file import write_file
from ..class_names import name_of
from .image_prediction import Prediction


def coco_record(prediction: Prediction, rank_by: str, **facts: object) -> dict:
    """Returns the predictions in an image or a frame, without ids.

    Args:
        prediction: the predictions.
        rank_by: see :meth:`Prediction.to_coco`.
        **facts: more about the image.

    Returns:
        ``image``, with ``width``, ``height`` and the facts, and ``annotations``.
    """
    height, width = prediction.pixels.shape[:2]
    annotations = prediction.to_coco(rank_by=rank_by)
    for annotation in annotations:
        del annotation["image_id"]
        rle = annotation.get("segmentation")
        if rle is not None:
            annotation["bbox"] = mask_util.toBbox(rle).tolist()
            annotation["area"] = float(mask_util.area(rle))
        else:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    return {"image": {**facts, "width": width, "height": height}, "annotations": annotations}


def write_coco(
    path: Path, records: Callable[[], Iterable[tuple[str, dict]]], class_names: list[str]
) -> None:
    """Writes ``images``, ``annotations`` and ``categories``; category ids are class indices.

    One record is in memory at a time.

    Args:
        path: the file.
        records: called twice; returns ``file_name`` and :func:`coco_record` of each image.
        class_names: names by class index; may be empty.
    """
    write_file(path, _parts(records, class_names))


def _parts(records: Callable, class_names: list[str]) -> Iterator[str]:
    classes = len(class_names)
    yield '{"images": ['
    for image_id, (file_name, record) in enumerate(records(), start=1):
        image = {"id": image_id, "file_name": file_name, **record["image"]}
        yield (", " if image_id > 1 else "") + json.dumps(image)
        found = [annotation["category_id"] + 1 for annotation in record["annotations"]]
        classes = max([classes, *found])
    categories = [{"id": index, "name": name_of(index, class_names)} for index in range(classes)]
    yield f'], "categories": {json.dumps(categories)}, "annotations": ['
    number = 0
    for image_id, (_, record) in enumerate(records(), start=1):
        for annotation in record["annotations"]:
            number += 1
            ids = {"id": number, "image_id": image_id, "iscrowd": 0}
            yield (", " if number > 1 else "") + json.dumps({**ids, **annotation})
    yield "]}"
