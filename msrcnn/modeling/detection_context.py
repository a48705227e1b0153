"""How a detection overlaps those of its image that have a higher box score.

A mask of a second detection of an instance, or of a part of it, can look perfect by itself.
"""

import torch
from detectron2.structures import Boxes, Instances
from detectron2.structures.boxes import pairwise_intersection
from torch.nn.functional import pad

from .mask_score import box_scores

# In the order of the tensor that detection_context returns.
CONTEXT = ("overlap_of_class", "overlap", "covered_by_class", "covered")


def detection_context(detections: Instances) -> torch.Tensor:
    """Describes the overlaps of each detection with better ones: those with a higher box score.

    Args:
        detections: all N detections of an image, with ``pred_boxes``, ``pred_classes`` and
            ``scores``, or ``box_scores`` if ``scores`` are others.

    Returns:
        Float tensor of shape (N, 4) without gradient: the largest box IoU with a better detection
        of the same class, and of any class; the largest share of the box that a better detection
        of the same class covers, and of any class. 0 if there is none.

    Raises:
        ValueError: if the detections have no scores.
    """
    if not detections.has("scores"):
        raise ValueError(
            "MODEL.ROI_MASKIOU_HEAD.INPUT_CONTEXT compares detections by box score: give the "
            "instances 'scores'"
        )
    boxes = Boxes(detections.pred_boxes.tensor.detach().float())
    intersection, areas = pairwise_intersection(boxes, boxes), boxes.area()
    union = areas[:, None] + areas - intersection
    scores = box_scores(detections)
    better = scores > scores[:, None]
    of_class = better & (detections.pred_classes == detections.pred_classes[:, None])
    # A column of zeros, so that there is a maximum without any detection, also in a trace.
    columns = [
        pad(share.clamp(max=1) * compared, (0, 1)).amax(dim=1)
        for share in (
            intersection / union.clamp(min=1e-6),
            intersection / areas[:, None].clamp(min=1e-6),
        )
        for compared in (of_class, better)
    ]
    return torch.stack(columns, dim=1)
