"""Soft-NMS (Bodla et al., ICCV 2017): overlapping boxes lose score instead of being removed."""

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

from ..config import check_choice

SOFT_NMS_TYPES = ("soft_linear", "soft_gaussian")
NMS_TYPES = ("nms", *SOFT_NMS_TYPES)


class SoftNMS:
    """Soft-NMS with its parameters; called in the place of Detectron2's NMS."""

    def __init__(
        self,
        nms_type: str,
        *,
        sigma: float = 0.5,
        iou_thresh: float = 0.5,
        min_score: float = 0.001,
    ):
        """
        Args:
            nms_type: how a box that overlaps a better one of its class by ``iou`` loses score:
                ``"soft_linear"`` by the factor ``1 - iou`` where ``iou`` is at or above
                ``iou_thresh``, ``"soft_gaussian"`` by ``exp(-iou**2 / sigma)``.
            sigma: of ``"soft_gaussian"``.
            iou_thresh: of ``"soft_linear"``.
            min_score: a box whose score has fallen below it is dropped.

        Raises:
            ValueError: for an unknown type.
        """
        check_choice("Soft-NMS type", nms_type, SOFT_NMS_TYPES)
        self.nms_type, self.sigma, self.iou_thresh = nms_type, sigma, iou_thresh
        self.min_score = min_score

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "SoftNMS | None":
        """The Soft-NMS that ``MODEL.ROI_HEADS.NMS_TYPE`` asks for; ``None`` for plain NMS."""
        heads = cfg.MODEL.ROI_HEADS
        check_choice("MODEL.ROI_HEADS.NMS_TYPE", heads.NMS_TYPE, NMS_TYPES)
        if heads.NMS_TYPE == "nms":
            return None
        return cls(
            heads.NMS_TYPE,
            sigma=heads.SOFT_NMS_SIGMA,
            iou_thresh=heads.NMS_THRESH_TEST,
            min_score=heads.SOFT_NMS_MIN_SCORE,
        )

    def __call__(
        self, boxes: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor, max_detections: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Detections of one image, all classes together.

        Scores only fall, so the best box that is left is final: taking the overall best again
        and again gives each class the order it would have by itself, and after
        ``max_detections`` steps no box that is left could still be among the kept. Nothing in
        the loop waits for the device.

        Args:
            boxes: tensor of shape (N, 4), as (x0, y0, x1, y1).
            scores: tensor of shape (N,).
            classes: int64 tensor of shape (N,).
            max_detections: how many to keep at most; negative for all.

        Returns:
            Indices of the kept boxes, best first, of shape (K,), and their lowered scores.
        """
        steps = len(boxes) if max_detections < 0 else min(max_detections, len(boxes))
        left, removed = scores.clone(), torch.zeros_like(scores, dtype=torch.bool)
        keep = torch.zeros(steps, dtype=torch.int64, device=boxes.device)
        kept_scores = scores.new_zeros(steps)
        corners = boxes.float()
        areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        for step in range(steps):
            best = left.argmax(keepdim=True)
            # By slice and by a tensor of one index: an index of no dimension would wait.
            keep[step : step + 1] = best
            kept_scores[step : step + 1] = left[best]
            removed = removed.scatter(0, best, True)
            iou = _iou_with(corners, areas, best)
            factor = torch.where(classes == classes[best], self._factor(iou), torch.ones_like(iou))
            left = (left * factor).masked_fill(removed, -1.0)
        good = kept_scores >= self.min_score
        return keep[good], kept_scores[good]

    def _factor(self, iou: torch.Tensor) -> torch.Tensor:
        if self.nms_type == "soft_gaussian":
            return torch.exp(-(iou**2) / self.sigma)
        return torch.where(iou >= self.iou_thresh, 1 - iou, torch.ones_like(iou))


def _iou_with(boxes: torch.Tensor, areas: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """IoU of all boxes, (N, 4) with their (N,) areas, with the one at ``index``, of shape (1,)."""
    best = boxes[index]
    sides = torch.minimum(boxes[:, 2:], best[:, 2:]) - torch.maximum(boxes[:, :2], best[:, :2])
    intersection = sides.clamp(min=0).prod(dim=1)
    union = areas + areas[index] - intersection
    return torch.where(intersection > 0, intersection / union, torch.zeros_like(union))


def soft_nms_inference(
    boxes: list[torch.Tensor],
    scores: list[torch.Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    soft_nms: SoftNMS,
    topk_per_image: int,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """``fast_rcnn_inference`` of Detectron2 with Soft-NMS in the place of NMS.

    Args:
        boxes: of each image, of shape (R, K * 4), or (R, 4) if regression is class-agnostic.
        scores: of each image, of shape (R, K + 1), the background last.
        image_shapes: (height, width) of each image.
        score_thresh: candidates of a lower score are left out from the start.
        soft_nms: the suppression.
        topk_per_image: detections to keep of an image; negative for all.

    Returns:
        For each image the detections with ``pred_boxes``, ``scores`` (lowered) and
        ``pred_classes``, and the row in [0, R) that each comes from.
    """
    found = [
        _single_image(*image, score_thresh, soft_nms, topk_per_image)
        for image in zip(boxes, scores, image_shapes)
    ]
    return [instances for instances, _ in found], [rows for _, rows in found]


def _single_image(boxes, scores, image_shape, score_thresh, soft_nms, topk):
    finite = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
    scores = torch.where(finite[:, None], scores, torch.zeros_like(scores))[:, :-1]
    rows, classes = (scores > score_thresh).nonzero(as_tuple=True)
    boxes = boxes.view(len(boxes), boxes.shape[1] // 4, 4)
    boxes = Boxes(boxes[rows, classes if boxes.shape[1] > 1 else torch.zeros_like(classes)])
    boxes.clip(image_shape)
    keep, kept_scores = soft_nms(boxes.tensor, scores[rows, classes], classes, topk)
    instances = Instances(image_shape)
    instances.pred_boxes = boxes[keep]
    instances.scores = kept_scores
    instances.pred_classes = classes[keep]
    return instances, rows[keep]
