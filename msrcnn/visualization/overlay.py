"""Boxes, masks and labels over an image."""

from typing import NamedTuple

import numpy as np
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import Visualizer
from PIL import Image

# Of the classes, in turn.
COLORS = [
    tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))
    for code in ("e6194b", "4363d8", "ffe119", "3cb44b", "f58231", "911eb4", "46f0f0", "f032e6")
]


class Overlay(NamedTuple):
    """What is drawn of an instance or a detection."""

    mask: np.ndarray | None  # (H, W)
    bbox: np.ndarray  # x, y, w, h
    label: str
    color: tuple[float, float, float]


def draw_overlays(pixels: np.ndarray, scale: float, overlays: list[Overlay]) -> Image.Image:
    """An image with overlays, masks only where all of them have one.

    Args:
        pixels: of shape (H, W, 3), RGB, 0 to 255.
        scale: of the picture to the image.
        overlays: in the order to draw them.
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
