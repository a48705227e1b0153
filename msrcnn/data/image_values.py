"""The values in images of more than 8 bits, and whether ``INPUT.VALUE_RANGE`` fits them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .image_paths import image_path
from .pixels import DEEP

SAMPLED = 50  # images whose values are looked at
MAX_CLIPPED = 0.01  # share of the pixels beyond the range
MIN_USED = 1 / 8  # share of the range: with less, fewer than 32 levels of grey are left


class Values(NamedTuple):
    """The values in some images of more than 8 bits.

    Attributes:
        images: number of the images that were looked at.
        low: their smallest value.
        high: their largest value.
        clipped: share of their pixels that are beyond a range of values.
    """

    images: int
    low: float
    high: float
    clipped: float

    def __str__(self) -> str:
        images = "1 image has" if self.images == 1 else f"{self.images} images have"
        return f"{images} values from {self.low:g} to {self.high:g}"


def values_in(paths: Iterable[str], value_range: Sequence[float] = ()) -> Values | None:
    """Reads the values of at most ``SAMPLED`` images, evenly drawn from those of a list.

    Args:
        paths: the images; those of 8 bits, and those that cannot be read, do not count.
        value_range: the range for ``clipped``.

    Returns:
        ``None`` if no image has more than 8 bits.
    """
    paths = list(paths)
    drawn = np.unique(np.linspace(0, len(paths) - 1, min(SAMPLED, len(paths))).astype(int))
    found = [values for values in (_values(paths[index]) for index in drawn) if values is not None]
    if not found:
        return None
    low, high = value_range or (-np.inf, np.inf)
    clipped = sum(int(((values < low) | (values > high)).sum()) for values in found)
    return Values(
        len(found),
        float(min(values.min() for values in found)),
        float(max(values.max() for values in found)),
        clipped / sum(values.size for values in found),
    )


def _values(path: str) -> np.ndarray | None:
    try:
        with Image.open(path) as image:
            return np.asarray(image) if image.mode in DEEP else None
    except Exception:  # depends on the format; reported where the image is needed
        return None


def range_problems(images: list[dict], folder: Path, value_range: Sequence[float]) -> list[str]:
    """Says if many values lie beyond the range, or if they use a small part of it only.

    Args:
        images: records of a COCO-format file, whose files can be read.
        folder: the directory that ``file_name`` is relative to.
        value_range: ``INPUT.VALUE_RANGE``.

    Returns:
        At most one message.
    """
    values = values_in([image_path(image, folder) for image in images], value_range)
    if values is None:
        return []
    low, high = value_range
    shown = f"INPUT.VALUE_RANGE ({low:g}, {high:g})"
    if values.clipped > MAX_CLIPPED:
        return [
            f"{values}; {values.clipped:.0%} of the pixels are beyond {shown} and become black or "
            "white"
        ]
    if values.high - values.low < MIN_USED * (high - low):
        return [f"{values}, a small part of {shown}: nearly all contrast is lost"]
    return []
