"""Loads the ground truth of a dataset for evaluation."""

import contextlib
import io
import json
from pathlib import Path

import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO

from ..errors import UserError


def load_ground_truth(dataset_name: str) -> COCO:
    """Loads the annotation file of a registered dataset, in COCO or LVIS format.

    Missing ``iscrowd`` and ``area`` are filled in. All annotations are renumbered if an ``id`` is
    missing, not unique, or 0, which pycocotools interprets as "no match".

    Args:
        dataset_name: name of a registered dataset.

    Returns:
        The indexed dataset. Its ``dataset`` has no key ``annotations`` if the file has none, as
        for test sets.

    Raises:
        UserError: if the dataset has no annotation file, or the file cannot be read or is not in
            COCO format.
    """
    path = MetadataCatalog.get(dataset_name).get("json_file")
    if path is None:
        raise UserError(
            f"dataset '{dataset_name}' has no COCO annotation file: set 'json_file' in its metadata"
        )
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"dataset '{dataset_name}': cannot read '{path}': {error}") from error
    if not isinstance(content, dict) or not {"images", "categories"} <= content.keys():
        raise UserError(
            f"dataset '{dataset_name}': '{path}' is not in COCO format: it must be a JSON object "
            "with 'images' and 'categories'"
        )
    annotations = content.get("annotations", [])
    known = {category["id"] for category in content["categories"]}
    for annotation in annotations:
        if annotation["category_id"] not in known:
            raise UserError(
                f"'{path}': annotation {annotation.get('id')} has category_id "
                f"{annotation['category_id']}, which is not in 'categories'"
            )
    if len({a.get("id", 0) for a in annotations} - {0}) < len(annotations):
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
    for annotation in annotations:
        annotation.setdefault("iscrowd", 0)
    ground_truth = COCO()
    ground_truth.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
        ground_truth.createIndex()
    for annotation in annotations:
        if "area" not in annotation:
            annotation["area"] = _area(ground_truth, annotation)
    return ground_truth


def _area(ground_truth: COCO, annotation: dict) -> float:
    """Area of the mask, or of the box if there is no mask."""
    if annotation.get("segmentation"):
        return float(mask_util.area(ground_truth.annToRLE(annotation)))
    width, height = annotation["bbox"][2:]
    return float(width * height)


def has_annotations(ground_truth: COCO) -> bool:
    """Whether the dataset has annotations; those of test sets are not public."""
    return "annotations" in ground_truth.dataset


def has_masks(ground_truth: COCO) -> bool:
    """Whether every instance has a mask."""
    return all(a.get("segmentation") for a in ground_truth.dataset["annotations"])


def is_federated(ground_truth: COCO) -> bool:
    """Whether each image is annotated for some categories only, as in LVIS."""
    return any("neg_category_ids" in image for image in ground_truth.dataset["images"])
