"""How sure a predicted mask is of itself: a mask score that needs no training."""

import torch


def mask_confidence(pred_masks: torch.Tensor) -> torch.Tensor:
    """Mean foreground probability of each predicted mask.

    What a learned MaskIoU has to beat: it costs nothing, and knows only the mask itself.

    Args:
        pred_masks: tensor of shape (N, M, M) or (N, 1, M, M), soft masks in [0, 1] as the mask
            head predicts them, before they are pasted into the image.

    Returns:
        Float tensor of shape (N,): the mean of a mask's probabilities over its foreground, the
        pixels of at least 0.5; 0 where it has none, so within {0} and [0.5, 1].

    Raises:
        ValueError: for any other shape, such as masks of several classes.
    """
    if pred_masks.dim() == 4 and pred_masks.shape[1] == 1:
        pred_masks = pred_masks[:, 0]
    if pred_masks.dim() != 3:
        raise ValueError(
            f"pred_masks are of shape {tuple(pred_masks.shape)}; expected (N, M, M) or (N, 1, M, M)"
        )
    probabilities = pred_masks.flatten(1).float()  # sums of half precision would lose digits
    foreground = probabilities >= 0.5
    size = foreground.sum(dim=1)
    return (probabilities * foreground).sum(dim=1) / size.clamp(min=1)
