"""Selects the worst misses: instances and detections that match nothing."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_util

from ..evaluation import Evaluation
from .mask_choice import few_per_image


def missed_instances(evaluation: Evaluation) -> list[dict]:
    """Returns the instances that no detection matches, in decreasing order of area.

    Crowds are not instances. Few of each image are returned, see :func:`few_per_image`.

    Args:
        evaluation: an evaluation of detections with masks.

    Returns:
        Their annotations.
    """
    matched = set(evaluation.true_maskiou.instance.tolist())
    annotations = evaluation.ground_truth.dataset["annotations"]
    missed = [a for a in annotations if not a["iscrowd"] and a["id"] not in matched]
    missed.sort(key=lambda a: -a["area"])
    chosen = few_per_image((i, a["image_id"]) for i, a in enumerate(missed))
    return [missed[i] for i in chosen]


def false_positives(evaluation: Evaluation) -> list[int]:
    """Returns the detections that match no instance, in decreasing order of their box score.

    Those that may be objects although no annotation says so are left out. Few of each image are
    returned, see :func:`few_per_image`.

    Args:
        evaluation: an evaluation of detections with masks.

    Returns:
        Their indices.
    """
    detections, true = evaluation.detections, evaluation.true_maskiou
    wrong = np.flatnonzero((true.instance == 0) & ~np.isnan(true.matched_or_zero))
    order = wrong[np.argsort(-detections.score[wrong], kind="stable")]
    return few_per_image((index, int(detections.image_id[index])) for index in order.tolist())


def most_overlapping(evaluation: Evaluation, instance: dict) -> tuple[int, float] | None:
    """Returns the detection of any class with the largest MaskIoU with an instance, and that IoU.

    Args:
        evaluation: an evaluation of detections with masks.
        instance: the annotation.

    Returns:
        ``None`` if no detection overlaps it.
    """
    detections, ground_truth = evaluation.detections, evaluation.ground_truth
    rows = np.flatnonzero(detections.image_id == instance["image_id"])
    if not len(rows):
        return None
    masks = detections.segmentation.dicts(rows)
    iou = mask_util.iou(masks, [ground_truth.annToRLE(instance)], [0])[:, 0]
    best = int(iou.argmax())
    return (int(rows[best]), float(iou[best])) if iou[best] > 0 else None


def overlapped_instance(evaluation: Evaluation, index: int) -> tuple[dict, float] | None:
    """Returns the instance of any class with the largest MaskIoU with a detection, and that IoU.

    Args:
        evaluation: an evaluation of detections with masks.
        index: index of the detection.

    Returns:
        The annotation, and the IoU; ``None`` if no instance overlaps it.
    """
    detections, ground_truth = evaluation.detections, evaluation.ground_truth
    instances = [
        a for a in ground_truth.imgToAnns[int(detections.image_id[index])] if not a["iscrowd"]
    ]
    if not instances:
        return None
    masks = [ground_truth.annToRLE(a) for a in instances]
    iou = mask_util.iou([detections.segmentation[index]], masks, [0] * len(masks))[0]
    best = int(iou.argmax())
    return (instances[best], float(iou[best])) if iou[best] > 0 else None
