"""From an image of any depth to the pixels of the model.

Training, evaluation, prediction and drawings all read images here, and see the same pixels. Images
of 8 bits are read as Detectron2 reads them: turned upright by their EXIF orientation (which
Detectron2 applies to TIFF twice), palette and CMYK converted, transparency dropped. Images of more
than 8 bits, as of microscopes, are scaled to 8 bits by ``INPUT.VALUE_RANGE``; Pillow, and with it
Detectron2, would clip them at 255.
"""

import io
import os
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import IO
from urllib.request import urlopen

import numpy as np
from detectron2.data.detection_utils import _apply_exif_orientation, convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import Image

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of more than 8 bits
UNREADABLE = ("LAB", "La")  # modes that Pillow does not convert to RGB
# Pillow reads colors of 16 bits as their upper 8 bits, which is what this range means.
FULL_RANGE = (0, 65535)
# Each image has its own range. For drawings only: a model must see a value alike in all images.
OWN_RANGE = None

URL_SECONDS = 30  # without an answer
# What reading a damaged file or an unreachable URL raises, depending on the format.
READ_ERRORS = (
    *(OSError, ValueError, SyntaxError, RuntimeError),
    *(HTTPException, Image.DecompressionBombError),
)

ValueRange = Sequence[float] | None
Look = Callable[[np.ndarray | None], None]


def no_look(values: np.ndarray | None) -> None:
    """Looks at nothing."""


def read_pixels(path: str, image_format: str, value_range: ValueRange) -> np.ndarray:
    """Reads an image file or URL, like Detectron2's ``read_image`` but also of more than 8 bits.

    Args:
        path: the file.
        image_format: ``INPUT.FORMAT``.
        value_range: see :func:`eight_bits`.

    Returns:
        Array of shape (H, W, C) in the format.

    Raises:
        Exception: one of ``READ_ERRORS``, if it cannot be read.
    """
    return convert_PIL_to_numpy(open_picture(path, value_range), image_format)


def open_picture(path: str, value_range: ValueRange, look: Look = no_look) -> Image.Image:
    """Reads an image file or URL, upright and of 8 bits; see :func:`read_pixels`.

    Args:
        path, value_range: see :func:`read_pixels`.
        look: see :func:`upright_picture`.
    """
    with _open(path) as file:
        picture = upright_picture(Image.open(file), value_range, look)
        picture.load()
    return picture


def _open(path: str) -> IO[bytes]:
    """Opens a file or URL.

    Detectron2's PathManager keeps a file of each URL, by the path without the host, and reads it
    again even if the picture has changed, or is that of another host.
    """
    path = os.fspath(path)  # of datasets of Python functions
    if path.startswith(("http://", "https://")):
        with urlopen(path, timeout=URL_SECONDS) as response:
            return io.BytesIO(response.read())
    return PathManager.open(path, "rb")


def upright_picture(
    image: Image.Image, value_range: ValueRange, look: Look = no_look
) -> Image.Image:
    """Turns an image by its EXIF orientation, and scales it to 8 bits if it has more.

    Args:
        image: the image.
        value_range: see :func:`eight_bits`.
        look: gets the values of the image before they are scaled, or ``None`` if it has 8 bits.

    Raises:
        ValueError: see :func:`pixel_problem` and :func:`eight_bits`.
    """
    raw = raw_mode(image)  # before the pixels are loaded
    if problem := pixel_problem(image.mode, raw, value_range):
        raise ValueError(f"it {problem}")
    image.load()  # Pillow turns TIFF then, and says so only afterwards: it would be turned twice
    upright = _apply_exif_orientation(image)
    if upright.mode not in DEEP:
        if ";16" not in raw:
            look(None)
        return upright
    values = np.asarray(upright)
    scaled = eight_bits(values, value_range)
    look(values)
    return Image.fromarray(scaled)


def eight_bits(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Scales the values of an image linearly to 0 to 255, and rounds them.

    Args:
        values: an array of any shape and type.
        value_range: the values that become 0 and 255, ``INPUT.VALUE_RANGE``; those beyond become 0
            or 255, too. ``OWN_RANGE``: the smallest and the largest value of the image.

    Returns:
        uint8 array of the same shape.

    Raises:
        ValueError: if a value is not finite.
    """
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are NaN or infinite")
    low, high = (values.min(), values.max()) if value_range is OWN_RANGE else value_range
    # An image of one value has no range of its own.
    levels = (values - low) * (255 / (high - low) if high > low else 0)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def pixel_problem(mode: str, raw: str, value_range: ValueRange) -> str | None:
    """Says why an image cannot be read with a range of values, or ``None`` if it can.

    Args:
        mode: Pillow's mode of the image.
        raw: see :func:`raw_mode`.
        value_range: ``INPUT.VALUE_RANGE``, where ``()`` stands for images of 8 bits, or
            ``OWN_RANGE``.
    """
    if mode in UNREADABLE:
        return f"has colors that Pillow cannot convert (mode {mode}); convert it to RGB"
    own = value_range is OWN_RANGE
    if mode in DEEP and not own and not value_range:
        return (
            f"has pixels of more than 8 bits (Pillow's mode {mode}); set INPUT.VALUE_RANGE to the "
            "values that become black and white, or convert it to 8 bits"
        )
    deep_colors = mode not in DEEP and ";16" in raw
    if deep_colors and not own and tuple(value_range) != FULL_RANGE:
        return (
            "has colors of 16 bits, of which Pillow reads the upper 8 bits; set INPUT.VALUE_RANGE "
            f'"{FULL_RANGE}" if they use them, or convert it to 8 bits'
        )
    return None


def raw_mode(image: Image.Image) -> str:
    """Returns how the pixels are stored in the file, such as ``RGB;16B``, before they are loaded.

    Returns:
        Pillow's raw mode, or ``""`` if it is not known.
    """
    for tile in getattr(image, "tile", None) or ():
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return first if isinstance(first, str) else ""
    return ""
