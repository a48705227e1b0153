"""Draws ground truth and predictions side by side for several images."""

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image, ImageDraw, ImageFont
from pycocotools.coco import COCO

from ..evaluation import Detections
from .images import load_image
from .overlay import MIN_SCORE, Overlay, category_color, draw_overlays

MARGIN, TITLE = 8, 24  # pixels


def prediction_grid(
    ground_truth: COCO,
    image_root: Path,
    detections: Detections,
    *,
    num_images: int = 8,
    columns: int = 2,
    min_score: float = MIN_SCORE,
    height: int = 360,
) -> Image.Image:
    """Draws a grid of images, each with its ground truth on the left and predictions on the right.

    Args:
        ground_truth: the dataset. Its first images are shown; images without annotations come
            after all others.
        image_root: image folder of the dataset.
        detections: detections with or without masks. Labels show the class, the box score and, if
            available, the mask score.
        num_images: number of images to show.
        columns: number of images in a row of the grid.
        min_score: detections with a lower box score are not drawn.
        height: height of each image in the grid, in pixels.

    Raises:
        UserError: if an image cannot be read, or its size differs from the annotated size.
    """
    is_empty = {image_id: not ground_truth.imgToAnns[image_id] for image_id in ground_truth.imgs}
    shown = sorted(is_empty, key=lambda image_id: (is_empty[image_id], image_id))[:num_images]
    pairs = []
    for image_id in shown:
        info = ground_truth.imgs[image_id]
        pixels = load_image(info, image_root)
        scale = height / pixels.shape[0]
        annotations = ground_truth.imgToAnns[image_id]
        truth = draw_overlays(pixels, scale, [_truth(ground_truth, a) for a in annotations])
        of_image = detections.of_image(image_id)
        drawn = np.flatnonzero(of_image.score >= min_score)
        predicted = draw_overlays(
            pixels, scale, [_prediction(ground_truth, of_image, index) for index in drawn]
        )
        pairs.append((truth, predicted))
    return _compose(pairs, columns)


def _truth(ground_truth: COCO, annotation: dict) -> Overlay:
    category_id = annotation["category_id"]
    name = str(ground_truth.cats[category_id]["name"])
    crowd = "crowd" if annotation["iscrowd"] else ""
    mask = ground_truth.annToMask(annotation) if annotation.get("segmentation") else None
    bbox = np.array(annotation["bbox"], dtype=float)
    return Overlay(mask, bbox, name, crowd, category_color(ground_truth.cats, category_id))


def _prediction(ground_truth: COCO, detections: Detections, index: int) -> Overlay:
    category_id = int(detections.category_id[index])
    columns = (detections.score, detections.mask_score)
    scores = [f"{column[index]:.2f}" for column in columns if column is not None]
    name = str(ground_truth.cats[category_id]["name"])
    masks = detections.segmentation
    mask = None if masks is None else mask_util.decode(masks[index])
    color = category_color(ground_truth.cats, category_id)
    return Overlay(mask, detections.bbox[index], name, " | ".join(scores), color)


def _compose(pairs: list[tuple[Image.Image, Image.Image]], columns: int) -> Image.Image:
    cell_width = max(2 * max(truth.width, predicted.width) + MARGIN for truth, predicted in pairs)
    cell_height = max(truth.height for truth, _ in pairs)
    rows = -(-len(pairs) // columns)
    size = (
        columns * (cell_width + 2 * MARGIN),
        TITLE + rows * (cell_height + MARGIN),
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    for column in range(min(columns, len(pairs))):
        left = column * (cell_width + 2 * MARGIN) + MARGIN
        draw.text((left, 3), "ground truth", "black", font)
        middle = left + (cell_width + MARGIN) // 2
        draw.text((middle, 3), "predicted: box score | mask score", "black", font)
    for index, (truth, predicted) in enumerate(pairs):
        row, column = divmod(index, columns)
        left = column * (cell_width + 2 * MARGIN) + MARGIN
        top = TITLE + row * (cell_height + MARGIN)
        canvas.paste(truth, (left, top))
        canvas.paste(predicted, (left + (cell_width + MARGIN) // 2, top))
    return canvas
