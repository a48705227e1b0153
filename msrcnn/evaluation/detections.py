"""Detections of many images, stored as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BoxMode, Instances

from ..modeling.mask_score import box_scores
from .category_ids import ABSENT
from .rle_masks import RLEMasks

T = TypeVar("T")
# Columns that only some models predict, and the fields of Instances that contain them.
OPTIONAL_SCORES = {
    "maskiou": "pred_maskiou",
    "mask_score": "mask_scores",
    "mask_confidence": "mask_confidence",
}


@dataclass(frozen=True, eq=False)
class Detections:
    """N detections in a number of images, as arrays with a row for each detection.

    A column that the model does not predict is ``None``, even if there are no detections. Scores
    and boxes are float32 if they come from a model, float64 if they come from a JSON file.

    Attributes:
        images: int64 array of shape (I,), the ids of all images the model was run on, including
            those without detections. ``None`` if unknown.
        image_id: int64 array of shape (N,).
        category_id: int64 array of shape (N,), the dataset's category ids.
        bbox: array of shape (N, 4), boxes as (x, y, width, height) in pixels.
        score: array of shape (N,), the box score.
        maskiou: array of shape (N,), the predicted MaskIoU.
        mask_score: array of shape (N,), box score x predicted MaskIoU, with the exponents of the
            model's config, see :func:`~..modeling.mask_score.mask_score`.
        mask_confidence: array of shape (N,), the mean foreground probability of the mask.
        segmentation: N masks as compressed RLE. A list of dicts in the format of
            ``pycocotools.mask.encode`` is converted.
    """

    images: np.ndarray | None
    image_id: np.ndarray
    category_id: np.ndarray
    bbox: np.ndarray
    score: np.ndarray
    maskiou: np.ndarray | None = None
    mask_score: np.ndarray | None = None
    mask_confidence: np.ndarray | None = None
    segmentation: RLEMasks | None = None

    def __post_init__(self) -> None:
        if isinstance(self.segmentation, list):
            object.__setattr__(self, "segmentation", RLEMasks.from_dicts(self.segmentation))

    def __len__(self) -> int:
        return len(self.image_id)

    @classmethod
    def from_instances(
        cls, instances: Instances, image_id: int, category_ids: np.ndarray
    ) -> Detections:
        """Converts the output of a model for one image.

        Args:
            instances: detections at the size of the image. Required fields: ``pred_boxes``,
                ``scores``, ``pred_classes``. Optional fields: ``box_scores``, ``pred_maskiou``,
                ``mask_scores``, ``mask_confidence``, and masks as ``pred_masks_rle`` (compressed
                RLE) or ``pred_masks`` (bool tensor of shape (N, H, W)).
            image_id: the dataset's id of the image.
            category_ids: array of the dataset's category ids, indexed by class. Detections of a
                class that is ``ABSENT`` are left out.
        """
        boxes = instances.pred_boxes.tensor.detach().cpu()
        boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        columns = {
            name: _float32(instances.get(field)) if instances.has(field) else None
            for name, field in OPTIONAL_SCORES.items()
        }
        segmentation = None
        if instances.has("pred_masks_rle"):
            segmentation = RLEMasks.from_dicts(instances.pred_masks_rle)
        elif instances.has("pred_masks"):
            segmentation = RLEMasks.from_dicts(map(_encode, instances.pred_masks))
        found = cls(
            images=np.array([image_id], dtype=np.int64),
            image_id=np.full(len(instances), image_id, dtype=np.int64),
            category_id=category_ids[instances.pred_classes.cpu().numpy()],
            bbox=_float32(boxes),
            score=_float32(box_scores(instances)),
            segmentation=segmentation,
            **columns,
        )
        known = found.category_id != ABSENT
        return found if known.all() else found.take(np.flatnonzero(known), found.images)

    @classmethod
    def concatenate(cls, parts: list[Detections]) -> Detections:
        """Joins the detections of several parts of a dataset, sorted by image id.

        Distributed samplers may assign an image to several processes. The detections of such an
        image are taken from the first part that contains it.

        Args:
            parts: detections of the same model; their ``images`` are known.
        """
        joined = cls.stack(parts)
        part = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        part_of_image = np.repeat(np.arange(len(parts)), [len(present(p.images)) for p in parts])
        images, first = np.unique(present(joined.images), return_index=True)
        keep = np.flatnonzero(
            part == part_of_image[first][np.searchsorted(images, joined.image_id)]
        )
        order = keep[np.argsort(joined.image_id[keep], kind="stable")]
        return joined.take(order, images)

    @classmethod
    def stack(cls, parts: list[Detections]) -> Detections:
        """Joins detections of different images, in the order of the parts.

        A column that one of the parts does not have is ``None``.
        """
        if not parts:
            return cls.nothing()
        columns: dict = {"images": None}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if any(value is None for value in values):
                continue
            if field.name == "segmentation":
                columns[field.name] = RLEMasks.concatenate(values)
            else:
                columns[field.name] = np.concatenate(values)
        return cls(**columns)

    @classmethod
    def nothing(cls) -> Detections:
        """Returns an empty set of detections with the columns of a box detector."""
        return cls(
            images=np.zeros(0, dtype=np.int64),
            image_id=np.zeros(0, dtype=np.int64),
            category_id=np.zeros(0, dtype=np.int64),
            bbox=np.zeros((0, 4), dtype=np.float32),
            score=np.zeros(0, dtype=np.float32),
        )

    def take(self, indices: np.ndarray, images: np.ndarray | None) -> Detections:
        """Selects rows by index, and sets ``images``."""
        columns: dict = {"images": images}
        for field in fields(self):
            column = getattr(self, field.name)
            if field.name == "segmentation" and column is not None:
                columns[field.name] = column.take(indices)
            elif field.name != "images" and column is not None:
                columns[field.name] = column[indices]
        return Detections(**columns)

    def of_image(self, image_id: int) -> Detections:
        """Returns the detections of one image."""
        return self.take(np.flatnonzero(self.image_id == image_id), np.array([image_id]))

    def by_image_and_category(
        self, images: Iterable[int] | None = None
    ) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Yields (image id, category id) with the indices of the detections of that pair.

        Args:
            images: ids of the images to consider; all by default.
        """
        rows = np.arange(len(self))
        if images is not None:
            rows = rows[np.isin(self.image_id, list(images))]
        order = rows[np.lexsort((self.category_id[rows], self.image_id[rows]))]
        pairs = np.stack([self.image_id[order], self.category_id[order]], axis=1)
        starts = np.flatnonzero(np.any(np.diff(pairs, axis=0) != 0, axis=1)) + 1
        for rows in np.split(order, starts):
            if len(rows):
                yield (int(self.image_id[rows[0]]), int(self.category_id[rows[0]])), rows

    def results(
        self, iou_type: str, scores: np.ndarray, rows: np.ndarray | None = None
    ) -> list[dict]:
        """Converts detections to records of the COCO result format.

        Records of masks have no box, because pycocotools would compute the area of a detection
        from the box instead of the mask.

        Args:
            iou_type: ``"bbox"`` or ``"segm"``.
            scores: array of shape (N,), the score to write for each detection.
            rows: indices of the detections to convert; all by default.
        """
        rows = np.arange(len(self)) if rows is None else rows
        if iou_type == "bbox":
            shapes = [{"bbox": box} for box in self.bbox[rows].tolist()]
        else:
            shapes = [
                {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")}}
                for rle in present(self.segmentation).dicts(rows)
            ]
        columns = (column[rows].tolist() for column in (self.image_id, self.category_id, scores))
        return [
            {"image_id": image_id, "category_id": category_id, **shape, "score": score}
            for image_id, category_id, score, shape in zip(*columns, shapes)
        ]


def present(value: T | None) -> T:
    """Returns a column that is not ``None``, as the caller knows."""
    assert value is not None
    return value


def _float32(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().to(torch.float32).numpy()


def _encode(mask: torch.Tensor) -> dict:
    """Compressed RLE of a bool (H, W) mask."""
    return mask_util.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
