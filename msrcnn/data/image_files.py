"""Checks image files by their headers, before anything is trained on them."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from tqdm import tqdm

from .header_cache import HeaderCache
from .image_paths import image_path
from .image_values import THREADS, suggestion, values_in
from .pixels import DEEP, ValueRange, pixel_problem, raw_mode

SHOWN_FROM = 2000  # images, with which a progress bar is shown
ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # orientations that swap width and height


def image_problems(
    images: list[dict], folder: Path, *, decode: bool = False, value_range: ValueRange = ()
) -> list[str]:
    """Opens images, without decoding them and only if they are not in the cache of headers.

    Args:
        images: the records of a COCO-format file, whose files exist.
        folder: the directory that ``file_name`` is relative to.
        decode: decode the images completely, without the cache of headers, to find those that are
            damaged in the middle.
        value_range: ``INPUT.VALUE_RANGE``.

    Returns:
        A message for each image that training could not read, or not as it is annotated.
    """
    cache = HeaderCache(folder, len(images), trusted=not decode)
    deep: set[str] = set()  # images of more than 8 bits that are not expected

    def problem(image: dict) -> str | None:
        path, expected = image_path(image, folder), (image["width"], image["height"])
        try:
            status = os.stat(path)
            if cache.size(path, status) == expected:
                return None
            header = read_header(path, decode=decode)
        except Exception as error:  # depends on the format; all of them mean the same
            return (
                f"cannot be read as an image ({error}); copy it again, or convert it to PNG or JPEG"
            )
        if found := pixel_problem(header.mode, header.raw, value_range):
            deep.update([path] if header.mode in DEEP else [])
            return found
        if header.shown != expected:
            return _size_problem(header, expected)
        # The cache does not know the depth.
        if header.mode not in DEEP and ";16" not in header.raw:
            cache.add(path, status, header.shown)
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        found = tqdm(
            pool.map(problem, images),
            total=len(images),
            desc="Images",
            unit="image",
            disable=None if len(images) >= SHOWN_FROM else True,  # None: shown on terminals
            leave=False,
        )
        problems = [(image, problem) for image, problem in zip(images, found) if problem]
    cache.save()
    values = values_in(sorted(deep))
    hint = f"; {values}" if values else ""
    if values and (usual := suggestion(values)):
        hint += f": {usual}"
    messages = []
    for image, problem in problems:
        path = image_path(image, folder)
        messages.append(f"image {image['id']}: {path!r} {problem}{hint if path in deep else ''}")
    return messages


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        size: width and height of the pixels in the file.
        turned: whether its EXIF data swap width and height.
        mode: Pillow's mode.
        raw: how the pixels are stored, see :func:`~.pixels.raw_mode`.
    """

    size: tuple[int, int]
    turned: bool
    mode: str
    raw: str

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as training sees the image."""
        return self.size[::-1] if self.turned else self.size


def read_header(path: str, *, decode: bool = False) -> Header:
    """Reads the header of an image.

    Args:
        path: the file.
        decode: also decode the image.

    Raises:
        Exception: of a type that depends on the format, if it cannot be read.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise OSError("it is not a file")
    if status.st_size == 0:
        raise OSError("it is empty")
    with Image.open(path) as image:
        raw = raw_mode(image)  # before the EXIF data, for which Pillow may load the pixels
        turned = image.getexif().get(ORIENTATION) in TURNED
        size = image.size
        if isinstance(image, TiffImageFile):  # newer versions of Pillow have turned it already
            size = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
        header = Header(size, turned, image.mode, raw)
        if decode:
            image.load()
    return header


def _size_problem(header: Header, expected: tuple[int, int]) -> str:
    shown = header.shown
    pixels = f"has {shown[0]} x {shown[1]} pixels, but the annotations say {_product(expected)}"
    if header.turned:
        return f"is turned by its EXIF data, after which it {pixels}"
    if header.size[::-1] == expected:
        return f"{pixels}: width and height are swapped"
    return f"{pixels}: is it another version of the image?"


def _product(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
