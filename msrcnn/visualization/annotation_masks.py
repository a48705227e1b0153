"""Masks of annotations to draw; of annotations with errors, too."""

from __future__ import annotations

import numpy as np

from ..data.coco_schema import has_readable_mask
from ..data.mask_extents import mask_extents
from ..data.mask_rle import as_rle
from ..data.mask_rules import FAR


def is_near(bbox: np.ndarray, size: tuple[int, int]) -> bool:
    """Says whether a box can be drawn in an image of the given height and width."""
    return bool(np.isfinite(bbox).all() and np.abs(bbox).max() <= FAR * max(size))


def annotation_mask(annotation: dict, size: tuple[int, int]) -> dict | None:
    """Returns the mask of an annotation as compressed RLE, or ``None`` if there is none to draw.

    Args:
        annotation: a record of an annotation file, of any content.
        size: height and width of its image.
    """
    segmentation = annotation.get("segmentation")
    if not segmentation or not has_readable_mask(segmentation):
        return None
    one = {"id": 0, "image_id": 0, "segmentation": segmentation}
    extents = mask_extents([one], {0: size[::-1]})
    # The memory for a polygon grows with its distance from the image.
    if extents.damaged or not is_near(extents.boxes, size):
        return None
    return as_rle(segmentation, *size)
