"""A grid of images: ground truth beside predictions, both scores printed on each."""

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image, ImageDraw, ImageFont
from pycocotools.coco import COCO

from ..evaluation import Detections
from .images import load_image
from .overlay import COLORS, Overlay, draw_overlays

MARGIN, TITLE = 8, 24  # pixels


def draw_prediction_grid(
    ground_truth: COCO, image_root: Path, detections: Detections, output: Path, **layout
) -> None:
    """Write the picture of :func:`prediction_grid`, whose other arguments these are.

    Args:
        output: the picture's path; its folder is made if missing.
    """
    picture = prediction_grid(ground_truth, image_root, detections, **layout)
    output.parent.mkdir(parents=True, exist_ok=True)
    picture.save(output)


def prediction_grid(
    ground_truth: COCO,
    image_root: Path,
    detections: Detections,
    *,
    num_images: int = 8,
    columns: int = 2,
    min_score: float = 0.5,
    height: int = 360,
) -> Image.Image:
    """A picture of ground truth and predictions side by side.

    Args:
        ground_truth: the dataset; its first images are shown, those with annotations before others.
        image_root: the folder of its images.
        detections: with masks or without; a mask score is printed where there is one.
        num_images: images shown.
        columns: images in a row of the grid.
        min_score: detections of a lower box score are left out.
        height: of each image in the picture, in pixels.

    Raises:
        UserError: if an image cannot be read, or is another than the annotated one.
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
        good = np.flatnonzero(of_image.score >= min_score)
        found = draw_overlays(
            pixels, scale, [_found(ground_truth, of_image, index) for index in good]
        )
        pairs.append((truth, found))
    return _compose(pairs, columns)


def _color(ground_truth: COCO, category_id: int) -> tuple[float, float, float]:
    return COLORS[sorted(ground_truth.cats).index(category_id) % len(COLORS)]


def _truth(ground_truth: COCO, annotation: dict) -> Overlay:
    category_id = annotation["category_id"]
    label = ground_truth.cats[category_id]["name"] + (" crowd" if annotation["iscrowd"] else "")
    mask = ground_truth.annToMask(annotation) if annotation.get("segmentation") else None
    bbox = np.array(annotation["bbox"], dtype=float)
    return Overlay(mask, bbox, label, _color(ground_truth, category_id))


def _found(ground_truth: COCO, detections: Detections, index: int) -> Overlay:
    category_id = int(detections.category_id[index])
    columns = (detections.score, detections.mask_score)
    scores = [f"{column[index]:.2f}" for column in columns if column is not None]
    label = f"{ground_truth.cats[category_id]['name']} {' | '.join(scores)}"
    masks = detections.segmentation
    mask = None if masks is None else mask_util.decode(masks[index])
    return Overlay(mask, detections.bbox[index], label, _color(ground_truth, category_id))


def _compose(pairs: list[tuple[Image.Image, Image.Image]], columns: int) -> Image.Image:
    cell_width = max(2 * max(truth.width, found.width) + MARGIN for truth, found in pairs)
    cell_height = max(truth.height for truth, _ in pairs)
    rows = -(-len(pairs) // columns)
    size = (
        columns * (cell_width + 2 * MARGIN),
        TITLE + rows * (cell_height + MARGIN),
    )
    canvas = Image.new("RGB", size, "white")
    write = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    for column in range(min(columns, len(pairs))):
        left = column * (cell_width + 2 * MARGIN) + MARGIN
        write.text((left, 3), "ground truth", "black", font)
        middle = left + (cell_width + MARGIN) // 2
        write.text((middle, 3), "predicted: box score | mask score", "black", font)
    for index, (truth, found) in enumerate(pairs):
        row, column = divmod(index, columns)
        left = column * (cell_width + 2 * MARGIN) + MARGIN
        top = TITLE + row * (cell_height + MARGIN)
        canvas.paste(truth, (left, top))
        canvas.paste(found, (left + (cell_width + MARGIN) // 2, top))
    return canvas
