"""The score that masks are ranked by (paper 3.1), with exponents."""

import torch

from .mask_confidence import mask_confidence


def mask_score(
    scores: torch.Tensor,
    maskiou: torch.Tensor,
    pred_masks: torch.Tensor,
    *,
    score_exponent: float = 1.0,
    confidence_exponent: float = 0.0,
) -> torch.Tensor:
    """Computes ``scores * maskiou ** score_exponent * confidence ** confidence_exponent``.

    The paper's mask score has the exponents 1 and 0.

    Args:
        scores: box scores, of shape (N,).
        maskiou: predicted MaskIoU in [0, 1], of shape (N,).
        pred_masks: mask probabilities, of shape (N, 1, M, M) or (N, M, M).
        score_exponent: exponent of the predicted MaskIoU.
        confidence_exponent: exponent of :func:`mask_confidence`.

    Returns:
        Tensor of shape (N,).
    """
    if score_exponent != 1:
        maskiou = maskiou**score_exponent
    ranked = scores * maskiou
    if confidence_exponent != 0:
        ranked = ranked * mask_confidence(pred_masks) ** confidence_exponent
    return ranked
