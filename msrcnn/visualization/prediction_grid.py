"""A grid of images: ground truth beside predictions, both scores printed on each."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import Visualizer
from PIL import Image, ImageDraw, ImageFont
from pycocotools.coco import COCO

from ..evaluation import Detections

MARGIN, TITLE = 8, 24  # pixels
# Of the classes, in turn.
COLORS = [
    tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    for code in ("e6194b", "4363d8", "ffe119", "3cb44b", "f58231", "911eb4", "46f0f0", "f032e6")
]


def draw_prediction_grid(
    ground_truth: COCO,
    image_root: Path,
    detections: Detections,
    output: Path,
    *,
    num_images: int = 8,
    columns: int = 2,
    min_score: float = 0.5,
    height: int = 360,
) -> None:
    """Write a picture of ground truth and predictions side by side.

    Args:
        ground_truth: the dataset; its first images with annotations are shown.
        image_root: the folder of its images.
        detections: with masks.
        output: the picture's path; its folder is made if missing.
        num_images: images shown.
        columns: images in a row of the grid.
        min_score: detections of a lower box score are left out.
        height: of each image in the picture, in pixels.
    """
    shown = [i for i in sorted(ground_truth.imgs) if ground_truth.getAnnIds(imgIds=i)]
    shown = shown[:num_images]
    pairs = []
    for image_id in shown:
        info = ground_truth.imgs[image_id]
        pixels = np.asarray(Image.open(image_root / info["file_name"]).convert("RGB"))
        scale = height / pixels.shape[0]
        annotations = ground_truth.imgToAnns[image_id]
        truth = _draw(pixels, scale, [_truth(ground_truth, a) for a in annotations])
        found = _draw(pixels, scale, _found(ground_truth, detections.of_image(image_id), min_score))
        pairs.append((truth, found))
    output.parent.mkdir(parents=True, exist_ok=True)
    _compose(pairs, columns).save(output)


class _Object(NamedTuple):
    """What is drawn of an instance or a detection."""

    mask: np.ndarray  # (H, W)
    bbox: list[float]  # x, y, w, h
    label: str
    color: tuple[float, float, float]


def _color(ground_truth: COCO, category_id: int) -> tuple[float, float, float]:
    return COLORS[sorted(ground_truth.cats).index(category_id) % len(COLORS)]


def _truth(ground_truth: COCO, annotation: dict) -> _Object:
    category_id = annotation["category_id"]
    label = ground_truth.cats[category_id]["name"] + (" crowd" if annotation["iscrowd"] else "")
    mask = ground_truth.annToMask(annotation)
    return _Object(mask, annotation["bbox"], label, _color(ground_truth, category_id))


def _found(ground_truth: COCO, detections: Detections, min_score: float) -> list[_Object]:
    objects = []
    for index in (detections.score >= min_score).nonzero()[0].tolist():
        category_id = int(detections.category_id[index])
        scores = [detections.score, detections.mask_score]
        scores = " | ".join(f"{score[index]:.2f}" for score in scores if score is not None)
        objects.append(
            _Object(
                mask_util.decode(detections.segmentation[index]),
                detections.bbox[index].tolist(),
                f"{ground_truth.cats[category_id]['name']} {scores}",
                _color(ground_truth, category_id),
            )
        )
    return objects


def _draw(pixels: np.ndarray, scale: float, objects: list[_Object]) -> Image.Image:
    visualizer = Visualizer(pixels, scale=scale)
    if objects:
        boxes = BoxMode.convert(
            np.array([o.bbox for o in objects]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS
        )
        visualizer.overlay_instances(
            boxes=boxes,
            masks=[o.mask for o in objects],
            labels=[o.label for o in objects],
            assigned_colors=[o.color for o in objects],
            alpha=0.4,
        )
    return Image.fromarray(visualizer.get_output().get_image())


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
