"""The images of a dataset, as the model saw them."""

from pathlib import Path

import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..errors import UserError


def image_name(info: dict) -> str:
    """The file name of an image below the dataset's folder of images.

    Args:
        info: its record in the annotations. Those of LVIS have no name, but an address that ends
            in it; Detectron2 takes the last two parts.
    """
    return str(info.get("file_name") or "/".join(info.get("coco_url", "").split("/")[-2:]))


def load_image(info: dict, image_root: Path) -> np.ndarray:
    """An image as RGB, (H, W, 3), turned as its EXIF data say.

    Args:
        info: its record in the annotations.
        image_root: the folder of the dataset's images.

    Raises:
        UserError: if it is not there, cannot be read, or is of another size than annotated.
    """
    path = Path(image_root) / image_name(info)
    pixels = read_rgb(path)
    height, width = pixels.shape[:2]
    if (width, height) != (info["width"], info["height"]):
        raise UserError(
            f"image '{path}' has {width} x {height} pixels, in the annotations it has "
            f"{info['width']} x {info['height']}"
        )
    return pixels


def read_rgb(path: Path) -> np.ndarray:
    """An image as RGB, (H, W, 3), turned as its EXIF data say.

    Raises:
        UserError: if it is not there or cannot be read.
    """
    try:
        return read_image(str(path), "RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read image '{path}': {error}") from error
