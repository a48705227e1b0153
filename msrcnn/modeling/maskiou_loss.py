"""The loss of the MaskIoU head (paper 3.3), and two that look to small objects."""

import torch


def l2_loss(
    prediction: torch.Tensor, target: torch.Tensor, area: torch.Tensor | None
) -> torch.Tensor:
    """Half the squared error of each sample, the paper's loss; it does not look at areas."""
    return 0.5 * (prediction - target) ** 2


def area_weights(area: torch.Tensor) -> torch.Tensor:
    """Weights that fall with the side of an instance.

    The weight is 32 / sqrt(area), held in [1/4, 4] and then divided by its mean: a pixel of
    boundary is worth about 1 / side of the IoU. Areas are those in the network's input, after
    resizing. Between sides of 8 and of 128 pixels, where the bounds do not act, 32 only sets the
    scale, which the mean takes out again. With a mean of 1 the loss keeps its size beside the
    others, so that no other weight has to be tuned again.

    Args:
        area: tensor of shape (N,), areas of the whole instances in image pixels.

    Returns:
        Tensor of shape (N,), of mean 1.
    """
    weight = (32 / area.clamp(min=1).sqrt()).clamp(1 / 4, 4)
    return weight / weight.mean()


def area_weighted_l2_loss(
    prediction: torch.Tensor, target: torch.Tensor, area: torch.Tensor
) -> torch.Tensor:
    """L2 of each sample, weighted by :func:`area_weights`: small objects count for more."""
    return area_weights(area) * l2_loss(prediction, target, area)


def l2_rank_loss(
    prediction: torch.Tensor, target: torch.Tensor, area: torch.Tensor
) -> torch.Tensor:
    """L2, and the order of samples of like size.

    Small objects are ranked against each other (COCO's AP of small objects), but L2 can fall far
    by telling large from small, and where it is unsure, as it is of small objects, it draws
    predictions to their mean and so flattens their order. The second term therefore compares
    only samples whose areas are within a factor of 4, and asks that the better mask lead by at
    least the true difference; a larger lead is free, so that doubt does not pull them together.
    It is squared and halved as L2 is, hence of its size, and averaged over each sample's partners,
    so that a few small objects among many large ones keep their full term, while L2 still holds
    the values, which are multiplied with the box scores.

    Args:
        prediction: tensor of shape (N,).
        target: tensor of shape (N,).
        area: tensor of shape (N,), areas of the whole instances in image pixels.

    Returns:
        Tensor of shape (N,); a sample without a partner has its L2 alone.
    """
    lead = prediction[:, None] - prediction
    true_lead = target[:, None] - target
    # Of each pair, how much the lead of the better one falls short.
    shortfall = torch.where(true_lead > 0, true_lead - lead, lead - true_lead).clamp(min=0)
    log_area = area.clamp(min=1).log2()
    partners = ((log_area[:, None] - log_area).abs() <= 2) & (true_lead != 0)
    order = (0.5 * shortfall**2 * partners).sum(dim=1) / partners.sum(dim=1).clamp(min=1)
    return l2_loss(prediction, target, area) + order


# Each takes predictions, targets and areas of the samples that count, of shape (N,), and returns
# their losses, of shape (N,).
LOSSES = {"l2": l2_loss, "area_weighted_l2": area_weighted_l2_loss, "l2_rank": l2_rank_loss}
AREA_LOSSES = ("area_weighted_l2", "l2_rank")


def maskiou_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    *,
    loss_type: str = "l2",
    threshold: float = 0.0,
    area: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean loss over the samples whose target is above a threshold.

    Args:
        prediction: tensor of shape (N,), predicted MaskIoU of each sample's target class.
        target: tensor of shape (N,), true MaskIoU in [0, 1]; no gradient flows into it.
        loss_type: a key of ``LOSSES``.
        threshold: the paper's tau (table 3); samples at or below it do not count.
        area: tensor of shape (N,), areas of the whole instances in image pixels; for the losses
            in ``AREA_LOSSES``.

    Returns:
        Scalar tensor, 0 (with a gradient of zeros) where no sample counts.

    Raises:
        ValueError: if the loss needs areas and there are none.
    """
    if area is None and loss_type in AREA_LOSSES:
        raise ValueError(f"loss_type '{loss_type}' needs the areas of the instances")
    # Under autocast the prediction is half precision; the loss is not to lose digits.
    prediction, target = prediction.float(), target.detach().float()
    counts = target > threshold
    if area is not None:
        area = area.detach().float()[counts]
    loss = LOSSES[loss_type](prediction[counts], target[counts], area)
    return loss.sum() / counts.sum().clamp(min=1)
