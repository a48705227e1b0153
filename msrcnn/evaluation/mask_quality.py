"""True MaskIoU of detections: the upper bound, and what predictions are compared with (paper 4)."""

from collections import defaultdict

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

MIN_BOX_IOU = 0.5  # of a detection and the instance its MaskIoU is measured with


def _by_image_and_class(records: list[dict]) -> dict[tuple[int, int], list[int]]:
    """Indices of the records of each image and category."""
    groups = defaultdict(list)
    for index, record in enumerate(records):
        groups[record["image_id"], record["category_id"]].append(index)
    return groups


def _ious(ground_truth: COCO, records: list[dict]):
    """For each image and category: indices of records, their mask IoUs and box IoUs.

    Both of shape (detections, instances), with the non-crowd instances of that image and
    category; groups without one are left out.
    """
    instances = defaultdict(list)
    for annotation in ground_truth.dataset["annotations"]:
        if not annotation["iscrowd"]:
            instances[annotation["image_id"], annotation["category_id"]].append(annotation)
    for key, indices in _by_image_and_class(records).items():
        if key not in instances:
            continue
        crowd = [0] * len(instances[key])
        masks = [ground_truth.annToRLE(annotation) for annotation in instances[key]]
        boxes = np.array([annotation["bbox"] for annotation in instances[key]], dtype=float)
        found = [records[i] for i in indices]
        mask_iou = mask_util.iou([r["segmentation"] for r in found], masks, crowd)
        box_iou = mask_util.iou(np.array([r["bbox"] for r in found], dtype=float), boxes, crowd)
        yield indices, np.asarray(mask_iou), np.asarray(box_iou)


def true_maskiou(ground_truth: COCO, records: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """The MaskIoU that detections really have, by both definitions from one look at the masks.

    Args:
        ground_truth: the dataset.
        records: detections with masks, see :mod:`msrcnn.evaluation.records`.

    Returns:
        Two arrays of shape (N,). With the best non-crowd instance of the class, 0 where the
        image has none; in the place of the predicted MaskIoU it gives the paper's upper bound.
        With the instance of the class whose box overlaps most, if by ``MIN_BOX_IOU`` or more,
        else NaN; what predicted MaskIoU is compared with.
    """
    best, matched = np.zeros(len(records)), np.full(len(records), np.nan)
    for indices, mask_iou, box_iou in _ious(ground_truth, records):
        best[indices] = mask_iou.max(axis=1)
        nearest = box_iou.argmax(axis=1)
        rows = np.arange(len(indices))
        good = box_iou[rows, nearest] >= MIN_BOX_IOU
        matched[np.asarray(indices)[good]] = mask_iou[rows, nearest][good]
    return best, matched


def maskiou_statistics(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | int | None]:
    """How well predicted MaskIoU agrees with the true one.

    Args:
        predicted: array of shape (N,).
        true: array of shape (N,); samples that are NaN do not count.

    Returns:
        ``pearson`` and ``spearman`` correlation, ``mae`` (mean absolute error), and ``n``, the
        samples that count. ``None`` where it is not defined: no sample, or no spread.
    """
    counts = ~np.isnan(true)
    predicted, true = np.asarray(predicted)[counts], true[counts]
    return {
        "pearson": _correlation(predicted, true),
        "spearman": _correlation(_ranks(predicted), _ranks(true)),
        "mae": float(np.abs(predicted - true).mean()) if len(true) else None,
        "n": len(true),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes + 1) / 2)[group]
