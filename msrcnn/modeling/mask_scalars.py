"""Geometry and statistics of a predicted mask as further inputs of a MaskIoU head."""

import torch

from .mask_confidence import mask_confidence

# In the order of the tensor that mask_scalars returns.
SCALARS = ("log_width", "log_height", "confidence", "uncertainty", "foreground_share")


def mask_scalars(mask_logits: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Describes each predicted mask by a few numbers.

    Args:
        mask_logits: logits of one mask per box, of shape (N, M, M).
        boxes: tensor of shape (N, 4), (x0, y0, x1, y1) in pixels of the network's input.

    Returns:
        Float tensor of shape (N, 5) without gradient: logarithms of the box's width and height in
        pixels; mean foreground probability over the foreground (:func:`mask_confidence`); mean of
        4 p (1 - p) over all probabilities p; share of the foreground, p of at least 0.5.
    """
    probabilities = mask_logits.detach().float().sigmoid()
    log_sides = (boxes[:, 2:] - boxes[:, :2]).detach().float().clamp(min=1).log()
    statistics = [
        mask_confidence(probabilities),
        (4 * probabilities * (1 - probabilities)).flatten(1).mean(dim=1),
        (probabilities >= 0.5).flatten(1).float().mean(dim=1),
    ]
    return torch.cat([log_sides, torch.stack(statistics, dim=1)], dim=1)
