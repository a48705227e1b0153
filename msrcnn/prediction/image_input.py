"""Images as users have them."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..data.pixels import (
    READ_ERRORS,
    Look,
    ValueRange,
    eight_bits,
    no_look,
    open_picture,
    upright_picture,
)
from ..errors import UserError

ImageInput = str | Path | Image.Image | np.ndarray
DEEP_TYPES = (np.uint16, np.int32)  # of arrays, as Pillow has them for its modes I;16 and I


def as_picture(
    image: ImageInput, value_range: ValueRange = (), look: Look = no_look
) -> Image.Image:
    """Returns an image upright and of 8 bits, as it would be in training.

    Args:
        image: a path, an ``http(s)`` URL, a PIL image, or an array of shape (H, W, 3), RGB, or
            (H, W) or (H, W, 1), grey. Files and PIL images are rotated by their EXIF orientation.
            Arrays are of type uint8; with a range of values also uint16 and int32.
        value_range: ``INPUT.VALUE_RANGE`` of the model; see
            :func:`~msrcnn.data.pixels.eight_bits`.
        look: see :func:`~msrcnn.data.pixels.upright_picture`.

    Raises:
        UserError: if a file or a PIL image cannot be read, an image has no pixels, an array has
            another type or shape, or the image has more than 8 bits but the model no range of
            values.
    """
    if isinstance(image, (str, Path)):
        try:
            return open_picture(str(image), value_range, look)
        except READ_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error)  # that of a file has its path
            raise UserError(f"cannot read image '{image}': {reason}") from error
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise UserError(f"an image of {image.width} x {image.height} has no pixels")
        try:
            picture = upright_picture(image, value_range, look)
            picture.load()  # of a file that Pillow has only opened so far
        except READ_ERRORS as error:
            raise UserError(f"cannot use the image: {error}") from error
        return picture
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"an image of type {type(image).__name__}: give a path, a PIL image or an array"
        )
    return Image.fromarray(_pixels(image, value_range, look))


def _pixels(array: np.ndarray, value_range: ValueRange, look: Look) -> np.ndarray:
    grey = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if 0 in array.shape or not (grey.ndim == 2 or (grey.ndim == 3 and grey.shape[2] == 3)):
        raise UserError(f"an array of shape {array.shape}: give (H, W, 3), RGB, or (H, W), grey")
    if array.dtype == np.uint8:
        look(None)
        return grey
    if array.dtype not in DEEP_TYPES:
        # Whether 1.0 is white, or nearly black, is not known.
        raise UserError(
            f"an array of type {array.dtype}: give "
            + ("the values of the camera as uint16 or int32" if value_range else "uint8 pixels")
            + ", scaled as the images of the training"
        )
    if not value_range:
        raise UserError(
            f"an array of type {array.dtype}: the model knows images of 8 bits only "
            "(INPUT.VALUE_RANGE is not set); give uint8 pixels, scaled as those of the training"
        )
    look(grey)
    return eight_bits(grey, value_range)
