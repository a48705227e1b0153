"""Draws boxes, masks and labels over an image."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import VisImage, Visualizer
from matplotlib.text import Text
from PIL import Image

from .fonts import as_label, font_families

# Colors of the classes, repeated if there are more classes.
COLORS = [
    tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    for code in ("e6194b", "4363d8", "ffe119", "3cb44b", "f58231", "911eb4", "46f0f0", "f032e6")
]

MARGIN = 3  # pixels around a label, for its background
MIN_SCORE = 0.5  # box score of a detection that is drawn over an image


def class_color(index: int) -> tuple[float, float, float]:
    """Returns the color of a class by its index in a model."""
    return COLORS[index % len(COLORS)]


def category_color(category_ids: Iterable[int], category_id: int) -> tuple[float, float, float]:
    """Returns the color of one of the categories of a dataset: a model has them by their ids."""
    return class_color(sorted(category_ids).index(category_id))


class Overlay(NamedTuple):
    """An instance or a detection to draw."""

    mask: np.ndarray | None  # of shape (H, W)
    bbox: np.ndarray  # x, y, width, height in pixels
    name: str
    scores: str  # follows the name in the label
    color: tuple[float, float, float]  # RGB in [0, 1]


def draw_overlays(pixels: np.ndarray, scale: float, overlays: list[Overlay]) -> Image.Image:
    """Draws overlays over an image. Masks are drawn only if every overlay has one.

    Args:
        pixels: uint8 array of shape (H, W, 3), RGB.
        scale: size of the result relative to the image; no side becomes less than a pixel.
        overlays: the overlays, in drawing order.
    """
    scale = max(scale, 1 / min(pixels.shape[:2]))
    visualizer = Visualizer(pixels, scale=scale)
    output = visualizer.output
    if overlays:
        boxes = BoxMode.convert(
            np.array([o.bbox for o in overlays]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS
        )
        visualizer.overlay_instances(
            boxes=boxes,
            masks=None if any(o.mask is None for o in overlays) else [*map(_mask, overlays)],
            labels=[f"{as_label(o.name)} {o.scores}".strip() for o in overlays],
            assigned_colors=[o.color for o in overlays],
            alpha=0.4,
        )
        for text in output.ax.texts:
            text.set_fontfamily(font_families())
            _move_inside(text, output)
    return Image.fromarray(output.get_image())


def _mask(overlay: Overlay) -> np.ndarray | dict:
    """Returns the mask, as RLE if it is two pixels wide: Detectron2 accepts no such array."""
    if overlay.mask.shape[1] != 2:
        return overlay.mask
    return mask_util.encode(np.asfortranarray(overlay.mask, dtype=np.uint8))


def _move_inside(text: Text, output: VisImage) -> None:
    """Moves a label that the edge of the picture would cut off; a label too wide gets smaller."""
    width, height = output.canvas.get_width_height()
    renderer = output.canvas.get_renderer()
    extent = text.get_window_extent(renderer)
    if extent.width > width - 2 * MARGIN:
        text.set_fontsize(text.get_fontsize() * (width - 2 * MARGIN) / extent.width)
        extent = text.get_window_extent(renderer)
    shift = [
        max(MARGIN - low, 0) + min(size - MARGIN - high, 0)
        for low, high, size in (
            (extent.x0, extent.x1, width),
            (extent.y0, extent.y1, height),
        )
    ]
    to_pixels = output.ax.transData
    position = to_pixels.transform(text.get_position()) + shift
    text.set_position(to_pixels.inverted().transform(position))
