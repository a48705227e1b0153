"""Images as users have them."""

from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import _apply_exif_orientation
from PIL import Image

from ..errors import UserError
from ..visualization import read_rgb

ImageInput = str | Path | Image.Image | np.ndarray


def as_rgb(image: ImageInput) -> np.ndarray:
    """Returns the pixels of an image.

    Args:
        image: a path, an ``http(s)`` URL, a PIL image, or a uint8 array of shape (H, W, 3), RGB, or
            (H, W), grey. Files and PIL images are rotated by their EXIF orientation.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        UserError: if a file cannot be read, or an array has another type or shape.
    """
    if isinstance(image, (str, Path)):
        return read_rgb(image)
    if isinstance(image, Image.Image):
        return np.asarray(_apply_exif_orientation(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"an image of type {type(image).__name__}: give a path, a PIL image or an array"
        )
    if image.dtype != np.uint8:
        raise UserError(
            f"an array of type {image.dtype}: give uint8 pixels from 0 to 255, scaled as the "
            "images of the training"
        )
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"an array of shape {image.shape}: give (H, W, 3), RGB, or (H, W), grey")
    return image
