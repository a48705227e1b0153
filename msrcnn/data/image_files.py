"""Checks image files by their headers, before anything is trained on them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

THREADS = 16
SHOWN_FROM = 2000  # images, with which a progress bar is shown
ORIENTATION = 0x0112  # EXIF tag
TURNED = (5, 6, 7, 8)  # orientations that swap width and height
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # pixels of more than 8 bits


def image_problems(images: list[dict], folder: Path) -> list[str]:
    """Opens images without decoding them.

    Args:
        images: the records of a COCO-format file, whose files exist.
        folder: the directory that ``file_name`` is relative to.

    Returns:
        A message for each image that training could not read, or not as it is annotated.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda image: _problem(folder / image["file_name"], image), images)
        shown = tqdm(
            found, total=len(images), desc="Images", unit="image", disable=len(images) < SHOWN_FROM
        )
        return [
            f"image {image['id']}: '{folder / image['file_name']}' {problem}"
            for image, problem in zip(images, shown)
            if problem
        ]


def _problem(path: Path, record: dict) -> str | None:
    if path.stat().st_size == 0:
        return "is empty; copy it again"
    try:
        with Image.open(path) as image:
            size, mode = image.size, image.mode
            turned = image.getexif().get(ORIENTATION) in TURNED
    except Exception as error:  # depends on the format; all of them mean the same
        return f"cannot be read as an image ({error}); copy it again, or convert it to PNG or JPEG"
    if mode in DEEP:
        return f"has pixels of more than 8 bits (Pillow's mode {mode}); convert it to 8 bits"
    expected = (record["width"], record["height"])
    shown = size[::-1] if turned else size
    if shown == expected:
        return None
    pixels = f"has {shown[0]} x {shown[1]} pixels, but the annotations say {_product(expected)}"
    if turned:
        return f"is turned by its EXIF data, after which it {pixels}"
    if size[::-1] == expected:
        return f"{pixels}: width and height are swapped"
    return f"{pixels}: is it another version of the image?"


def _product(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
