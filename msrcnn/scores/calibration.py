"""Calibrates mask scores on held-out training images: how likely is a mask correct?"""

from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from scipy.optimize import minimize

from ..evaluation import Detections
from ..evaluation.mask_quality import instances_by_class, on_incomplete

MIN_IOU = 0.5  # from which a mask is correct
MIN_SAMPLES = 10  # of correct and of wrong masks; a curve through fewer means little
BINS = 10
MIN_SLOPE = 1e-3  # so that the probability increases with the score


class Calibration(NamedTuple):
    """Arguments of :func:`~msrcnn.modeling.mask_score.mask_probability`."""

    slope: float
    offset: float


def right_masks(ground_truth: COCO, detections: Detections, scores: np.ndarray) -> np.ndarray:
    """Returns which masks are correct, as COCO's evaluation counts them at an IoU of 0.5.

    In the order of their scores, the detections of a class in an image are each matched with the
    unmatched instance that has the largest mask IoU, if this IoU is at least 0.5.

    Args:
        ground_truth: annotations of the images, with masks.
        detections: N detections with masks.
        scores: array of shape (N,) that the detections are ranked by.

    Returns:
        Float array of shape (N,): 1 if a mask is correct, 0 if it is wrong, NaN if it matches no
        instance but may be correct, see :func:`~msrcnn.evaluation.mask_quality.on_incomplete`.
    """
    instances = instances_by_class(ground_truth)
    right = np.where(on_incomplete(ground_truth, detections), np.nan, 0.0)
    for key, rows in detections.by_image_and_category():
        if key not in instances:
            continue
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        truth = [ground_truth.annToRLE(annotation) for annotation in instances[key]]
        found = detections.segmentation.dicts(rows)
        for row, iou in zip(rows, mask_util.iou(found, truth, [0] * len(truth))):
            iou[[instance is None for instance in truth]] = -1
            best = int(iou.argmax())
            if iou[best] >= MIN_IOU:
                right[row], truth[best] = 1.0, None
    return right


def fit_calibration(scores: np.ndarray, right: np.ndarray) -> Calibration | None:
    """Fits the probability that a mask is correct as a function of its score, by Platt scaling.

    Platt, "Probabilistic outputs for support vector machines" (1999). As there, targets are
    smoothed, so that few samples do not lead to certainty. The regression is on the logarithm of
    the score, because the score is a product of factors.

    Args:
        scores: mask scores, of shape (N,).
        right: see :func:`right_masks`.

    Returns:
        The calibration; ``None`` if there are too few correct or wrong masks.
    """
    known = ~np.isnan(right) & (scores > 0)
    logarithm, correct = np.log(scores[known].astype(np.float64)), right[known] == 1
    positive, negative = int(correct.sum()), int((~correct).sum())
    if min(positive, negative) < MIN_SAMPLES:
        return None
    target = np.where(correct, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: np.ndarray) -> float:
        logit = parameters[0] * logarithm + parameters[1]
        return float((np.logaddexp(0, logit) - target * logit).mean())

    bounds = [(MIN_SLOPE, None), (None, None)]
    slope, offset = minimize(loss, [1.0, 0.0], bounds=bounds, method="L-BFGS-B").x
    return Calibration(float(slope), float(offset))


def calibration_error(probability: np.ndarray, right: np.ndarray) -> float:
    """Computes the expected calibration error.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (2015): the
    difference between mean probability and share of correct masks in each of 10 equal intervals,
    weighted by the number of masks in it.

    Args:
        probability: N numbers in [0, 1].
        right: see :func:`right_masks`; NaN is left out.
    """
    known = ~np.isnan(right)
    probability, right = probability[known].astype(np.float64), right[known]
    interval = np.minimum((probability * BINS).astype(int), BINS - 1)
    differences = [abs((probability - right)[interval == each].sum()) for each in range(BINS)]
    return float(sum(differences) / max(len(right), 1))
