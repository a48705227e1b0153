"""The loss of the MaskIoU head (paper 3.3)."""

import torch


def l2_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Half the squared error of each sample; tensors of shape (N,)."""
    return 0.5 * (prediction - target) ** 2


LOSSES = {"l2": l2_loss}


def maskiou_loss(
    prediction: torch.Tensor, target: torch.Tensor, *, loss_type: str = "l2", threshold: float = 0.0
) -> torch.Tensor:
    """Mean loss over the samples whose target is above a threshold.

    Args:
        prediction: tensor of shape (N,), predicted MaskIoU of each sample's target class.
        target: tensor of shape (N,), true MaskIoU in [0, 1]; no gradient flows into it.
        loss_type: a key of ``LOSSES``.
        threshold: the paper's tau (table 3); samples at or below it do not count.

    Returns:
        Scalar tensor, 0 (with a gradient of zeros) where no sample counts.
    """
    # Under autocast the prediction is half precision; the loss is not to lose digits.
    prediction, target = prediction.float(), target.detach().float()
    counts = target > threshold
    loss = LOSSES[loss_type](prediction[counts], target[counts])
    return loss.sum() / counts.sum().clamp(min=1)
