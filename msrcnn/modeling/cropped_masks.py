"""Ground-truth masks that are cropped to their proposals once, for both mask losses."""

import torch
from detectron2.structures import Instances

from .maskiou_target import ground_truth_areas


class CroppedMasks:
    """Ground-truth masks already cropped to their proposals, for the stock mask loss.

    Rasterizing the crops is costly and both losses need them; this returns the existing ones to
    ``mask_rcnn_loss``.
    """

    def __init__(self, crops: torch.Tensor):
        """
        Args:
            crops: bool tensor of shape (N, M, M).
        """
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Returns the crops; they must have been made for these boxes and this size."""
        assert self.crops.shape == (len(boxes), mask_size, mask_size), self.crops.shape
        return self.crops


def with_cropped_masks(proposals: Instances, side: int) -> Instances:
    """Returns what the two losses need of an image's proposals, with cropped, rasterized masks.

    Args:
        proposals: foreground proposals of one image.
        side: height and width of the crops.
    """
    boxes = proposals.proposal_boxes.tensor
    crops = proposals.gt_masks.crop_and_resize(boxes, side).to(boxes.device)
    cropped = Instances(
        proposals.image_size,
        proposal_boxes=proposals.proposal_boxes,
        gt_classes=proposals.gt_classes,
        gt_masks=CroppedMasks(crops > 0.5),
        gt_mask_area=ground_truth_areas(proposals, boxes.device),
    )
    if proposals.has("gt_image_instances"):
        cropped.gt_image_instances = proposals.gt_image_instances
    return cropped
