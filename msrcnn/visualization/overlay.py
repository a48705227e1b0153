"""Draws boxes, masks and labels over an image."""

from typing import NamedTuple

import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import Visualizer
from PIL import Image

# Colors of the classes, repeated if there are more classes.
COLORS = [
    tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    for code in ("e6194b", "4363d8", "ffe119", "3cb44b", "f58231", "911eb4", "46f0f0", "f032e6")
]


class Overlay(NamedTuple):
    """An instance or a detection to draw."""

    mask: np.ndarray | None  # of shape (H, W)
    bbox: np.ndarray  # x, y, width, height in pixels
    label: str
    color: tuple[float, float, float]  # RGB in [0, 1]


def draw_overlays(pixels: np.ndarray, scale: float, overlays: list[Overlay]) -> Image.Image:
    """Draws overlays over an image. Masks are drawn only if every overlay has one.

    Args:
        pixels: uint8 array of shape (H, W, 3), RGB.
        scale: size of the result relative to the image.
        overlays: the overlays, in drawing order.
    """
    visualizer = Visualizer(pixels, scale=scale)
    if overlays:
        boxes = BoxMode.convert(
            np.array([o.bbox for o in overlays]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS
        )
        visualizer.overlay_instances(
            boxes=boxes,
            masks=None if any(o.mask is None for o in overlays) else [o.mask for o in overlays],
            labels=[o.label for o in overlays],
            assigned_colors=[o.color for o in overlays],
            alpha=0.4,
        )
    return Image.fromarray(visualizer.get_output().get_image())
