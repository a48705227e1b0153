"""Soft-NMS (Bodla et al., ICCV 2017): lowers the scores of overlapping boxes."""

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

SOFT_NMS_TYPES = ("soft_linear", "soft_gaussian")
NMS_TYPES = ("nms", *SOFT_NMS_TYPES)
# Up to so many boxes, all pairs at once take less time than the pairs of each step.
MATRIX_BOXES, MATRIX_BOXES_CPU = 2048, 512


class SoftNMS:
    """Soft-NMS with its parameters, which replaces Detectron2's NMS."""

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
            nms_type: how to lower the score of a box whose IoU with a higher-scoring box of the
                same class is ``iou``. ``"soft_linear"`` multiplies it by ``1 - iou`` if ``iou`` is
                at least ``iou_thresh``, ``"soft_gaussian"`` by ``exp(-iou**2 / sigma)``.
            sigma: only used by ``"soft_gaussian"``.
            iou_thresh: only used by ``"soft_linear"``.
            min_score: boxes whose score falls below it are removed.

        Raises:
            ValueError: if ``nms_type`` is unknown.
        """
        if nms_type not in SOFT_NMS_TYPES:
            allowed = ", ".join(map(repr, SOFT_NMS_TYPES))
            raise ValueError(f"nms_type is '{nms_type}'; allowed: {allowed}")
        self.nms_type, self.sigma, self.iou_thresh = nms_type, sigma, iou_thresh
        self.min_score = min_score

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "SoftNMS | None":
        """Builds the Soft-NMS of ``MODEL.ROI_HEADS.NMS_TYPE``; returns ``None`` for ``"nms"``."""
        heads = cfg.MODEL.ROI_HEADS
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
        """Runs Soft-NMS on the boxes of one image, for all classes at once.

        Scores never increase, so the score of the best remaining box is final. Repeatedly selecting
        the best box over all classes therefore gives the same result as running each class
        separately, and only ``max_detections`` steps are needed. A step takes few operators,
        because a GPU needs more time to start them than to run them, and the host waits for the
        device only once, after the loop.

        Args:
            boxes: tensor of shape (N, 4), as (x0, y0, x1, y1).
            scores: tensor of shape (N,).
            classes: int64 tensor of shape (N,).
            max_detections: maximum number of boxes to keep; a negative value keeps all.

        Returns:
            Two tensors of shape (K,): the indices of the kept boxes, in decreasing order of score,
            and their lowered scores.
        """
        steps = len(boxes) if max_detections < 0 else min(max_detections, len(boxes))
        pairs = _Pairs(boxes.float(), classes)
        matrix = None
        if len(boxes) <= (MATRIX_BOXES_CPU if boxes.is_cpu else MATRIX_BOXES):
            matrix = self._factors(pairs, torch.arange(len(boxes), device=boxes.device))
        remaining, kept = scores.clone(), torch.zeros_like(scores)
        keep = [torch.zeros(0, dtype=torch.int64, device=boxes.device)]
        kept_scores = [scores[:0]]
        for _ in range(steps):
            best = (remaining + kept).argmax(keepdim=True)
            keep.append(best)
            kept_scores.append(remaining.index_select(0, best))
            factors = (
                matrix.index_select(0, best) if matrix is not None else self._factors(pairs, best)
            )
            remaining = remaining * factors.view(-1)
            kept.index_fill_(0, best, -torch.inf)
        keep, kept_scores = torch.cat(keep), torch.cat(kept_scores)
        above = (kept_scores >= self.min_score).nonzero()[:, 0]
        return keep[above], kept_scores[above]

    def _factors(self, pairs: "_Pairs", index: torch.Tensor) -> torch.Tensor:
        """Returns what the scores of all N boxes are multiplied by once a box is kept.

        Args:
            pairs: the boxes.
            index: tensor of shape (K,), the kept boxes.

        Returns:
            Tensor of shape (K, N).
        """
        iou = pairs.iou(index)
        if self.nms_type == "soft_gaussian":
            factors = torch.exp(-(iou**2) / self.sigma)
        else:
            factors = torch.where(iou >= self.iou_thresh, 1 - iou, 1.0)
        return torch.where(pairs.same_class(index), factors, 1.0)


class _Pairs:
    """Compares boxes, of shape (N, 4), with some of them."""

    def __init__(self, boxes: torch.Tensor, classes: torch.Tensor):
        self._boxes, self._classes = boxes, classes
        self._areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    def iou(self, index: torch.Tensor) -> torch.Tensor:
        """Returns the IoU of the boxes at K indices with all, of shape (K, N)."""
        boxes, of_index = self._boxes, self._boxes[index][:, None]
        sides = torch.minimum(boxes[:, 2:], of_index[..., 2:])
        sides = (sides - torch.maximum(boxes[:, :2], of_index[..., :2])).clamp(min=0)
        intersection = sides[..., 0] * sides[..., 1]
        union = self._areas + self._areas[index][:, None] - intersection
        return torch.where(intersection > 0, intersection / union, 0.0)

    def same_class(self, index: torch.Tensor) -> torch.Tensor:
        """Returns whether the classes are equal, of shape (K, N)."""
        return self._classes == self._classes[index][:, None]


def soft_nms_inference(
    boxes: list[torch.Tensor],
    scores: list[torch.Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    soft_nms: SoftNMS,
    topk_per_image: int,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Detectron2's ``fast_rcnn_inference`` with Soft-NMS instead of NMS.

    Args:
        boxes: for each image, a tensor of shape (R, K * 4), or (R, 4) if class-agnostic.
        scores: for each image, a tensor of shape (R, K + 1), with the background last.
        image_shapes: (height, width) of each image.
        score_thresh: only boxes with a score above this threshold are used.
        soft_nms: the Soft-NMS to apply.
        topk_per_image: number of detections to keep per image; a negative value keeps all.

    Returns:
        For each image, the detections with ``pred_boxes``, (lowered) ``scores`` and
        ``pred_classes``; and for each image, the row in [0, R) of each detection.
    """
    results = [
        _single_image(*image, score_thresh, soft_nms, topk_per_image)
        for image in zip(boxes, scores, image_shapes)
    ]
    return [instances for instances, _ in results], [rows for _, rows in results]


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
