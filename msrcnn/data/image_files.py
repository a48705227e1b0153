"""Checks image files by their headers, before anything is trained on them."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from .coco_schema import image_name
from .header_cache import HeaderCache

THREADS = 16
SHOWN_FROM = 2000  # images, with which a progress bar is shown
ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # orientations that swap width and height
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # pixels of more than 8 bits


def image_problems(images: list[dict], folder: Path, *, decode: bool = False) -> list[str]:
    """Opens images, without decoding them and only if they are not in the cache of headers.

    Args:
        images: the records of a COCO-format file, whose files exist.
        folder: the directory that ``file_name`` is relative to.
        decode: decode the images wholly, without the cache of headers, to find those that are
            damaged in the middle.

    Returns:
        A message for each image that training could not read, or not as it is annotated.
    """
    cache = HeaderCache(folder, len(images), trusted=not decode)

    def problem(image: dict) -> str | None:
        return _problem(image_path(image, folder), (image["width"], image["height"]), cache, decode)

    with ThreadPoolExecutor(THREADS) as pool:
        found = tqdm(
            pool.map(problem, images),
            total=len(images),
            desc="Images",
            unit="image",
            disable=None if len(images) >= SHOWN_FROM else True,  # None: shown on terminals
            leave=False,
        )
        problems = [
            f"image {image['id']}: {image_path(image, folder)!r} {problem}"
            for image, problem in zip(images, found)
            if problem
        ]
    cache.save()
    return problems


def leaves_folder(image: dict) -> bool:
    """Whether the file name of an image may lead out of the image folder, on any system.

    Data from others could otherwise show private files in pictures and reports. Links in the folder
    are the user's own and are followed.

    Args:
        image: the record of a COCO-format file.
    """
    path = PureWindowsPath(image_name(image))  # splits at slashes and backslashes
    return bool(path.root) or ".." in path.parts


def image_path(image: dict, folder: Path) -> str:
    """Returns the path of an image as Detectron2 opens it: one that ends with ``/`` is a folder.

    Args:
        image: the record of a COCO-format file.
        folder: the directory that ``file_name`` is relative to.
    """
    return os.path.join("" if folder == Path() else folder, image_name(image))


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        size: width and height of the pixels in the file.
        turned: whether its EXIF data swap width and height.
        mode: Pillow's mode.
    """

    size: tuple[int, int]
    turned: bool
    mode: str

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
        header = Header(image.size, image.getexif().get(ORIENTATION) in TURNED, image.mode)
        if decode:
            image.load()
    return header


def _problem(path: str, expected: tuple[int, int], cache: HeaderCache, decode: bool) -> str | None:
    try:
        status = os.stat(path)
        if cache.size(path, status) == expected:
            return None
        header = read_header(path, decode=decode)
    except Exception as error:  # depends on the format; all of them mean the same
        return f"cannot be read as an image ({error}); copy it again, or convert it to PNG or JPEG"
    mode, turned, shown = header.mode, header.turned, header.shown
    if mode in DEEP:
        return f"has pixels of more than 8 bits (Pillow's mode {mode}); convert it to 8 bits"
    if shown == expected:
        cache.add(path, status, shown)
        return None
    pixels = f"has {shown[0]} x {shown[1]} pixels, but the annotations say {_product(expected)}"
    if turned:
        return f"is turned by its EXIF data, after which it {pixels}"
    if header.size[::-1] == expected:
        return f"{pixels}: width and height are swapped"
    return f"{pixels}: is it another version of the image?"


def _product(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
