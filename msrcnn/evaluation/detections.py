"""Detections as columns: what is kept of predictions, made of a model's output."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BoxMode, Instances

# Columns that a model need not have, with the field of its Instances they are made of.
OPTIONAL_SCORES = {
    "maskiou": "pred_maskiou",
    "mask_score": "mask_scores",
    "mask_confidence": "mask_confidence",
}


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of a number of images, N in all, by columns.

    What a model does not predict is ``None``, whether it found something or not. Scores and
    boxes are float32, as models give them, or float64, as result files do.

    Attributes:
        images: ids of the images that were looked at, of shape (I,), int64; also those in which
            nothing was found. ``None`` if not known.
        image_id: of shape (N,), int64.
        category_id: the dataset's own ids, of shape (N,), int64.
        bbox: (x, y, width, height) in pixels, of shape (N, 4).
        score: box score, of shape (N,).
        maskiou: predicted MaskIoU, of shape (N,).
        mask_score: box score times predicted MaskIoU, of shape (N,).
        mask_confidence: mean foreground probability of the mask, of shape (N,).
        segmentation: N masks as compressed RLE, as ``pycocotools.mask.encode`` gives them.
    """

    images: np.ndarray | None
    image_id: np.ndarray
    category_id: np.ndarray
    bbox: np.ndarray
    score: np.ndarray
    maskiou: np.ndarray | None = None
    mask_score: np.ndarray | None = None
    mask_confidence: np.ndarray | None = None
    segmentation: list[dict] | None = None

    def __len__(self) -> int:
        return len(self.image_id)

    @classmethod
    def from_instances(
        cls, instances: Instances, image_id: int, category_ids: np.ndarray
    ) -> Detections:
        """The detections of one image.

        Args:
            instances: in the image's own size, with ``pred_boxes``, ``scores``, ``pred_classes``
                and perhaps ``pred_maskiou``, ``mask_scores``, ``mask_confidence``, and masks: as
                ``pred_masks_rle``, or as ``pred_masks``, a bool tensor of shape (N, H, W).
            image_id: the dataset's id of the image.
            category_ids: the dataset's category ids in the order of the class indices.
        """
        boxes = instances.pred_boxes.tensor.detach().cpu()
        boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        columns = {
            name: _float32(instances.get(field)) if instances.has(field) else None
            for name, field in OPTIONAL_SCORES.items()
        }
        segmentation = None
        if instances.has("pred_masks_rle"):
            segmentation = list(instances.pred_masks_rle)
        elif instances.has("pred_masks"):
            segmentation = [_encode(mask) for mask in instances.pred_masks]
        return cls(
            images=np.array([image_id], dtype=np.int64),
            image_id=np.full(len(instances), image_id, dtype=np.int64),
            category_id=category_ids[instances.pred_classes.cpu().numpy()],
            bbox=_float32(boxes),
            score=_float32(instances.scores),
            segmentation=segmentation,
            **columns,
        )

    @classmethod
    def concatenate(cls, parts: list[Detections]) -> Detections:
        """All detections of several parts of a dataset, images in the order of their ids.

        An image that is in more than one part counts once: processes may share images.

        Args:
            parts: of one model, with the same columns.
        """
        if not parts:
            return cls.nothing()
        columns = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if any(value is None for value in values):
                continue
            if field.name == "segmentation":
                columns[field.name] = list(itertools.chain.from_iterable(values))
            else:
                columns[field.name] = np.concatenate(values)
        everything = cls(**columns)
        part = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        part_of_image = np.repeat(np.arange(len(parts)), [len(p.images) for p in parts])
        images, first = np.unique(everything.images, return_index=True)
        keep = np.flatnonzero(
            part == part_of_image[first][np.searchsorted(images, everything.image_id)]
        )
        order = keep[np.argsort(everything.image_id[keep], kind="stable")]
        return everything._take(order, images)

    @classmethod
    def nothing(cls) -> Detections:
        """No detections in no image, of a model that predicts boxes."""
        return cls(
            images=np.zeros(0, dtype=np.int64),
            image_id=np.zeros(0, dtype=np.int64),
            category_id=np.zeros(0, dtype=np.int64),
            bbox=np.zeros((0, 4), dtype=np.float32),
            score=np.zeros(0, dtype=np.float32),
        )

    def _take(self, indices: np.ndarray, images: np.ndarray) -> Detections:
        columns = {"images": images}
        for field in fields(self):
            column = getattr(self, field.name)
            if field.name == "segmentation" and column is not None:
                columns[field.name] = [column[i] for i in indices.tolist()]
            elif field.name != "images" and column is not None:
                columns[field.name] = column[indices]
        return Detections(**columns)

    def of_image(self, image_id: int) -> Detections:
        """The detections of one image."""
        return self._take(np.flatnonzero(self.image_id == image_id), np.array([image_id]))

    def results(self, iou_type: str, scores: np.ndarray, rows: slice = slice(None)) -> list[dict]:
        """COCO results, as the test server takes them.

        Those of masks are without the box: the reference implementation would take an
        instance's area from it.

        Args:
            iou_type: ``"bbox"`` or ``"segm"``.
            scores: what to rank by, of shape (N,).
            rows: those of some detections only.
        """
        if iou_type == "bbox":
            shapes = [{"bbox": box} for box in self.bbox[rows].tolist()]
        else:
            shapes = [
                {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")}}
                for rle in self.segmentation[rows]
            ]
        columns = (column[rows].tolist() for column in (self.image_id, self.category_id, scores))
        return [
            {"image_id": image_id, "category_id": category_id, **shape, "score": score}
            for image_id, category_id, score, shape in zip(*columns, shapes)
        ]


def _float32(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().to(torch.float32).numpy()


def _encode(mask: torch.Tensor) -> dict:
    """Compressed RLE of a bool (H, W) mask."""
    return mask_util.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
