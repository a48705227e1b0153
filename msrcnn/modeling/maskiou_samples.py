"""Which outputs of the MaskIoU head are trained, and towards what (paper table 2)."""

from typing import NamedTuple

import torch
from detectron2.layers import ROIAlign
from detectron2.structures import BitMasks, Instances
from detectron2.structures.boxes import pairwise_intersection

from .maskiou_head import select_class_masks
from .maskiou_target import ground_truth_areas, maskiou_targets

NEUTRAL_AREA = 32.0**2  # pixels; has weight 1 before weights are normalised


class MaskIoUSamples(NamedTuple):
    """Outputs to train; all tensors of shape (K,)."""

    prediction: torch.Tensor
    target: torch.Tensor
    area: torch.Tensor  # of the instance, in image pixels


class TargetClass:
    """Each mask's own class alone (design 1, the paper's choice)."""

    needs_image_instances = False
    counts_zero = False  # whether a target of 0 is trained too

    def __call__(
        self, maskiou: torch.Tensor, mask_logits: torch.Tensor, proposals: list[Instances]
    ) -> MaskIoUSamples:
        """
        Args:
            maskiou: predicted MaskIoU of every class, of shape (N, C).
            mask_logits: predicted masks, of shape (N, C, M, M), or (N, 1, M, M).
            proposals: of each image, N in all, with ``proposal_boxes``, ``gt_classes``,
                ``gt_mask_area``, ``gt_masks`` (``CroppedMasks``), and, where
                ``needs_image_instances``, ``gt_image_instances``.
        """
        side, none = mask_logits.shape[-1], mask_logits.new_zeros(0)
        # torch.cat wants at least one tensor, and there may be no proposal.
        classes = torch.cat([none.long(), *(p.gt_classes for p in proposals)])
        areas = torch.cat([none, *(p.gt_mask_area for p in proposals)])
        crops = [none.bool().view(0, side, side), *(p.gt_masks.crops for p in proposals)]
        boxes = [none.view(0, 4), *(p.proposal_boxes.tensor for p in proposals)]
        # A logit above 0 is a probability above 0.5.
        pred_masks = select_class_masks(mask_logits, classes) > 0
        target = maskiou_targets(pred_masks, torch.cat(crops), areas, torch.cat(boxes))
        return MaskIoUSamples(maskiou.gather(1, classes[:, None])[:, 0], target, areas)


class AllClasses:
    """All classes, towards 0 for those without an instance in the proposal (design 2)."""

    needs_image_instances = True
    counts_zero = True

    def __call__(self, maskiou, mask_logits, proposals) -> MaskIoUSamples:
        """Arguments as of :class:`TargetClass`."""
        target, area, positive = class_targets(maskiou, mask_logits, proposals)
        # A class without an instance is neither small nor large.
        area = area.where(positive, torch.full_like(area, NEUTRAL_AREA))
        return MaskIoUSamples(maskiou.flatten(), target.flatten(), area.flatten())


class PositiveClasses:
    """The classes that have an instance in the proposal, the others ignored (design 3)."""

    needs_image_instances = True
    counts_zero = True

    def __call__(self, maskiou, mask_logits, proposals) -> MaskIoUSamples:
        """Arguments as of :class:`TargetClass`."""
        target, area, positive = class_targets(maskiou, mask_logits, proposals)
        return MaskIoUSamples(maskiou[positive], target[positive], area[positive])


TARGETS = {
    "target_class": TargetClass,
    "all_classes": AllClasses,
    "positive_classes": PositiveClasses,
}


def _crop(masks, instance: torch.Tensor, boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Crops of an image's instances, each to a box of its own.

    Args:
        masks: all instances of the image.
        instance: int64 tensor of shape (K,), which one is cropped.
        boxes: tensor of shape (K, 4).
        side: height and width of the crops.

    Returns:
        Bool tensor of shape (K, side, side), as ``masks[instance].crop_and_resize`` gives it.
    """
    if not isinstance(masks, BitMasks):
        return masks[instance].crop_and_resize(boxes, side).to(boxes.device)
    # Indexing would copy a mask of the image's size for every crop.
    rois = torch.cat([instance[:, None].to(boxes.dtype), boxes], dim=1)
    align = ROIAlign((side, side), 1.0, 0, aligned=True)
    return align(masks.tensor[:, None].to(boxes.dtype), rois)[:, 0] >= 0.5


def class_targets(
    maskiou: torch.Tensor, mask_logits: torch.Tensor, proposals: list[Instances]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The MaskIoU of every class's predicted mask with the instances of that class.

    A class is positive where one of its instances reaches into the proposal; of several the
    largest MaskIoU is the target.

    Args:
        maskiou, mask_logits, proposals: as of :class:`TargetClass`.

    Returns:
        Targets, areas of the largest instance in the proposal, and whether a class is positive,
        all of shape (N, C).
    """
    target = torch.zeros(maskiou.shape, device=maskiou.device)
    area, positive = torch.zeros_like(target), torch.zeros_like(target, dtype=torch.bool)
    start = 0
    for of_image in proposals:
        rows = slice(start, start + len(of_image))
        start += len(of_image)
        instances = of_image.gt_image_instances.value
        pairs = pairwise_intersection(of_image.proposal_boxes, instances.gt_boxes) > 0
        proposal, instance = pairs.nonzero(as_tuple=True)
        boxes = of_image.proposal_boxes.tensor[proposal]
        classes = instances.gt_classes[instance]
        side = mask_logits.shape[-1]
        crops = _crop(instances.gt_masks, instance, boxes, side)
        areas = ground_truth_areas(instances, boxes.device)[instance]
        channels = classes if mask_logits.shape[1] > 1 else torch.zeros_like(classes)
        pred_masks = mask_logits[rows][proposal, channels] > 0
        iou = maskiou_targets(pred_masks, crops, areas, boxes)
        inside = crops.flatten(1).any(dim=1)
        place = proposal[inside] * maskiou.shape[1] + classes[inside]
        # Views of the rows, filled with the largest of what falls on each place.
        target[rows].view(-1).scatter_reduce_(0, place, iou[inside], "amax")
        area[rows].view(-1).scatter_reduce_(0, place, areas[inside], "amax")
        positive[rows].view(-1)[place] = True
    return target, area, positive
