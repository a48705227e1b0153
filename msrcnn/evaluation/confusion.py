"""Which classes are confused with which others."""

import dataclasses

import hotcoco
import numpy as np
from pycocotools.coco import COCO

from .detections import Detections
from .image_parts import image_parts
from .mask_quality import TrueMaskIoU, on_incomplete

IOU_THRESHOLD = 0.5
# Of the box score: detections below it are so many that they would hide the confusions.
MIN_SCORE = 0.5


def confusion(ground_truth: COCO, detections: Detections, true: TrueMaskIoU | None) -> dict:
    """Counts detections by the class of their instance and by their own class.

    In decreasing order of box score, each detection is matched with the unmatched instance of any
    class that it overlaps most, if their IoU is at least ``IOU_THRESHOLD``.

    Args:
        ground_truth: the dataset.
        detections: the detections. Those with a box score below ``MIN_SCORE`` are left out, and
            those that may be objects although no annotation says so, see
            :func:`~.mask_quality.on_incomplete`.
        true: their true MaskIoU; ``None`` compares boxes instead of masks.

    Returns:
        A dict with ``iou_type`` (``bbox`` or ``segm``), ``iou_threshold``, ``min_score`` and
        ``cells``: a list of dicts with the category ids ``true`` and ``predicted`` and the number
        ``n`` of such detections. ``true`` is ``None`` for detections without an instance, and
        ``predicted`` is ``None`` for instances without a detection. Cells with 0 are left out.
    """
    if true is None:
        unknown = on_incomplete(ground_truth, dataclasses.replace(detections, segmentation=None))
    else:
        unknown = np.isnan(true.matched_or_zero)
    kept = np.flatnonzero((detections.score >= MIN_SCORE) & ~unknown)
    sure = detections.take(kept, detections.images)
    iou_type = "bbox" if true is None else "segm"
    ids = [*sorted(ground_truth.cats), None]
    matrix = np.zeros((len(ids), len(ids)), dtype=np.int64)
    limit = max(len(sure), 1)
    for part in image_parts(ground_truth, sure, iou_type, sure.score, limit):
        evaluation = hotcoco.COCOeval(*part.load(ground_truth), iou_type)
        found = evaluation.confusion_matrix(iou_thr=IOU_THRESHOLD, max_det=limit)
        matrix += found["matrix"].astype(np.int64)
    rows, columns = np.nonzero(matrix)
    return {
        "iou_type": iou_type,
        "iou_threshold": IOU_THRESHOLD,
        "min_score": MIN_SCORE,
        "cells": [
            {"true": ids[row], "predicted": ids[column], "n": int(matrix[row, column])}
            for row, column in zip(rows.tolist(), columns.tolist())
        ],
    }
