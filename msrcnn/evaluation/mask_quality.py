"""True MaskIoU of detections: the upper bound, and what predictions are compared with (paper 4)."""

from collections import defaultdict
from typing import NamedTuple

import hotcoco.mask as mask_util
import numpy as np
from pycocotools.coco import COCO

from .detections import Detections

MIN_BOX_IOU = 0.5  # of a detection and the instance its MaskIoU is measured with
CALIBRATION_BINS = 10
# COCO's, by pixels of the instance.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}


class TrueMaskIoU(NamedTuple):
    """The MaskIoU that N detections really have, by both definitions; arrays of shape (N,).

    Attributes:
        best: with the best non-crowd instance of the class, 0 where the image has none; in the
            place of the predicted MaskIoU it gives the paper's upper bound.
        matched: with the instance of the class whose box overlaps most, if by ``MIN_BOX_IOU`` or
            more, else NaN; what predicted MaskIoU is compared with.
        instance: id of that annotation, or 0.
        area: its area in pixels, or NaN.
    """

    best: np.ndarray
    matched: np.ndarray
    instance: np.ndarray
    area: np.ndarray


def true_maskiou(ground_truth: COCO, detections: Detections) -> TrueMaskIoU:
    """Compare detections with the instances of their class in their image.

    Args:
        ground_truth: the dataset.
        detections: with masks.
    """
    instances = defaultdict(list)
    for annotation in ground_truth.dataset["annotations"]:
        if not annotation["iscrowd"]:
            instances[annotation["image_id"], annotation["category_id"]].append(annotation)
    size = len(detections)
    found = TrueMaskIoU(
        best=np.zeros(size),
        matched=np.full(size, np.nan),
        instance=np.zeros(size, dtype=np.int64),
        area=np.full(size, np.nan),
    )
    for key, rows in _by_image_and_category(detections):
        if key not in instances:
            continue
        annotations = instances[key]
        crowd = [0] * len(annotations)
        masks = [ground_truth.annToRLE(annotation) for annotation in annotations]
        mask_iou = mask_util.iou([detections.segmentation[i] for i in rows], masks, crowd)
        boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=float)
        box_iou = mask_util.iou(detections.bbox[rows].astype(float), boxes, crowd)
        found.best[rows] = mask_iou.max(axis=1)
        nearest = box_iou.argmax(axis=1)
        good = box_iou[np.arange(len(rows)), nearest] >= MIN_BOX_IOU
        rows, nearest = rows[good], nearest[good]
        found.matched[rows] = mask_iou[good, nearest]
        found.instance[rows] = np.array([a["id"] for a in annotations])[nearest]
        found.area[rows] = np.array([a["area"] for a in annotations])[nearest]
    return found


def _by_image_and_category(detections: Detections):
    """Indices of the detections of each image and category."""
    order = np.lexsort((detections.category_id, detections.image_id))
    pairs = np.stack([detections.image_id[order], detections.category_id[order]], axis=1)
    starts = np.flatnonzero(np.any(np.diff(pairs, axis=0) != 0, axis=1)) + 1
    for rows in np.split(order, starts):
        if len(rows):
            yield (int(detections.image_id[rows[0]]), int(detections.category_id[rows[0]])), rows


def quality_statistics(predicted: np.ndarray, true: TrueMaskIoU) -> dict:
    """How well a score agrees with the true MaskIoU of the matched instance.

    Args:
        predicted: a score in [0, 1], of shape (N,).
        true: of the same detections; those without a matched instance do not count.

    Returns:
        ``pearson`` and ``spearman`` correlation, ``mae`` (mean absolute error) and ``n``, the
        detections that count; ``calibration``, by equal intervals of the score, its mean and the
        mean true MaskIoU; ``by_size``, the first four by size of the instance. ``None`` where
        something is not defined: no detection, or no spread.
    """
    counts = ~np.isnan(true.matched)
    predicted, matched, area = predicted[counts].astype(float), true.matched[counts], true.area
    area = area[counts]
    within = {name: (area >= low) & (area < high) for name, (low, high) in SIZES.items()}
    return {
        **_agreement(predicted, matched),
        "calibration": _calibration(predicted, matched),
        "by_size": {
            name: _agreement(predicted[inside], matched[inside]) for name, inside in within.items()
        },
    }


def _agreement(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | int | None]:
    return {
        "pearson": _correlation(predicted, true),
        "spearman": _correlation(_ranks(predicted), _ranks(true)),
        "mae": float(np.abs(predicted - true).mean()) if len(true) else None,
        "n": len(true),
    }


def _calibration(predicted: np.ndarray, true: np.ndarray) -> list[dict]:
    """For each interval of the score with a detection in it, the means and their number."""
    bins = np.minimum((predicted * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "predicted": float(predicted[bins == index].mean()),
            "true": float(true[bins == index].mean()),
            "n": int((bins == index).sum()),
        }
        for index in np.unique(bins)
    ]


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes + 1) / 2)[group]
