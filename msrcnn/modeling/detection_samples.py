"""Training samples of the MaskIoU head from the detections of the model that is being trained.

At test time the head scores detections. On foreground proposals (the paper) it sees neither the
boxes of detections nor false positives.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from torch import nn

from .cropped_masks import CroppedMasks
from .maskiou_samples import NEUTRAL_AREA
from .maskiou_target import ground_truth_areas

MIN_BOX_IOU = 0.5  # for a detection to be matched with an instance
FALSE_POSITIVES_PER_MATCH = 2  # drawn per detection with an instance


def trains_on_detections(cfg: CfgNode) -> bool:
    """Whether the MaskIoU head learns from detections within the training, not in a fit."""
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    return cfg.MODEL.MASKIOU_ON and head.SAMPLES == "detections" and not cfg.SOLVER.FIT_SCORES


class DetectionSampler:
    """Matches the detections of a batch with instances, and draws those to train on."""

    def __init__(
        self,
        *,
        num_proposals: int,
        limit: int,
        false_positives: bool,
        one_per_instance: bool = False,
    ):
        """
        Args:
            num_proposals: number of proposals per image that detections are made from.
            limit: largest number of detections to train on per image.
            false_positives: whether to train on detections without an instance, too.
            one_per_instance: whether only the detection with the highest box score matches an
                instance.
        """
        self.num_proposals, self.limit = num_proposals, limit
        self.false_positives, self.one_per_instance = false_positives, one_per_instance

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "DetectionSampler | None":
        """Builds the sampler of a config; ``None`` if its training does not use detections."""
        if not trains_on_detections(cfg):
            return None
        heads = cfg.MODEL.ROI_HEADS
        return cls(
            num_proposals=cfg.MODEL.RPN.POST_NMS_TOPK_TEST,
            # As many as there can be foreground proposals.
            limit=int(heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION),
            false_positives=cfg.MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES == "zero",
            one_per_instance=cfg.MODEL.ROI_MASKIOU_HEAD.ONE_PER_INSTANCE,
        )

    def __call__(self, detections: list[Instances], targets: list[Instances]) -> list[Instances]:
        """
        Args:
            detections: detections of each image, with ``pred_boxes`` and ``pred_classes``, in
                decreasing order of score.
            targets: instances of each image, with ``gt_boxes`` and ``gt_classes``.

        Returns:
            For each image, the detections to train on with ``proposal_boxes``, ``gt_classes`` (the
            predicted classes) and ``gt_instance``, the index of the matched instance or -1, on the
            CPU.
        """
        matches = [match_instances(*image) for image in zip(detections, targets)]
        if self.one_per_instance:
            matches = [without_duplicates(match) for match in matches]
        # Read once, because the host waits for the device each time.
        matches = torch.cat(matches).cpu().split([len(match) for match in matches])
        _log_numbers(matches)
        rows = draw_detections(matches, self.limit, false_positives=self.false_positives)
        return [
            Instances(
                found.image_size,
                proposal_boxes=found.pred_boxes[drawn],
                gt_classes=found.pred_classes[drawn],
                gt_instance=match[drawn],
            )
            for found, match, drawn in zip(detections, matches, rows)
        ]


def match_instances(detections: Instances, targets: Instances) -> torch.Tensor:
    """Matches each detection with the instance of its class that has the largest box IoU.

    Returns:
        Int64 tensor of shape (N,), index of the instance; -1 if the IoU is below ``MIN_BOX_IOU``.
    """
    if len(targets) == 0:
        return torch.full_like(detections.pred_classes, -1)
    iou = pairwise_iou(detections.pred_boxes, targets.gt_boxes)
    other_class = detections.pred_classes[:, None] != targets.gt_classes
    best, instance = iou.masked_fill(other_class, -1).max(dim=1)
    return instance.masked_fill(best < MIN_BOX_IOU, -1)


def without_duplicates(match: torch.Tensor) -> torch.Tensor:
    """Sets all but the first match of each instance to -1; takes and returns (N,) indices."""
    earlier = (match == match[:, None]).tril(diagonal=-1)
    return match.masked_fill(earlier.any(dim=1), -1)


def draw_detections(
    matches: Sequence[torch.Tensor], limit: int, *, false_positives: bool
) -> list[torch.Tensor]:
    """Draws the detections to train on: matched ones first, then false positives.

    False positives are drawn from the whole batch, ``FALSE_POSITIVES_PER_MATCH`` for each matched
    detection, so that images without a match also contribute.

    Args:
        matches: for each image, an int64 tensor of shape (N,), see :func:`match_instances`.
        limit: largest number of detections per image.
        false_positives: whether to draw detections without an instance.

    Returns:
        For each image, an int64 tensor with the indices of the drawn detections.
    """
    drawn = [_draw((match >= 0).nonzero()[:, 0], limit) for match in matches]
    if not false_positives:
        return drawn
    rest = [_draw((m < 0).nonzero()[:, 0], limit - len(rows)) for m, rows in zip(matches, drawn)]
    sizes = [len(rows) for rows in rest]
    order = torch.randperm(sum(sizes), device=matches[0].device)
    kept = (order < FALSE_POSITIVES_PER_MATCH * sum(map(len, drawn))).split(sizes)
    return [torch.cat([rows, more[keep]]) for rows, more, keep in zip(drawn, rest, kept)]


def _draw(rows: torch.Tensor, number: int) -> torch.Tensor:
    return rows[torch.randperm(len(rows), device=rows.device)[:number]]


def _log_numbers(matches: Sequence[torch.Tensor]) -> None:
    """Writes the numbers of detections per image to the event storage."""
    total = sum(map(len, matches))
    matched = sum((match >= 0).sum() for match in matches).item()
    storage = get_event_storage()
    storage.put_scalar("maskiou/num_matched", matched / len(matches))
    storage.put_scalar("maskiou/num_unmatched", (total - matched) / len(matches))


def with_instance_masks(samples: Instances, targets: Instances, side: int) -> Instances:
    """Returns what the loss needs of an image's detections, with cropped ground-truth masks.

    A false positive has an empty mask, so that its MaskIoU is 0.

    Args:
        samples: detections from :class:`DetectionSampler`.
        targets: instances of the image, with ``gt_masks`` if there are any.
        side: height and width of the crops.
    """
    boxes = samples.proposal_boxes.tensor
    crops = boxes.new_zeros(len(boxes), side, side, dtype=torch.bool)
    areas = boxes.new_full((len(boxes),), NEUTRAL_AREA)
    rows = (samples.gt_instance >= 0).nonzero()[:, 0]
    if len(rows):
        instance = samples.gt_instance[rows]
        crops[rows] = targets.gt_masks[instance].crop_and_resize(boxes[rows], side).to(boxes.device)
        areas[rows] = ground_truth_areas(targets, boxes.device).to(areas.dtype)[instance]
    return Instances(
        samples.image_size,
        proposal_boxes=samples.proposal_boxes,
        gt_classes=samples.gt_classes,
        gt_masks=CroppedMasks(crops),
        gt_mask_area=areas,
    )


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Sets a module to evaluation mode, and afterwards every part of it to its former mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
