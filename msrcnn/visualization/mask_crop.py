"""Square crops of images and masks around objects."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image, ImageEnhance, ImageFilter

SIDE = 320  # size of a picture in pixels
CONTEXT = 0.2  # margin around the objects, relative to the longer side of their bounding box
MIN_SIDE = 32  # minimum size of the crop, in pixels of the image
SATURATION = 0.3  # of the image, so that the colors of the masks stand out
BACKGROUND = (200, 200, 200)  # replaces a missing image, and fills the area outside an image


def square_around(boxes: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
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


def crop_photo(pixels: np.ndarray, window: tuple[int, int, int, int]) -> Image.Image:
    """Crops an image of shape (H, W, 3) and resizes the crop to the size of a picture."""
    square = _crop(pixels, window, BACKGROUND).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return ImageEnhance.Color(square).enhance(SATURATION)


def crop_mask(rle: dict, window: tuple[int, int, int, int]) -> Image.Image:
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


def outline(
    picture: Image.Image, mask: Image.Image, color: tuple[int, int, int], width: int
) -> None:
    """Draws the inner edge of a mask, and a dark line around it for contrast."""
    inside = np.asarray(mask)
    # The filters repeat the border, so the edge of the picture is not drawn as an edge of the mask.
    inner = np.asarray(mask.filter(ImageFilter.MinFilter(2 * width + 1)))
    outer = np.asarray(mask.filter(ImageFilter.MaxFilter(3)))
    picture.paste((30, 30, 30), mask=Image.fromarray(outer - inside))
    picture.paste(color, mask=Image.fromarray(inside - inner))
