"""Loads the ground truth of a dataset for evaluation."""

import contextlib
import io
from collections import Counter
from collections.abc import Container

import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO

from ..data.availability import check_datasets
from ..data.chosen_keys import with_keys
from ..data.registered import checked_dataset, dataset_content
from ..provenance import file_record

# Other keys may hold anything, which hotcoco does not accept.
KEYS = {
    "images": (
        *("id", "width", "height", "file_name", "coco_url"),
        *("neg_category_ids", "not_exhaustive_category_ids"),
    ),
    "categories": ("id", "name", "frequency"),
    "annotations": ("id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd"),
}


def index_dataset(content: dict) -> COCO:
    """Indexes the content of an annotation file."""
    dataset = COCO()
    dataset.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
        dataset.createIndex()
    return dataset


def load_ground_truth(dataset_name: str) -> COCO:
    """Loads a registered dataset: an annotation file in COCO or LVIS format, or dataset dicts.

    Missing ``iscrowd`` and ``area`` are filled in, and a crowd without a mask gets its box as one.
    Keys that evaluation does not use are left out. All annotations are renumbered if an ``id`` is
    0, which pycocotools interprets as "no match".

    Args:
        dataset_name: name of a registered dataset.

    Returns:
        The indexed dataset. Its ``dataset`` has no key ``annotations`` if the file has none, as
        for test sets.

    Raises:
        UserError: if no such dataset is registered, or naming its first problem.
    """
    check_datasets([dataset_name])
    checked_dataset(dataset_name)
    content = with_keys(dataset_content(dataset_name), KEYS)
    annotations = content.get("annotations", [])
    if any(annotation["id"] == 0 for annotation in annotations):
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
    for annotation in annotations:
        annotation.setdefault("iscrowd", 0)
    ground_truth = index_dataset(content)
    for annotation in annotations:
        if "area" not in annotation:
            annotation["area"] = _area(ground_truth, annotation)
        if annotation["iscrowd"] and not annotation.get("segmentation"):
            annotation["segmentation"] = [_corners(annotation["bbox"])]
    return ground_truth


def dataset_record(dataset_name: str) -> dict:
    """Returns the name of a registered dataset, with the path and hash of its annotations."""
    path = MetadataCatalog.get(dataset_name).get("json_file")
    return {"name": dataset_name, "annotations": file_record(path or "")}


def _area(ground_truth: COCO, annotation: dict) -> float:
    """Area of the mask, or of the box if there is no mask."""
    if annotation.get("segmentation"):
        return float(mask_util.area(ground_truth.annToRLE(annotation)))
    width, height = annotation["bbox"][2:]
    return float(width * height)


def _corners(bbox: list[float]) -> list[float]:
    """Returns a box as a polygon."""
    x, y, width, height = bbox
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def has_annotations(ground_truth: COCO) -> bool:
    """Whether the dataset has annotations; those of test sets are not public."""
    return "annotations" in ground_truth.dataset


def without_mask(ground_truth: COCO) -> list[int]:
    """Returns the ids of the annotations that have no mask."""
    annotations = ground_truth.dataset["annotations"]
    return [each["id"] for each in annotations if not each.get("segmentation")]


def instances_by_category(ground_truth: COCO) -> Counter:
    """Counts the instances of each category, without crowds."""
    annotations = ground_truth.dataset["annotations"]
    return Counter(each["category_id"] for each in annotations if not each["iscrowd"])


def of_images(ground_truth: COCO, images: Container[int]) -> dict:
    """Returns the part of a dataset's content that is about some images."""
    content = ground_truth.dataset
    return {
        **content,
        "images": [each for each in content["images"] if each["id"] in images],
        "annotations": [each for each in content["annotations"] if each["image_id"] in images],
    }


def is_federated(ground_truth: COCO) -> bool:
    """Whether each image is annotated for some categories only, as in LVIS."""
    return any("neg_category_ids" in image for image in ground_truth.dataset["images"])
