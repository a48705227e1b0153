"""What the readers of labels in one file per image share."""

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from .mask_rle import as_rle

LISTED = 10  # mistakes
ENCODING = "utf-8-sig"  # UTF-8, also with the mark that programs on Windows put at the beginning
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def of_polygons(points: list[np.ndarray], height: int, width: int) -> dict:
    """Returns the geometry of an instance in COCO's format.

    Args:
        points: corners of each of its polygons, of shape (P, 2), in pixels.
        height, width: size of the image.
    """
    polygons = [each.ravel().tolist() for each in points]
    return {
        "bbox": box_around(points),
        "area": float(mask_util.area(as_rle(polygons, height, width))),
        "segmentation": polygons,
    }


def box_around(points: list[np.ndarray]) -> list[float]:
    """Returns the box (x, y, width, height) of some points."""
    low, high = np.concatenate(points).min(0), np.concatenate(points).max(0)
    return [*low.tolist(), *(high - low).tolist()]


def picture_names(folder: Path) -> list[str]:
    """Returns the names of the images in a folder and its subfolders, relative to it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    found = (path for path in files if path.suffix.lower() in PICTURES)
    return [path.relative_to(folder).as_posix() for path in found]
