"""The annotations to evaluate with."""

import contextlib
import io
import json
from pathlib import Path

import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO

from ..errors import UserError


def load_ground_truth(dataset_name: str) -> COCO:
    """The COCO annotations of a registered dataset, of COCO's own format or of LVIS's.

    What the format leaves out is filled in: ``iscrowd``, ``area``, and an ``id`` where
    annotations lack one, share one, or have 0, which the reference implementation takes for "no
    match".

    Returns:
        The dataset; without the key ``annotations`` where the file has none, as those of test
        sets.

    Raises:
        UserError: if the dataset has no such file, or it cannot be read.
    """
    path = MetadataCatalog.get(dataset_name).get("json_file")
    if path is None:
        raise UserError(f"dataset '{dataset_name}' has no COCO annotation file to evaluate with")
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"dataset '{dataset_name}': cannot read '{path}': {error}") from error
    if not isinstance(content, dict) or not {"images", "categories"} <= content.keys():
        raise UserError(
            f"dataset '{dataset_name}': '{path}' is not in COCO's format: it lacks images or "
            "categories"
        )
    annotations = content.get("annotations", [])
    known = {category["id"] for category in content["categories"]}
    for annotation in annotations:
        if annotation["category_id"] not in known:
            raise UserError(
                f"'{path}': annotation {annotation.get('id')} is of category "
                f"{annotation['category_id']}, which 'categories' does not have"
            )
    if len({a.get("id", 0) for a in annotations} - {0}) < len(annotations):
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
    for annotation in annotations:
        annotation.setdefault("iscrowd", 0)
    ground_truth = COCO()
    ground_truth.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        ground_truth.createIndex()
    for annotation in annotations:
        if "area" not in annotation:
            annotation["area"] = _area(ground_truth, annotation)
    return ground_truth


def _area(ground_truth: COCO, annotation: dict) -> float:
    """Of the mask; without one, of the box."""
    if annotation.get("segmentation"):
        return float(mask_util.area(ground_truth.annToRLE(annotation)))
    width, height = annotation["bbox"][2:]
    return float(width * height)


def has_annotations(ground_truth: COCO) -> bool:
    """Whether there is something to evaluate with; those of test sets are kept from us."""
    return "annotations" in ground_truth.dataset


def has_masks(ground_truth: COCO) -> bool:
    """Whether every instance has a mask."""
    return all(a.get("segmentation") for a in ground_truth.dataset["annotations"])


def is_federated(ground_truth: COCO) -> bool:
    """Whether the images say which categories were looked for, as those of LVIS do."""
    return any("neg_category_ids" in image for image in ground_truth.dataset["images"])
