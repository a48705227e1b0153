"""The loss of the MaskIoU head (paper 3.3), and two losses aimed at small objects."""

import torch
from detectron2.utils.registry import Registry

MASKIOU_LOSS_REGISTRY = Registry("MASKIOU_LOSS")
MASKIOU_LOSS_REGISTRY.__doc__ = """
Registry for losses of the MaskIoU head; ``MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE`` is the name of one.

The registered function is called with ``obj(prediction, target, area)``: the predicted and the true
MaskIoU of the samples, and the areas of their whole instances in pixels of the (resized) network
input, all float tensors of shape (N,); N may be 0. It returns the loss of each sample, of shape
(N,), which is summed and divided by the number of masks. Only ``prediction`` has a gradient.
"""


@MASKIOU_LOSS_REGISTRY.register()
def l2(prediction: torch.Tensor, target: torch.Tensor, area: torch.Tensor | None) -> torch.Tensor:
    """Computes half the squared error of each sample, the paper's loss; ``area`` is not used."""
    return 0.5 * (prediction - target) ** 2


def area_weights(area: torch.Tensor) -> torch.Tensor:
    """Computes sample weights that are inversely proportional to the side of an instance.

    The weight is 32 / sqrt(area), clamped to [1/4, 4] and divided by its mean. It follows the IoU
    error caused by a boundary error of one pixel, which is about 1 / side. The clamp takes effect
    for sides below 8 or above 128 pixels; otherwise the factor 32 cancels out. With a mean of 1,
    the loss keeps its scale, so the loss weights do not have to be tuned again.

    Args:
        area: tensor of shape (N,), areas of the whole instances in pixels of the (resized) network
            input.

    Returns:
        Tensor of shape (N,) with a mean of 1.
    """
    weight = (32 / area.clamp(min=1).sqrt()).clamp(1 / 4, 4)
    return weight / weight.mean()


@MASKIOU_LOSS_REGISTRY.register()
def area_weighted_l2(
    prediction: torch.Tensor, target: torch.Tensor, area: torch.Tensor
) -> torch.Tensor:
    """Computes the L2 loss of each sample, weighted by :func:`area_weights`."""
    return area_weights(area) * l2(prediction, target, area)


@MASKIOU_LOSS_REGISTRY.register()
def l2_rank(prediction: torch.Tensor, target: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Computes the L2 loss plus a pairwise ranking loss between samples of similar size.

    AP of small objects depends on the order of small objects among themselves. The L2 loss alone
    can decrease by separating large objects from small ones, and pulls uncertain predictions, as
    those of small objects are, toward their mean, which removes their order. The ranking term
    compares only pairs whose areas differ by at most a factor of 4. The prediction of the better
    mask must exceed the other one by at least the true difference; a larger margin is not
    penalized, so uncertain predictions are not pulled together. The term is half the squared
    violation, on the same scale as the L2 loss, averaged over the pairs of each sample, so that a
    few small objects among many large ones keep their full weight. The L2 loss is still needed for
    the values, which are multiplied with the box scores.

    Args:
        prediction: tensor of shape (N,).
        target: tensor of shape (N,).
        area: tensor of shape (N,), areas of the whole instances in pixels of the (resized) network
            input.

    Returns:
        Tensor of shape (N,); for a sample without a pair, the L2 loss alone.
    """
    margin = prediction[:, None] - prediction
    true_margin = target[:, None] - target
    violation = torch.where(true_margin > 0, true_margin - margin, margin - true_margin)
    violation = violation.clamp(min=0)
    log_area = area.clamp(min=1).log2()
    pairs = ((log_area[:, None] - log_area).abs() <= 2) & (true_margin != 0)
    ranking = (0.5 * violation**2 * pairs).sum(dim=1) / pairs.sum(dim=1).clamp(min=1)
    return l2(prediction, target, area) + ranking


AREA_LOSSES = ("area_weighted_l2", "l2_rank")


def maskiou_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    *,
    loss_type: str = "l2",
    threshold: float | None = 0.0,
    area: torch.Tensor | None = None,
    num_masks: int | None = None,
) -> torch.Tensor:
    """Computes the loss per mask over the samples whose target is above a threshold.

    Args:
        prediction: tensor of shape (N,), predicted MaskIoU for the target class of each sample.
        target: tensor of shape (N,), true MaskIoU in [0, 1], treated as a constant.
        loss_type: a name in ``MASKIOU_LOSS_REGISTRY``.
        threshold: the paper's tau (table 3); samples with a target at or below it are ignored.
            ``None`` uses all samples, without waiting for the device to count them.
        area: tensor of shape (N,), areas of the whole instances in pixels of the (resized) network
            input; required by the losses in ``AREA_LOSSES``.
        num_masks: number of masks that the samples belong to, if a mask can have several samples;
            ``None`` counts the samples that are not ignored. Averaging over masks keeps the
            gradient of an output independent of the number of classes that are trained.

    Returns:
        Scalar tensor; 0, with zero gradients, if all samples are ignored.

    Raises:
        KeyError: if there is no such loss.
        ValueError: if the loss requires areas and ``area`` is ``None``, or does not return one
            value per sample.
    """
    if area is None and loss_type in AREA_LOSSES:
        raise ValueError(f"loss_type '{loss_type}' requires the areas of the instances; pass area")
    # Compute the loss in full precision; under autocast, the prediction is in half precision.
    prediction, target = prediction.float(), target.detach().float()
    area = None if area is None else area.detach().float()
    if threshold is not None:
        rows = (target > threshold).nonzero()[:, 0]
        prediction, target = prediction[rows], target[rows]
        area = None if area is None else area[rows]
    loss = MASKIOU_LOSS_REGISTRY.get(loss_type)(prediction, target, area)
    if loss.shape != prediction.shape:
        raise ValueError(
            f"loss_type '{loss_type}' returned a tensor of shape {tuple(loss.shape)}; expected "
            f"the loss of each sample, {tuple(prediction.shape)}"
        )
    return loss.sum() / max(len(target) if num_masks is None else num_masks, 1)
