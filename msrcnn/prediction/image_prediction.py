"""What a model predicts for one image."""

from functools import cached_property
from typing import Any

import numpy as np
from detectron2.layers import paste_masks_in_image
from detectron2.structures import Instances
from PIL import Image

from ..class_names import name_of
from ..errors import UserError
from ..evaluation import Detections
from ..evaluation.detections import present
from ..evaluation.mask_encoding import encode_masks
from ..modeling.mask_score import box_scores
from ..visualization import draw_detections


class Prediction:
    """Detections in one image, in the order of their box scores.

    A mask is pasted into the image, or encoded, only when it is needed.

    Attributes:
        pixels: the image, a uint8 array of shape (H, W, 3), RGB.
        class_names: names by class index; empty if they are not known.
    """

    def __init__(self, pixels: np.ndarray, detections: Instances, class_names: list[str]):
        """
        Args:
            pixels, class_names: see the attributes.
            detections: on the CPU, with boxes in pixels of the image, and ``roi_masks`` of shape
                (N, 1, M, M), the probabilities of the masks in the boxes, if there are masks.
        """
        self.pixels, self.class_names = pixels, class_names
        self._detections = detections

    def __len__(self) -> int:
        return len(self._detections)

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        return f"Prediction({len(self)} detections in an image of {width} x {height})"

    @cached_property
    def instances(self) -> Instances:
        """Detectron2's ``Instances``, on the CPU.

        Fields: ``pred_boxes`` in pixels, (x0, y0, x1, y1); ``scores`` and ``pred_classes`` of shape
        (N,); if the model has them, ``pred_masks``, bool of shape (N, H, W), and ``pred_maskiou``
        and ``mask_scores`` of shape (N,), both in [0, 1], and of a calibrated model
        ``mask_probability``, see :func:`~msrcnn.modeling.mask_score.mask_probability`.
        """
        found = Instances(self._detections.image_size, **self._detections.get_fields())
        if found.has("roi_masks"):
            masks = found.roi_masks[:, 0]
            found.remove("roi_masks")
            pasted = paste_masks_in_image(masks, found.pred_boxes, found.image_size)
            found.pred_masks = pasted.bool()  # Detectron2 returns uint8 where there is none
        return found

    @property
    def is_calibrated(self) -> bool:
        """Whether the model predicts the probability that a mask is correct."""
        return self._detections.has("mask_probability")

    def select(
        self,
        *,
        min_score: float | None = None,
        min_mask_score: float | None = None,
        min_probability: float | None = None,
    ) -> "Prediction":
        """Returns the detections whose scores reach all given limits.

        Args:
            min_score: lowest box score.
            min_mask_score: lowest mask score.
            min_probability: lowest probability that the mask is correct, which a fit calibrates.

        Raises:
            UserError: if the model does not predict a score that is asked for.
        """
        found = self._detections
        keep = box_scores(found) >= (-np.inf if min_score is None else min_score)
        if min_mask_score is not None:
            if not found.has("mask_scores"):
                raise UserError("this model predicts no mask scores: select by min_score")
            keep &= found.mask_scores >= min_mask_score
        if min_probability is not None:
            if not self.is_calibrated:
                raise UserError(
                    "this model is not calibrated: fit its mask scores again, or select by "
                    "min_mask_score"
                )
            keep &= found.mask_probability >= min_probability
        return Prediction(self.pixels, found[keep], self.class_names)

    def draw(
        self,
        *,
        min_score: float | None = None,
        min_mask_score: float | None = None,
        min_probability: float | None = None,
        enlarge: bool = True,
    ) -> Image.Image:
        """Draws the detections that :meth:`select` returns, with class, box score and mask score.

        Args:
            min_score, min_mask_score, min_probability: see :meth:`select`.
            enlarge: enlarge small images, whose labels would cover them.
        """
        shown = self.select(
            min_score=min_score, min_mask_score=min_mask_score, min_probability=min_probability
        )
        return draw_detections(self.pixels, shown.instances, self.class_names, enlarge=enlarge)

    def to_supervision(self) -> Any:
        """Returns ``supervision.Detections``, for annotators, trackers and zones of supervision.

        ``confidence`` is the box score; ``data`` has ``class_name`` and, if the model predicts
        them, ``mask_score`` and ``mask_probability``.

        Raises:
            UserError: if supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError("to_supervision needs the package: pip install supervision") from error
        found = self.instances
        names = [name_of(label, self.class_names) for label in found.pred_classes.tolist()]
        data = {"class_name": np.array(names, dtype=str)}
        if found.has("mask_scores"):
            data["mask_score"] = found.mask_scores.numpy()
        if self.is_calibrated:
            data["mask_probability"] = found.mask_probability.numpy()
        return supervision.Detections(
            xyxy=found.pred_boxes.tensor.numpy(),
            mask=found.pred_masks.numpy() if found.has("pred_masks") else None,
            confidence=box_scores(found).numpy(),
            class_id=found.pred_classes.numpy(),
            data=data,
        )

    def to_coco(self, image_id: int = 0, *, rank_by: str = "box") -> list[dict]:
        """Returns records in the format of COCO's result files.

        Args:
            image_id: the ``image_id`` of all records.
            rank_by: the score that becomes ``score``: ``"box"`` or ``"mask"``.

        Returns:
            For each detection ``image_id``, ``category_id`` (the class index), ``score``, and
            ``segmentation``, compressed RLE, or ``bbox``, (x, y, width, height), for a model
            without masks: with both, pycocotools computes areas from the box. With mask scores also
            ``box_score`` and ``mask_score``, and of a calibrated model ``mask_probability``.

        Raises:
            UserError: if ``rank_by`` is unknown, or the model predicts no mask scores.
        """
        if rank_by not in ("box", "mask"):
            raise UserError(f"rank_by is '{rank_by}'; allowed: 'box', 'mask'")
        if rank_by == "mask" and not self._detections.has("mask_scores"):
            raise UserError("this model predicts no mask scores: rank_by 'box'")
        found = Instances(self._detections.image_size, **self._detections.get_fields())
        has_masks = found.has("roi_masks")
        if has_masks:
            boxes = found.pred_boxes.tensor
            found.pred_masks_rle = encode_masks(found.roi_masks, boxes, found.image_size)
        classes = np.arange(int(found.pred_classes.max()) + 1 if len(found) else 0)
        columns = Detections.from_instances(found, image_id, classes)
        score = columns.score if rank_by == "box" else present(columns.mask_score)
        records = columns.results("segm" if has_masks else "bbox", score)
        if columns.mask_score is not None:
            both = zip(columns.score.tolist(), columns.mask_score.tolist())
            for record, (box_score, mask_score) in zip(records, both):
                record.update(box_score=box_score, mask_score=mask_score)
        if self.is_calibrated:
            for record, probability in zip(records, found.mask_probability.tolist()):
                record["mask_probability"] = probability
        return records
