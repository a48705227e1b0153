"""Loads images in the orientation in which the model sees them."""

from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..data.coco_schema import image_name
from ..errors import UserError


def load_image(info: dict, image_root: Path) -> np.ndarray:
    """Loads an image of a dataset, rotated according to its EXIF orientation.

    Args:
        info: the image's record in the annotation file.
        image_root: image folder of the dataset.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        UserError: if the file cannot be read, or its size differs from the annotated size.
    """
    path = Path(image_root) / image_name(info)
    pixels = read_rgb(path)
    height, width = pixels.shape[:2]
    if (width, height) != (info["width"], info["height"]):
        raise UserError(
            f"image '{path}' has {width} x {height} pixels, but is annotated as "
            f"{info['width']} x {info['height']}: fix the annotations or the image folder"
        )
    return pixels


def read_rgb(path: Path) -> np.ndarray:
    """Loads an image file, rotated according to its EXIF orientation.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        UserError: if the file cannot be read.
    """
    try:
        return read_image(str(path), "RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read image '{path}': {error}") from error
