"""Loads images in the orientation in which the model sees them; writes pictures."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..atomic_file import write_file
from ..data.coco_schema import image_name
from ..data.image_paths import image_path, leaves_folder
from ..data.pixels import OWN_RANGE, READ_ERRORS, read_pixels
from ..errors import UserError


def load_image(info: dict, image_root: Path) -> np.ndarray:
    """Loads an image of a dataset, rotated according to its EXIF orientation.

    Args:
        info: the image's record in the annotation file.
        image_root: image folder of the dataset; ``Path()`` if file names are whole paths.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        UserError: if the file is not in the folder or cannot be read, or its size differs from the
            annotated size.
    """
    path = path_inside(info, image_root)
    pixels = read_rgb(path)
    height, width = pixels.shape[:2]
    if (width, height) != (info["width"], info["height"]):
        raise UserError(
            f"image '{path}' has {width} x {height} pixels, but is annotated as "
            f"{info['width']} x {info['height']}: fix the annotations or the image folder"
        )
    return pixels


def image_or_none(info: dict, image_root: Path | None) -> np.ndarray | None:
    """Loads an image as an array of shape (H, W, 3), or returns ``None`` if that fails."""
    try:
        return None if image_root is None else load_image(info, image_root)
    except UserError:
        return None


def path_inside(info: dict, image_root: Path) -> str:
    """Returns the path of an image of a dataset, see :func:`~msrcnn.data.image_paths.image_path`.

    Raises:
        UserError: if it may be outside of the image folder.
    """
    if leaves_folder(info) and image_root != Path():
        raise UserError(
            f"file_name {image_name(info)!r} of image {info.get('id')} leads out of "
            f"'{image_root}': give the folder that holds all images as the image folder, and file "
            "names below it"
        )
    return image_path(info, image_root)


def read_rgb(path: str | Path) -> np.ndarray:
    """Loads an image file or URL to draw it, rotated according to its EXIF orientation.

    An image of more than 8 bits is scaled from its smallest to its largest value, regardless of
    ``INPUT.VALUE_RANGE``, so that its content is visible.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        UserError: if the file cannot be read.
    """
    try:
        return read_pixels(str(path), "RGB", OWN_RANGE)
    except READ_ERRORS as error:
        raise UserError(f"cannot read image '{path}': {error}") from error


def write_image(path: Path, picture: Image.Image) -> None:
    """Writes a picture in the format of the file's extension, atomically.

    Raises:
        UserError: if the extension is unknown, or the file cannot be written.
    """
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise UserError(f"'{path}': the file name must end in that of an image, such as .png")
    content = io.BytesIO()
    picture.save(content, kind)
    write_file(path, content.getvalue())
