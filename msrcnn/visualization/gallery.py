"""Which masks a new ranking moved most, and pictures of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image, ImageEnhance, ImageFilter

from ..errors import UserError
from ..evaluation import Evaluation
from .images import load_image

NUM_MASKS = 8  # shown of each kind
MAX_PER_IMAGE = 2  # so that one odd image does not fill the gallery
SIDE = 320  # of a picture, in pixels
CONTEXT = 0.2  # around the objects, as a part of the longer side of the box around them
MIN_SIDE = 32  # of the part of the image that is shown, in its pixels
SATURATION = 0.3  # what is left of an image's colours, so that those of the masks stand out
# Told apart by colour-blind readers, too.
PREDICTION = (230, 60, 160)
TRUTH = (255, 225, 25)
OPACITY = 0.45  # of what a prediction is filled with
GROUND = (200, 200, 200)  # in place of an image, and beyond its edge


class RankedMask(NamedTuple):
    """A detection, and its place among the best by box score.

    Attributes:
        index: of the detection.
        box_rank: its rank by box score, from 1.
        mask_rank: its rank by mask score among the same detections, if there is one.
    """

    index: int
    box_rank: int
    mask_rank: int | None


def most_moved(evaluation: Evaluation) -> tuple[list[RankedMask], list[RankedMask]]:
    """The masks that rank most differently by mask score than by box score.

    Looked at are the best detections by box score, as many as the dataset has instances without
    the crowds: they decide over AP. Ranked are these among themselves.

    Args:
        evaluation: of a model with mask scores.

    Returns:
        Those moved down most and those moved up most, each the largest move first.
    """
    best = _best_by_box_score(evaluation)
    by_mask_score = np.argsort(-evaluation.scores["segm_mask_score"][best], kind="stable")
    mask_rank = np.empty(len(best), dtype=np.int64)
    mask_rank[by_mask_score] = np.arange(len(best))
    moved_down = mask_rank - np.arange(len(best))

    def largest(move: np.ndarray) -> list[RankedMask]:
        order = np.argsort(-move, kind="stable")
        chosen = _spread(evaluation, best, order[move[order] > 0])
        return [RankedMask(int(best[i]), i + 1, int(mask_rank[i]) + 1) for i in chosen]

    return largest(moved_down), largest(-moved_down)


def most_overrated(evaluation: Evaluation) -> list[RankedMask]:
    """Masks whose box score is most above their true MaskIoU: good boxes with poor masks.

    Looked at are the detections of :func:`most_moved` that are on an instance. Needs no mask
    scores.
    """
    best = _best_by_box_score(evaluation)
    excess = evaluation.scores["segm_box_score"][best] - evaluation.true_maskiou.matched[best]
    order = np.argsort(-excess, kind="stable")  # NaN, on no instance, comes last
    chosen = _spread(evaluation, best, order[excess[order] > 0])
    return [RankedMask(int(best[i]), i + 1, None) for i in chosen]


def _best_by_box_score(evaluation: Evaluation) -> np.ndarray:
    annotations = evaluation.ground_truth.dataset["annotations"]
    num_instances = sum(not annotation["iscrowd"] for annotation in annotations)
    by_box_score = np.argsort(-evaluation.scores["segm_box_score"], kind="stable")
    return by_box_score[:num_instances]


def _spread(evaluation: Evaluation, best: np.ndarray, order: np.ndarray) -> list[int]:
    """The first of some positions in ``best``, but few of one image."""
    chosen: list[int] = []
    of_image: dict[int, int] = {}
    for position in order.tolist():
        image_id = int(evaluation.detections.image_id[best[position]])
        of_image[image_id] = of_image.get(image_id, 0) + 1
        if of_image[image_id] <= MAX_PER_IMAGE:
            chosen.append(position)
        if len(chosen) == NUM_MASKS:
            break
    return chosen


def draw_mask(
    evaluation: Evaluation, index: int, image_root: Path | None
) -> tuple[Image.Image, bool]:
    """A picture of one predicted mask, filled, and the instance it is to cover, outlined.

    The instance is the one that the true MaskIoU is measured with; where no box overlaps enough,
    the one of the class that the mask overlaps most, if any.

    Args:
        evaluation: with masks.
        index: of the detection.
        image_root: the folder of the dataset's images.

    Returns:
        A picture of ``SIDE`` x ``SIDE`` pixels, and whether the image was found; without it the
        masks are drawn on a plain ground.
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
    picture = _photo(pixels, window) if found else Image.new("RGB", (SIDE, SIDE), GROUND)
    predicted, *truth = (_mask(rle, window) for rle in masks)
    picture.paste(PREDICTION, mask=predicted.point(lambda value: value * OPACITY))
    _outline(picture, predicted, PREDICTION, width=1)
    for mask in truth:
        _outline(picture, mask, TRUTH, width=2)
    return picture, found


def _instance(evaluation: Evaluation, index: int) -> dict | None:
    """The annotation that a detection is shown with."""
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
    """A square around boxes with some context, as (x0, y0, x1, y1) in pixels of the image.

    Args:
        boxes: (N, 4), as (x, y, width, height); those without area do not count.
        width, height: of the image. The square is moved into it as far as it fits.
    """
    boxes = boxes[(boxes[:, 2:] > 0).all(axis=1)]
    if not len(boxes):
        boxes = np.array([[0, 0, width, height]])
    low = boxes[:, :2].min(axis=0).clip(0, [width, height])
    high = (boxes[:, :2] + boxes[:, 2:]).max(axis=0).clip(0, [width, height])
    side = min((high - low).max() * (1 + 2 * CONTEXT), max(width, height))
    side = max(side, MIN_SIDE)
    start = []
    for middle, size in zip((low + high) / 2, (width, height)):
        fits = side <= size
        start.append(np.clip(middle - side / 2, 0, size - side) if fits else (size - side) / 2)
    x0, y0 = (round(value) for value in start)
    return x0, y0, x0 + round(side), y0 + round(side)


def _read(info: dict, image_root: Path | None) -> np.ndarray | None:
    """The image, (H, W, 3), if it is there and can be used."""
    try:
        return None if image_root is None else load_image(info, image_root)
    except UserError:
        return None


def _photo(pixels: np.ndarray, window: tuple[int, int, int, int]) -> Image.Image:
    """The window of an image, (H, W, 3), at the size of a picture."""
    square = _cut(pixels, window, GROUND).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return ImageEnhance.Color(square).enhance(SATURATION)


def _mask(rle: dict, window: tuple[int, int, int, int]) -> Image.Image:
    """The window of a mask, 255 inside, at the size of a picture."""
    square = _cut(mask_util.decode(rle), window, 0).point(lambda value: 255 * value)
    # Enlarged, a mask's pixels stay visible; shrunk, its thin parts do not vanish by chance.
    way = Image.Resampling.NEAREST if square.width <= SIDE else Image.Resampling.BOX
    return square.resize((SIDE, SIDE), way).point(lambda value: 255 * (value >= 128))


def _cut(
    pixels: np.ndarray, window: tuple[int, int, int, int], beyond: int | tuple[int, int, int]
) -> Image.Image:
    """A window of (H, W) or (H, W, 3) pixels, with a colour for what lies beyond them."""
    x0, y0, x1, y1 = window
    inside = np.ascontiguousarray(pixels[max(y0, 0) : y1, max(x0, 0) : x1])
    part = Image.fromarray(inside)
    square = Image.new(part.mode, (x1 - x0, y1 - y0), beyond)
    square.paste(part, (max(-x0, 0), max(-y0, 0)))
    return square


def _outline(
    picture: Image.Image, mask: Image.Image, color: tuple[int, int, int], width: int
) -> None:
    """Draw the edge of a mask, inside it, and outside a dark line, to be seen on any ground."""
    inside = np.asarray(mask)
    # What lies beyond the picture belongs to the mask as the pixel at its edge does.
    inner = np.asarray(mask.filter(ImageFilter.MinFilter(2 * width + 1)))
    outer = np.asarray(mask.filter(ImageFilter.MaxFilter(3)))
    picture.paste((30, 30, 30), mask=Image.fromarray(outer - inside))
    picture.paste(color, mask=Image.fromarray(inside - inner))
