"""Selects the masks whose rank changes most under the mask score, and draws them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image, ImageEnhance, ImageFilter

from ..errors import UserError
from ..evaluation import Evaluation
from .images import load_image

NUM_MASKS = 8  # in each group of the gallery
MAX_PER_IMAGE = 2  # so that one unusual image does not fill the gallery
SIDE = 320  # size of a picture in pixels
CONTEXT = 0.2  # margin around the objects, relative to the longer side of their bounding box
MIN_SIDE = 32  # minimum size of the crop, in pixels of the image
SATURATION = 0.3  # of the image, so that the colors of the masks stand out
# Distinguishable for color-blind readers.
PREDICTION = (230, 60, 160)
TRUTH = (255, 225, 25)
OPACITY = 0.45  # of predicted masks
BACKGROUND = (200, 200, 200)  # replaces a missing image, and fills the area outside an image


class RankedMask(NamedTuple):
    """A detection and its ranks among the detections with the highest box scores.

    Attributes:
        index: index of the detection.
        box_rank: rank by box score, starting at 1.
        mask_rank: rank by mask score among the same detections, or ``None`` without mask scores.
    """

    index: int
    box_rank: int
    mask_rank: int | None


def most_moved(evaluation: Evaluation) -> tuple[list[RankedMask], list[RankedMask]]:
    """Returns the masks whose rank by mask score differs most from their rank by box score.

    Only the detections with the highest box scores are considered, as many as the dataset has
    instances (without crowds), because they determine AP. They are ranked among themselves.

    Args:
        evaluation: an evaluation of detections with mask scores.

    Returns:
        The masks that move down most and the masks that move up most, each sorted by the size of
        the move, largest first.
    """
    best = _best_by_box_score(evaluation)
    by_mask_score = np.argsort(-evaluation.scores["segm_mask_score"][best], kind="stable")
    mask_rank = np.empty(len(best), dtype=np.int64)
    mask_rank[by_mask_score] = np.arange(len(best))
    moved_down = mask_rank - np.arange(len(best))

    def largest(move: np.ndarray) -> list[RankedMask]:
        order = np.argsort(-move, kind="stable")
        chosen = _limit_per_image(evaluation, best, order[move[order] > 0])
        return [RankedMask(int(best[i]), i + 1, int(mask_rank[i]) + 1) for i in chosen]

    return largest(moved_down), largest(-moved_down)


def most_overrated(evaluation: Evaluation) -> list[RankedMask]:
    """Returns the masks whose box score exceeds their true MaskIoU most: good boxes, poor masks.

    The same detections as in :func:`most_moved` are considered, if they match an instance. Mask
    scores are not needed.

    Args:
        evaluation: an evaluation of detections with masks.
    """
    best = _best_by_box_score(evaluation)
    excess = evaluation.scores["segm_box_score"][best] - evaluation.true_maskiou.matched[best]
    order = np.argsort(-excess, kind="stable")  # NaN (no matched instance) comes last
    chosen = _limit_per_image(evaluation, best, order[excess[order] > 0])
    return [RankedMask(int(best[i]), i + 1, None) for i in chosen]


def _best_by_box_score(evaluation: Evaluation) -> np.ndarray:
    annotations = evaluation.ground_truth.dataset["annotations"]
    num_instances = sum(not annotation["iscrowd"] for annotation in annotations)
    by_box_score = np.argsort(-evaluation.scores["segm_box_score"], kind="stable")
    return by_box_score[:num_instances]


def _limit_per_image(evaluation: Evaluation, best: np.ndarray, order: np.ndarray) -> list[int]:
    """Selects up to ``NUM_MASKS`` masks, at most ``MAX_PER_IMAGE`` per image.

    Args:
        evaluation: the evaluation.
        best: indices of detections.
        order: candidates as positions in ``best``, in order of preference.

    Returns:
        The selected positions.
    """
    chosen: list[int] = []
    counts: dict[int, int] = {}
    for position in order.tolist():
        image_id = int(evaluation.detections.image_id[best[position]])
        counts[image_id] = counts.get(image_id, 0) + 1
        if counts[image_id] <= MAX_PER_IMAGE:
            chosen.append(position)
        if len(chosen) == NUM_MASKS:
            break
    return chosen


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
    masks = [detections.segmentation[index]]
    instance = _instance(evaluation, index)
    if instance is not None:
        masks.append(ground_truth.annToRLE(instance))
    boxes = [detections.bbox[index], *(mask_util.toBbox(rle) for rle in masks)]
    info = ground_truth.imgs[int(detections.image_id[index])]
    window = _window(np.array(boxes, dtype=float), info["width"], info["height"])

    pixels = _read(info, image_root)
    found = pixels is not None
    picture = _photo(pixels, window) if found else Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    predicted, *truth = (_mask(rle, window) for rle in masks)
    picture.paste(PREDICTION, mask=predicted.point(lambda value: value * OPACITY))
    _outline(picture, predicted, PREDICTION, width=1)
    for mask in truth:
        _outline(picture, mask, TRUTH, width=2)
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


def _window(boxes: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """Computes a square crop around boxes with some context.

    Args:
        boxes: array of shape (N, 4), boxes as (x, y, width, height). Boxes without area are
            ignored.
        width, height: size of the image in pixels. The square is shifted into the image if it
            fits.

    Returns:
        The square as (x0, y0, x1, y1) in pixels of the image.
    """
    boxes = boxes[(boxes[:, 2:] > 0).all(axis=1)]
    if not len(boxes):
        boxes = np.array([[0, 0, width, height]])
    low = boxes[:, :2].min(axis=0).clip(0, [width, height])
    high = (boxes[:, :2] + boxes[:, 2:]).max(axis=0).clip(0, [width, height])
    side = min((high - low).max() * (1 + 2 * CONTEXT), max(width, height))
    side = max(side, MIN_SIDE)
    start = []
    for center, size in zip((low + high) / 2, (width, height)):
        fits = side <= size
        start.append(np.clip(center - side / 2, 0, size - side) if fits else (size - side) / 2)
    x0, y0 = (round(value) for value in start)
    return x0, y0, x0 + round(side), y0 + round(side)


def _read(info: dict, image_root: Path | None) -> np.ndarray | None:
    """Loads an image as an array of shape (H, W, 3), or returns ``None`` if that fails."""
    try:
        return None if image_root is None else load_image(info, image_root)
    except UserError:
        return None


def _photo(pixels: np.ndarray, window: tuple[int, int, int, int]) -> Image.Image:
    """Crops an image of shape (H, W, 3) and resizes the crop to the size of a picture."""
    square = _crop(pixels, window, BACKGROUND).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return ImageEnhance.Color(square).enhance(SATURATION)


def _mask(rle: dict, window: tuple[int, int, int, int]) -> Image.Image:
    """Crops a mask and resizes the crop to the size of a picture; 255 inside the mask."""
    square = _crop(mask_util.decode(rle), window, 0).point(lambda value: 255 * value)
    # Enlarged masks keep sharp pixels; in reduced masks, thin parts do not vanish at random.
    resample = Image.Resampling.NEAREST if square.width <= SIDE else Image.Resampling.BOX
    return square.resize((SIDE, SIDE), resample).point(lambda value: 255 * (value >= 128))


def _crop(
    pixels: np.ndarray, window: tuple[int, int, int, int], fill: int | tuple[int, int, int]
) -> Image.Image:
    """Crops pixels of shape (H, W) or (H, W, 3), with ``fill`` as the color outside the image."""
    x0, y0, x1, y1 = window
    inside = np.ascontiguousarray(pixels[max(y0, 0) : y1, max(x0, 0) : x1])
    part = Image.fromarray(inside)
    square = Image.new(part.mode, (x1 - x0, y1 - y0), fill)
    square.paste(part, (max(-x0, 0), max(-y0, 0)))
    return square


def _outline(
    picture: Image.Image, mask: Image.Image, color: tuple[int, int, int], width: int
) -> None:
    """Draws the inner edge of a mask, and a dark line around it for contrast."""
    inside = np.asarray(mask)
    # The filters repeat the border, so the edge of the picture is not drawn as an edge of the mask.
    inner = np.asarray(mask.filter(ImageFilter.MinFilter(2 * width + 1)))
    outer = np.asarray(mask.filter(ImageFilter.MaxFilter(3)))
    picture.paste((30, 30, 30), mask=Image.fromarray(outer - inside))
    picture.paste(color, mask=Image.fromarray(inside - inner))
