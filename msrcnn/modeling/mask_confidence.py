"""Mask confidence: a mask score computed from the mask itself, without training."""

import torch


def mask_confidence(pred_masks: torch.Tensor) -> torch.Tensor:
    """Computes the mean foreground probability of each predicted mask.

    It is the baseline for a learned MaskIoU: it has no cost, and depends only on the mask.

    Args:
        pred_masks: tensor of shape (N, M, M) or (N, 1, M, M), soft masks in [0, 1] as predicted by
            the mask head, before pasting.

    Returns:
        Float tensor of shape (N,), the mean probability over the foreground of each mask, i.e. the
        pixels with a probability of at least 0.5. The values are in [0.5, 1], or 0 for a mask
        without foreground.

    Raises:
        ValueError: for any other shape, such as masks of several classes.
    """
    if pred_masks.dim() == 4 and pred_masks.shape[1] == 1:
        pred_masks = pred_masks[:, 0]
    if pred_masks.dim() != 3:
        raise ValueError(
            f"pred_masks has shape {tuple(pred_masks.shape)}; expected (N, M, M) or (N, 1, M, M)"
        )
    probabilities = pred_masks.flatten(1).float()  # avoid summing in half precision
    foreground = probabilities >= 0.5
    size = foreground.sum(dim=1)
    return (probabilities * foreground).sum(dim=1) / size.clamp(min=1)
