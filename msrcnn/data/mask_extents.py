"""Where the masks of annotations are, and which of them are damaged or empty."""

from dataclasses import dataclass

import numpy as np

from .rle_counts import rle_counts


@dataclass(frozen=True)
class MaskExtents:
    """The masks of N annotations.

    Attributes:
        boxes: array of shape (N, 4), the box (x0, y0, x1, y1) around each mask; zeros around an
            empty one.
        flat: bool array of shape (N,), whether all polygons together have no area.
        empty_rle: bool array of shape (N,), whether it is RLE without foreground.
        damaged: messages by row, for masks that cannot be read.
    """

    boxes: np.ndarray
    flat: np.ndarray
    empty_rle: np.ndarray
    damaged: dict[int, str]


def mask_extents(annotations: list[dict], sizes: dict[int, tuple[int, int]]) -> MaskExtents:
    """Reads the masks of annotations.

    Args:
        annotations: of the types of the schema.
        sizes: width and height of each image, by id.
    """
    number = len(annotations)
    boxes = np.zeros((number, 4))
    flat, empty = np.zeros(number, dtype=bool), np.zeros(number, dtype=bool)
    damaged = {}
    for row, annotation in enumerate(annotations):
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            box = _rle_box(segmentation, sizes[annotation["image_id"]])
            empty[row] = box is None
        else:
            box, flat[row] = _polygon_box(segmentation)
        if isinstance(box, str):
            damaged[row] = f"annotation {annotation['id']}: {box}"
        elif box is not None:
            boxes[row] = box
    return MaskExtents(boxes, flat, empty, damaged)


def _polygon_box(polygons: list[list[float]]) -> tuple[list[float] | str, bool]:
    """Returns the box, or what is wrong with the polygons, and whether they have no area."""
    if any(len(polygon) % 2 for polygon in polygons):
        return (
            "a polygon of its segmentation has an odd number of values; they are x, y in turn",
            False,
        )
    points = [np.array(polygon, dtype=float).reshape(-1, 2) for polygon in polygons]
    area = 0.0
    for polygon in points:
        x, y = (polygon - polygon[0]).T
        area += abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    together = np.concatenate(points)
    return [*together.min(axis=0), *together.max(axis=0)], area == 0


def _rle_box(rle: dict, size: tuple[int, int]) -> np.ndarray | str | None:
    """Returns the box, what is wrong with the RLE, or ``None`` if it is empty."""
    width, height = size
    if rle["size"] != [height, width]:
        return (
            f"its RLE segmentation has size {rle['size']}, but its image has size "
            f"{[height, width]} (height, width)"
        )
    counts = rle_counts(rle["counts"])
    if counts is None:
        return "the counts of its RLE segmentation are damaged; encode the mask again"
    if counts.sum() != width * height:
        return (
            f"the counts of its RLE segmentation add up to {counts.sum()}, but its image has "
            f"{width * height} pixels"
        )
    ends = np.cumsum(counts)
    starts, ends = ends[0::2][: len(counts) // 2], ends[1::2]
    filled = ends > starts
    if not filled.any():
        return None
    starts, ends = starts[filled], ends[filled] - 1
    # Runs go down the columns; one that reaches the next column covers the whole height.
    wraps = starts // height != ends // height
    top = np.where(wraps, 0, starts % height).min()
    bottom = np.where(wraps, height - 1, ends % height).max()
    left, right = (starts // height).min(), (ends // height).max()
    return np.array([left, top, right + 1, bottom + 1], dtype=float)
