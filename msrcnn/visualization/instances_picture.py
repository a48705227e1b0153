"""Draws numbered masks or boxes over a whole image; fast for images with many of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image, ImageDraw, ImageFont

LONG_SIDE = 400  # pixels of a picture
OPACITY = 0.5
FONT_SIZE = 20  # readable where the picture is shown at half its size


class Shape(NamedTuple):
    """An instance or a detection to draw."""

    mask: dict | None  # RLE; None draws the box
    bbox: np.ndarray  # x, y, width, height in pixels of the image
    color: tuple[float, float, float]  # RGB in [0, 1]
    label: str


def draw_instances(pixels: np.ndarray, shapes: list[Shape]) -> Image.Image:
    """Draws shapes over an image that is resized to a long side of ``LONG_SIDE``.

    Args:
        pixels: uint8 array of shape (H, W, 3), RGB.
        shapes: the last ones are on top.
    """
    height, width = pixels.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    # The nearest pixel of the image for each one of the picture.
    columns = ((np.arange(size[0]) + 0.5) * width / size[0]).astype(int)
    rows = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(int)
    owner = np.zeros(size[::-1], dtype=int)  # number of the topmost shape, from 1; 0 is none
    for number, shape in enumerate(shapes, start=1):
        if shape.mask is not None:
            owner[mask_util.decode(shape.mask)[np.ix_(rows, columns)] > 0] = number
    picture = _colored(picture, owner, shapes)
    draw = ImageDraw.Draw(picture)
    for shape in shapes:
        x, y, w, h = (shape.bbox * scale).tolist()
        if shape.mask is None:
            color = tuple(round(255 * value) for value in shape.color)
            draw.rectangle((x, y, x + max(w, 1), y + max(h, 1)), outline=color, width=2)
    for shape in shapes:
        x, y, w, h = (shape.bbox * scale).tolist()
        _label(draw, shape.label, (x + w / 2, y + h / 2), size)
    return picture


def _colored(picture: Image.Image, owner: np.ndarray, shapes: list[Shape]) -> Image.Image:
    """Tints the pixels of each mask, and draws its edge."""
    colors = 255 * np.array([(0, 0, 0), *(shape.color for shape in shapes)])[owner]
    edge = np.zeros(owner.shape, dtype=bool)
    edge[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    edge[1:] |= owner[1:] != owner[:-1]
    share = np.where(owner > 0, OPACITY, 0.0)
    share[edge] = 1.0  # on the right and lower side, the first pixel outside is black
    mixed = (1 - share[..., None]) * np.asarray(picture) + share[..., None] * colors
    return Image.fromarray(mixed.round().astype(np.uint8))


def _label(
    draw: ImageDraw.ImageDraw, text: str, center: tuple[float, float], size: tuple[int, int]
) -> None:
    """Writes white on black, within the picture."""
    if not text:
        return
    font = ImageFont.load_default(size=FONT_SIZE)
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    w, h = right - left + 4, bottom - top + 4
    x, y = (min(max(c - e / 2, 0), max(s - e, 0)) for c, e, s in zip(center, (w, h), size))
    draw.rectangle((x, y, x + w - 1, y + h - 1), fill="black")
    draw.text((x + 2 - left, y + 2 - top), text, "white", font)
