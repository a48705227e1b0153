"""Selects the outputs of the MaskIoU head to train, and their targets (paper table 2)."""

from typing import NamedTuple

import torch
from detectron2.structures import Instances
from detectron2.structures.boxes import pairwise_intersection

from .instance_masks import InstanceMasks
from .maskiou_input import select_class_masks
from .maskiou_target import ground_truth_areas, maskiou_targets

NEUTRAL_AREA = 32.0**2  # pixels; has weight 1 in area_weights, before normalization


class MaskIoUSamples(NamedTuple):
    """Training samples of the MaskIoU head.

    Attributes:
        prediction: tensor of shape (K,), selected outputs of the head.
        target: tensor of shape (K,), their true MaskIoU; -1 for outputs that are not trained.
        area: tensor of shape (K,), areas of the whole instances in pixels of the (resized) network
            input.
        num_masks: number of masks that the samples belong to, if a mask can have several.
    """

    prediction: torch.Tensor
    target: torch.Tensor
    area: torch.Tensor
    num_masks: int | None = None


class TargetClass:
    """Trains only the ground-truth class of each proposal (design 1, the paper's choice)."""

    needs_image_instances = False
    counts_zero = False  # whether samples with a target of 0 are trained

    def __call__(
        self, maskiou: torch.Tensor, mask_logits: torch.Tensor, proposals: list[Instances]
    ) -> MaskIoUSamples:
        """
        Args:
            maskiou: tensor of shape (N, C), predicted MaskIoU for every class.
            mask_logits: tensor of shape (N, C, M, M), or (N, 1, M, M) if masks are class-agnostic.
            proposals: proposals of each image, N in total, with ``proposal_boxes``,
                ``gt_classes``, ``gt_mask_area``, ``gt_masks`` (``CroppedMasks``) and, if
                ``needs_image_instances``, ``gt_image_instances``.

        Returns:
            The samples to train.
        """
        side, empty = mask_logits.shape[-1], mask_logits.new_zeros(0)
        # torch.cat requires at least one tensor, but there may be no proposals.
        classes = torch.cat([empty.long(), *(p.gt_classes for p in proposals)])
        areas = torch.cat([empty, *(p.gt_mask_area for p in proposals)])
        crops = [empty.bool().view(0, side, side), *(p.gt_masks.crops for p in proposals)]
        boxes = [empty.view(0, 4), *(p.proposal_boxes.tensor for p in proposals)]
        # A logit above 0 is a probability above 0.5.
        pred_masks = select_class_masks(mask_logits, classes) > 0
        target = maskiou_targets(pred_masks, torch.cat(crops), areas, torch.cat(boxes))
        return MaskIoUSamples(maskiou.gather(1, classes[:, None])[:, 0], target, areas)


class AllClasses:
    """Trains all classes, with a target of 0 if no instance is in the proposal (design 2)."""

    needs_image_instances = True
    counts_zero = True

    def __call__(self, maskiou, mask_logits, proposals) -> MaskIoUSamples:
        """See :class:`TargetClass`."""
        target, area, positive = class_targets(maskiou, mask_logits, proposals)
        # A class without an instance has no area, and must not affect the area weights.
        area = area.where(positive, torch.full_like(area, NEUTRAL_AREA))
        return MaskIoUSamples(maskiou.flatten(), target.flatten(), area.flatten(), len(maskiou))


class PositiveClasses:
    """Trains only the classes that have an instance in the proposal (design 3)."""

    needs_image_instances = True
    counts_zero = True

    def __call__(self, maskiou, mask_logits, proposals) -> MaskIoUSamples:
        """See :class:`TargetClass`."""
        target, area, positive = class_targets(maskiou, mask_logits, proposals)
        target = target.where(positive, torch.full_like(target, -1))
        return MaskIoUSamples(maskiou.flatten(), target.flatten(), area.flatten(), len(maskiou))


TARGETS: dict[str, type[TargetClass] | type[AllClasses] | type[PositiveClasses]] = {
    "target_class": TargetClass,
    "all_classes": AllClasses,
    "positive_classes": PositiveClasses,
}


def class_targets(
    maskiou: torch.Tensor, mask_logits: torch.Tensor, proposals: list[Instances]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Computes the MaskIoU between the predicted mask and the instances of every class.

    A class is positive if one of its instances overlaps with the proposal. If there are several,
    the target is the largest MaskIoU.

    Args:
        maskiou, mask_logits, proposals: see :class:`TargetClass`.

    Returns:
        Three tensors of shape (N, C): the targets, the area of the largest instance in the
        proposal, and whether the class is positive.
    """
    target = torch.zeros(maskiou.shape, device=maskiou.device)
    area, positive = torch.zeros_like(target), torch.zeros_like(target, dtype=torch.bool)
    start = 0
    for proposals_per_image in proposals:
        rows = slice(start, start + len(proposals_per_image))
        start += len(proposals_per_image)
        instances = proposals_per_image.gt_image_instances.value
        pairs = pairwise_intersection(proposals_per_image.proposal_boxes, instances.gt_boxes) > 0
        proposal, instance = pairs.nonzero(as_tuple=True)
        boxes = proposals_per_image.proposal_boxes.tensor[proposal]
        classes = instances.gt_classes[instance]
        side = mask_logits.shape[-1]
        masks = InstanceMasks.rasterized(instances.gt_masks, instances.image_size, boxes.device)
        crops = masks[instance].crop_and_resize(boxes, side)
        areas = ground_truth_areas(instances, boxes.device)[instance]
        channels = classes if mask_logits.shape[1] > 1 else torch.zeros_like(classes)
        pred_masks = mask_logits[rows][proposal, channels] > 0
        iou = maskiou_targets(pred_masks, crops, areas, boxes)
        inside = crops.flatten(1).any(dim=1)  # if not, iou is 0
        index = proposal * maskiou.shape[1] + classes
        # Views into the rows of this image; the maximum is kept for each proposal and class.
        target[rows].view(-1).scatter_reduce_(0, index, iou, "amax")
        area[rows].view(-1).scatter_reduce_(0, index, areas * inside, "amax")
        positive[rows].view(-1).scatter_reduce_(0, index, inside, "amax")
    return target, area, positive
