"""Draws a predicted mask and its ground truth, cropped from their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from ..evaluation import Evaluation
from .images import image_or_none
from .mask_crop import BACKGROUND, SIDE, crop_mask, crop_photo, outline, square_around

# Distinguishable for color-blind readers.
PREDICTION = (230, 60, 160)
TRUTH = (255, 225, 25)
OPACITY = 0.45  # of predicted masks


def draw_mask(
    evaluation: Evaluation, index: int, image_root: Path | None
) -> tuple[Image.Image, bool]:
    """Draws a predicted mask, filled, and its ground-truth instance, outlined.

    The instance is the matched one (see :class:`~msrcnn.evaluation.mask_quality.TrueMaskIoU`). If
    there is none, it is the instance of the class with the largest MaskIoU, if any.

    Args:
        evaluation: an evaluation of detections with masks.
        index: index of the detection.
        image_root: folder with the images of the dataset; ``None`` if unknown.

    Returns:
        A picture of ``SIDE`` x ``SIDE`` pixels, and whether the image could be loaded. If not, the
        masks are drawn on a plain background.
    """
    detections, ground_truth = evaluation.detections, evaluation.ground_truth
    instance = _instance(evaluation, index)
    truth = None if instance is None else ground_truth.annToRLE(instance)
    info = ground_truth.imgs[int(detections.image_id[index])]
    box = detections.bbox[index]
    return _draw(info, image_root, detections.segmentation[index], truth, [box])


def draw_missed(
    evaluation: Evaluation, instance: dict, nearest: int | None, image_root: Path | None
) -> tuple[Image.Image, bool]:
    """Draws an instance, outlined, and the detection that overlaps it most, filled.

    Args:
        evaluation: an evaluation of detections with masks.
        instance: the annotation.
        nearest: index of the detection; ``None`` if none overlaps.
        image_root: see :func:`draw_mask`.

    Returns:
        See :func:`draw_mask`.
    """
    ground_truth = evaluation.ground_truth
    predicted = None if nearest is None else evaluation.detections.segmentation[nearest]
    info = ground_truth.imgs[instance["image_id"]]
    return _draw(info, image_root, predicted, ground_truth.annToRLE(instance), [])


def _draw(
    info: dict, image_root: Path | None, predicted: dict | None, truth: dict | None, boxes: list
) -> tuple[Image.Image, bool]:
    """Draws masks, which may be missing, in a square around them and around boxes."""
    masks = [mask for mask in (predicted, truth) if mask is not None]
    boxes = [*boxes, *(mask_util.toBbox(mask) for mask in masks)]
    window = square_around(np.array(boxes, dtype=float), info["width"], info["height"])
    pixels = image_or_none(info, image_root)
    found = pixels is not None
    picture = crop_photo(pixels, window) if found else Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    if predicted is not None:
        inside = crop_mask(predicted, window)
        picture.paste(PREDICTION, mask=inside.point(lambda value: value * OPACITY))
        outline(picture, inside, PREDICTION, width=1)
    if truth is not None:
        outline(picture, crop_mask(truth, window), TRUTH, width=2)
    return picture, found


def _instance(evaluation: Evaluation, index: int) -> dict | None:
    """Returns the annotation to draw with a detection, if any."""
    ground_truth, detections = evaluation.ground_truth, evaluation.detections
    matched = int(evaluation.true_maskiou.instance[index])
    if matched:
        return ground_truth.anns[matched]
    candidates = [
        annotation
        for annotation in ground_truth.imgToAnns[int(detections.image_id[index])]
        if annotation["category_id"] == detections.category_id[index] and not annotation["iscrowd"]
    ]
    if not candidates or evaluation.true_maskiou.best[index] == 0:
        return None
    masks = [ground_truth.annToRLE(annotation) for annotation in candidates]
    overlap = mask_util.iou([detections.segmentation[index]], masks, [0] * len(masks))
    return candidates[int(overlap.argmax())]
