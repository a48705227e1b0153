"""The score that masks are ranked by (paper 3.1), with exponents."""

from typing import TypeVar

import numpy as np
import torch
from detectron2.structures import Instances

RANKINGS = ("box_score", "mask_score")  # MODEL.ROI_MASK_HEAD.RANK_BY
Array = TypeVar("Array", torch.Tensor, np.ndarray)


def mask_score(
    scores: Array,
    maskiou: Array,
    confidence: Array | None,
    *,
    score_exponent: float = 1.0,
    confidence_exponent: float = 0.0,
) -> Array:
    """Computes ``scores * maskiou ** score_exponent * confidence ** confidence_exponent``.

    The paper's mask score has the exponents 1 and 0.

    Args:
        scores: box scores, of shape (N,); a tensor or an array, like the others.
        maskiou: predicted MaskIoU in [0, 1], of shape (N,).
        confidence: :func:`~.mask_confidence.mask_confidence`, of shape (N,); may be ``None`` if its
            exponent is 0.
        score_exponent: exponent of the predicted MaskIoU.
        confidence_exponent: exponent of the mask confidence.

    Returns:
        Mask scores of shape (N,).
    """
    if score_exponent != 1:
        maskiou = maskiou**score_exponent
    ranked = scores * maskiou
    if confidence_exponent != 0:
        ranked = ranked * confidence**confidence_exponent
    return ranked


def mask_probability(mask_scores: Array, slope: float, offset: float) -> Array:
    """Turns mask scores into the probability that a mask is correct; the order stays the same.

    A mask is correct if it covers an instance of its class with an IoU of at least 0.5, and no mask
    with a higher score does.

    Args:
        mask_scores: of shape (N,); a tensor or an array.
        slope, offset: ``MODEL.ROI_MASKIOU_HEAD.CALIBRATION``.

    Returns:
        ``sigmoid(slope * log(mask_scores) + offset)``, of shape (N,); 0 for a score of 0.
    """
    if isinstance(mask_scores, torch.Tensor):
        return torch.sigmoid(slope * torch.log(mask_scores) + offset)
    with np.errstate(divide="ignore", over="ignore"):  # the logarithm of 0, whose sigmoid is 0
        return 1 / (1 + np.exp(-(slope * np.log(mask_scores) + offset)))


def rank_by_mask_score(detections: Instances) -> None:
    """Puts the mask scores into ``scores``, by which other programs rank; in place.

    The box scores become ``box_scores``.
    """
    detections.box_scores, detections.scores = box_scores(detections), detections.mask_scores


def box_scores(detections: Instances) -> torch.Tensor:
    """Returns the box scores of detections, of shape (N,), even if ``scores`` are mask scores."""
    return detections.box_scores if detections.has("box_scores") else detections.scores
