"""True MaskIoU of detections."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

# Not hotcoco's, which uses threads: a process forked after an evaluation would wait for them.
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

from ..modeling.detection_samples import MIN_BOX_IOU
from .detections import Detections, present

MIN_CROWD_SHARE = 0.5  # of a detection's area, on a crowd of its class
LVIS_LISTS = {"neg_category_ids", "not_exhaustive_category_ids"}  # of an image


class TrueMaskIoU(NamedTuple):
    """True MaskIoU of N detections, by three definitions. Crowds are not instances here.

    Attributes:
        best: array of shape (N,), the largest MaskIoU with an instance of the detection's class
            in the image; 0 if there is none. Used in place of the predicted MaskIoU, it gives the
            paper's upper bound.
        matched: array of shape (N,), MaskIoU with the matched instance: the instance of the class
            with the largest box IoU, if that is at least ``MIN_BOX_IOU``. NaN if no instance is
            matched.
        matched_or_zero: array of shape (N,), the same, but 0 if no instance is matched, or NaN if
            such a detection may still be an object, see :func:`on_incomplete`.
        instance: array of shape (N,), annotation id of the matched instance, or 0.
        area: array of shape (N,), area of the matched instance in pixels, or NaN.
    """

    best: np.ndarray
    matched: np.ndarray
    matched_or_zero: np.ndarray
    instance: np.ndarray
    area: np.ndarray


def true_maskiou(ground_truth: COCO, detections: Detections) -> TrueMaskIoU:
    """Computes the true MaskIoU of each detection.

    Args:
        ground_truth: the dataset, with instance masks.
        detections: detections with masks.
    """
    instances = instances_by_class(ground_truth)
    segmentation = present(detections.segmentation)
    size = len(detections)
    found = TrueMaskIoU(
        best=np.zeros(size),
        matched=np.full(size, np.nan),
        matched_or_zero=np.where(on_incomplete(ground_truth, detections), np.nan, 0.0),
        instance=np.zeros(size, dtype=np.int64),
        area=np.full(size, np.nan),
    )
    for key, rows in detections.by_image_and_category():
        if key not in instances:
            continue
        annotations = instances[key]
        crowd = [0] * len(annotations)
        masks = [ground_truth.annToRLE(annotation) for annotation in annotations]
        mask_iou = mask_util.iou(segmentation.dicts(rows), masks, crowd)
        found.best[rows] = mask_iou.max(axis=1)
        nearest, good = _nearest(detections.bbox[rows], annotations)
        rows, nearest = rows[good], nearest[good]
        found.matched[rows] = found.matched_or_zero[rows] = mask_iou[good, nearest]
        found.instance[rows] = np.array([a["id"] for a in annotations])[nearest]
        found.area[rows] = np.array([a["area"] for a in annotations])[nearest]
    return found


def instances_by_class(ground_truth: COCO) -> dict[tuple[int, int], list[dict]]:
    """Returns the annotations that are not crowds by image id and category id."""
    instances = defaultdict(list)
    for annotation in ground_truth.dataset["annotations"]:
        if not annotation["iscrowd"]:
            instances[annotation["image_id"], annotation["category_id"]].append(annotation)
    return instances


def duplicates(instances: dict[tuple[int, int], list[dict]], detections: Detections) -> np.ndarray:
    """Finds detections whose instance matches another detection with a higher box score.

    Args:
        instances: see :func:`instances_by_class`.
        detections: all N detections of some images.

    Returns:
        Bool array of shape (N,). Of equal scores, the first detection is the higher one.
    """
    found = np.zeros(len(detections), dtype=bool)
    for key, rows in detections.by_image_and_category():
        if key in instances:
            nearest, good = _nearest(detections.bbox[rows], instances[key])
            rows, nearest = rows[good], nearest[good]
            order = np.argsort(-detections.score[rows], kind="stable")
            _, first = np.unique(nearest[order], return_index=True)
            found[rows] = True
            found[rows[order[first]]] = False
    return found


def _nearest(boxes: np.ndarray, annotations: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the annotation with the largest box IoU, and whether that is large enough to match.

    Args:
        boxes: (x, y, width, height), of shape (n, 4).
        annotations: at least one.
    """
    others = np.array([annotation["bbox"] for annotation in annotations], dtype=float)
    iou = mask_util.iou(boxes.astype(float), others, [0] * len(others))
    nearest = iou.argmax(axis=1)
    return nearest, iou[np.arange(len(boxes)), nearest] >= MIN_BOX_IOU


def on_incomplete(ground_truth: COCO, detections: Detections) -> np.ndarray:
    """Finds detections that may be objects although no annotation says so.

    Args:
        ground_truth: annotations of the images.
        detections: N detections; boxes are compared if they have no masks.

    Returns:
        Bool array of shape (N,): whether at least half of the detection is on a crowd of its class,
        or the image's annotations of the class are not complete, as LVIS declares it.
    """
    with_masks = detections.segmentation is not None
    crowds: dict[tuple[int, int], list] = {}
    annotated: set[tuple[int, int]] = set()
    for annotation in ground_truth.dataset["annotations"]:
        key = annotation["image_id"], annotation["category_id"]
        annotated.add(key)
        if annotation.get("iscrowd"):
            region = ground_truth.annToRLE(annotation) if with_masks else annotation["bbox"]
            crowds.setdefault(key, []).append(region)
    images = {image_id for image_id, _ in crowds}
    images.update(i["id"] for i in ground_truth.dataset["images"] if not LVIS_LISTS.isdisjoint(i))
    incomplete = np.zeros(len(detections), dtype=bool)
    for key, rows in detections.by_image_and_category(images):
        image_id, category_id = key
        if not _is_exhaustive(ground_truth.imgs[image_id], category_id, key in annotated):
            incomplete[rows] = True
        elif key in crowds:
            found: list | np.ndarray
            regions: list | np.ndarray
            if detections.segmentation is not None:
                found, regions = detections.segmentation.dicts(rows), crowds[key]
            else:
                found = detections.bbox[rows].astype(float)
                regions = np.array(crowds[key], dtype=float)
            # With iscrowd, the "IoU" is the share of the detection that the region covers.
            share = mask_util.iou(found, regions, [1] * len(regions))
            incomplete[rows] = share.max(axis=1) >= MIN_CROWD_SHARE
    return incomplete


def _is_exhaustive(image: dict, category_id: int, is_annotated: bool) -> bool:
    """Whether all instances of a category are annotated in an image.

    In LVIS, an image lists the categories that are verified to be absent and those of which only
    some instances are annotated. Categories that are neither annotated nor listed are unknown.
    """
    if category_id in image.get("not_exhaustive_category_ids", ()):
        return False
    return is_annotated or category_id in image.get("neg_category_ids", (category_id,))
