"""True MaskIoU of detections, and how well scores agree with it (section 4 of the paper)."""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import hotcoco.mask as mask_util
import numpy as np
from pycocotools.coco import COCO
from scipy.stats import NearConstantInputWarning, pearsonr, rankdata

from .detections import Detections

MIN_BOX_IOU = 0.5  # for a detection to be matched with an instance
CALIBRATION_BINS = 10
# COCO's area ranges, in pixels of the instance.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}


class TrueMaskIoU(NamedTuple):
    """True MaskIoU of N detections, by two definitions. Crowds are not instances here.

    Attributes:
        best: array of shape (N,), the largest MaskIoU with an instance of the detection's class
            in the image; 0 if there is none. Used in place of the predicted MaskIoU, it gives the
            paper's upper bound.
        matched: array of shape (N,), MaskIoU with the matched instance: the instance of the class
            with the largest box IoU, if that is at least ``MIN_BOX_IOU``. NaN if no instance is
            matched. Predicted MaskIoU is compared with this value.
        instance: array of shape (N,), annotation id of the matched instance, or 0.
        area: array of shape (N,), area of the matched instance in pixels, or NaN.
    """

    best: np.ndarray
    matched: np.ndarray
    instance: np.ndarray
    area: np.ndarray


def true_maskiou(ground_truth: COCO, detections: Detections) -> TrueMaskIoU:
    """Computes the true MaskIoU of each detection.

    Args:
        ground_truth: the dataset, with instance masks.
        detections: detections with masks.
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


def _by_image_and_category(
    detections: Detections,
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Yields (image id, category id) with the indices of the detections of that pair."""
    order = np.lexsort((detections.category_id, detections.image_id))
    pairs = np.stack([detections.image_id[order], detections.category_id[order]], axis=1)
    starts = np.flatnonzero(np.any(np.diff(pairs, axis=0) != 0, axis=1)) + 1
    for rows in np.split(order, starts):
        if len(rows):
            yield (int(detections.image_id[rows[0]]), int(detections.category_id[rows[0]])), rows


def quality_statistics(predicted: np.ndarray, true: TrueMaskIoU) -> dict:
    """Measures how well a score agrees with the true MaskIoU of the matched instance.

    Args:
        predicted: array of shape (N,), a score in [0, 1].
        true: true MaskIoU of the same N detections. Detections without a matched instance are
            ignored.

    Returns:
        A dict with

        * ``pearson``, ``spearman``: correlation, ``None`` for fewer than two detections or if all
          values are equal;
        * ``mae``: mean absolute error, ``None`` without a detection;
        * ``n``: number of detections with a matched instance;
        * ``calibration``: for each of ``CALIBRATION_BINS`` equal intervals of the score that
          contains a detection, the mean score (``predicted``), the mean true MaskIoU (``true``)
          and the number of detections (``n``);
        * ``by_size``: the first four for each of ``SIZES``, by area of the matched instance.
    """
    is_matched = ~np.isnan(true.matched)
    predicted = predicted[is_matched].astype(float)
    matched, area = true.matched[is_matched], true.area[is_matched]
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
        "spearman": _correlation(rankdata(predicted), rankdata(true)),
        "mae": float(np.abs(predicted - true).mean()) if len(true) else None,
        "n": len(true),
    }


def _calibration(predicted: np.ndarray, true: np.ndarray) -> list[dict]:
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
    """Pearson correlation, or ``None`` if it is not defined."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearConstantInputWarning)
        return float(pearsonr(a, b).statistic)
