"""Chooses the exponents of the mask score on held-out training images."""

import itertools
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO

from ..evaluation import Detections
from ..evaluation.coco_metrics import HotcocoEngine
from ..modeling.mask_score import mask_score

SCORE_EXPONENTS = (0.5, 1.0, 1.5, 2.0)
CONFIDENCE_EXPONENTS = (0.0, 1.0, 2.0, 3.0)
FREE_EXPONENTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)


class Exponents(NamedTuple):
    """Exponents of MaskIoU and mask confidence in the mask score."""

    score: float = 1.0
    confidence: float = 0.0


def choose_exponents(
    ground_truth: COCO,
    detections: Detections,
    maskiou: np.ndarray,
    max_dets: int,
    default: Exponents,
    *,
    score_exponents: tuple[float, ...] = SCORE_EXPONENTS,
    confidence_exponents: tuple[float, ...] = CONFIDENCE_EXPONENTS,
) -> tuple[Exponents, dict[Exponents, float]]:
    """Chooses the exponents with the highest mask AP.

    Args:
        ground_truth: annotations of the images of the detections, and of no other images.
        detections: N detections with masks.
        maskiou: predicted MaskIoU, of shape (N,).
        max_dets: see :meth:`~msrcnn.evaluation.coco_metrics.Engine.average_precision`.
        default: chosen if it is among the best, or if AP is undefined for all pairs.
        score_exponents, confidence_exponents: what to choose from.

    Returns:
        The exponents, and mask AP in percent for each pair.
    """
    engine = HotcocoEngine(ground_truth)
    found = {}
    for pair in itertools.product(score_exponents, confidence_exponents):
        exponents = Exponents(*pair)
        scores = mask_score(
            detections.score,
            maskiou,
            detections.mask_confidence,
            score_exponent=exponents.score,
            confidence_exponent=exponents.confidence,
        ).astype(np.float64)
        ap = engine.average_precision(detections, "segm", scores, max_dets).metrics["AP"]
        if ap is not None:
            found[exponents] = ap
    # If the default is not among the best, max returns the first of them: the smallest exponents.
    return max(found, key=lambda each: (found[each], each == default), default=default), found


def choose_free_exponent(
    ground_truth: COCO, detections: Detections, max_dets: int, default: float
) -> float:
    """Chooses the exponent of mask confidence without MaskIoU, for a baseline without training."""
    nothing = np.ones(len(detections))
    exponents, _ = choose_exponents(
        ground_truth,
        detections,
        nothing,
        max_dets,
        Exponents(0.0, default),
        score_exponents=(0.0,),
        confidence_exponents=FREE_EXPONENTS,
    )
    return exponents.confidence
