"""Where the masks of annotations are, and which of them are damaged or empty."""

import itertools
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from .rle_counts import Runs, listed_counts, rle_counts

CHUNK = 20_000  # annotations read together
SHOWN_FROM = 200_000  # annotations, with which a progress bar is shown


@dataclass
class MaskExtents:
    """The masks of N annotations.

    Attributes:
        boxes: array of shape (N, 4), the box (x0, y0, x1, y1) around each mask; zeros around an
            empty one, and the annotated box where there is no mask.
        flat: bool array of shape (N,), whether all polygons together have no area.
        empty_rle: bool array of shape (N,), whether it is RLE without foreground.
        damaged: messages by row, for masks that cannot be read.
    """

    boxes: np.ndarray
    flat: np.ndarray
    empty_rle: np.ndarray
    damaged: dict[int, str] = field(default_factory=dict)


def mask_extents(annotations: list[dict], sizes: dict[int, tuple[int, int]]) -> MaskExtents:
    """Reads the masks of annotations.

    Args:
        annotations: annotations whose values have the types of the schema.
        sizes: width and height of each image, by id.
    """
    number = len(annotations)
    extents = MaskExtents(np.zeros((number, 4)), np.zeros(number, bool), np.zeros(number, bool))
    hidden = None if number >= SHOWN_FROM else True  # None: shown on terminals
    with tqdm(total=number, desc="Masks", unit="mask", disable=hidden, leave=False) as bar:
        for start in range(0, number, CHUNK):
            _read(extents, start, annotations[start : start + CHUNK], sizes)
            bar.update(CHUNK)
    return extents


def _read(extents: MaskExtents, first: int, annotations: list[dict], sizes: dict) -> None:
    """Reads some of the annotations; those of a kind together, as arrays."""
    polygons, compressed, listed = [], [], []
    for row, annotation in enumerate(annotations, start=first):
        segmentation = annotation.get("segmentation")
        if not segmentation:
            x, y, width, height = annotation["bbox"]
            extents.boxes[row] = (x, y, x + width, y + height)
        elif problem := _problem(segmentation, sizes[annotation["image_id"]]):
            extents.damaged[row] = f"annotation {annotation['id']}: {problem}"
        elif isinstance(segmentation, list):
            polygons.append(row)
        else:
            (compressed if isinstance(segmentation["counts"], str) else listed).append(row)
    if polygons:
        masks = [annotations[row - first]["segmentation"] for row in polygons]
        extents.boxes[polygons], extents.flat[polygons] = _polygons(masks)
    for rows, decode in ((compressed, rle_counts), (listed, listed_counts)):
        if not rows:
            continue
        masks = [annotations[row - first]["segmentation"] for row in rows]
        runs = decode([mask["counts"] for mask in masks])
        boxes, empty, problems = run_boxes(runs, np.array([mask["size"] for mask in masks]))
        extents.boxes[rows], extents.empty_rle[rows] = boxes, empty
        for index, problem in problems.items():
            annotation = annotations[rows[index] - first]
            extents.damaged[rows[index]] = f"annotation {annotation['id']}: {problem}"


def _problem(segmentation: list | dict, size: tuple[int, int]) -> str | None:
    """Says why a mask cannot be read in an image of the given width and height."""
    if isinstance(segmentation, list):
        if any(len(polygon) % 2 for polygon in segmentation):
            return (
                "a polygon of its segmentation has an odd number of values; they are x, y in turn"
            )
    elif segmentation["size"] != [*size[::-1]]:
        return (
            f"its RLE segmentation has size {segmentation['size']}, but its image has size "
            f"{[*size[::-1]]} (height, width)"
        )
    return None


def _polygons(masks: list[list[list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes (N, 4) around N masks of polygons, and whether they have no area."""
    lengths = np.array([len(polygon) // 2 for mask in masks for polygon in mask])
    values = itertools.chain.from_iterable(itertools.chain.from_iterable(masks))
    points = np.fromiter(values, dtype=float, count=2 * lengths.sum()).reshape(-1, 2)
    starts = np.cumsum(lengths) - lengths  # of polygons, in points
    numbers = np.array([len(mask) for mask in masks])
    first = np.cumsum(numbers) - numbers  # of masks, in polygons
    low = np.minimum.reduceat(points, starts[first])
    high = np.maximum.reduceat(points, starts[first])
    with np.errstate(all="ignore"):  # coordinates may be far outside
        # From the first point of each polygon, so that nothing is lost far from the origin.
        points -= np.repeat(points[starts], lengths, axis=0)
        following = np.roll(points, -1, axis=0)
        following[starts - 1] = 0  # the first point
        areas = np.abs(
            np.add.reduceat(points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0], starts)
        )
        flat = np.add.reduceat(areas, first) == 0
    return np.concatenate([low, high], axis=1), flat


def run_boxes(runs: Runs, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Returns the boxes around N RLE masks.

    Args:
        runs: the run lengths of the masks.
        sizes: int64 array of shape (N, 2), the height and width of each.

    Returns:
        Array of shape (N, 4), the box (x0, y0, x1, y1) around each mask, zeros if it has no
        foreground or cannot be read; bool array of shape (N,), whether it has no foreground; and
        the reasons why masks cannot be read, by index.
    """
    values, numbers, damaged = runs
    heights, pixels = sizes[:, 0], sizes.prod(axis=1)
    sums = np.concatenate([[0], np.cumsum(values)])
    last = np.cumsum(numbers)
    offset = sums[last - numbers]
    total = sums[last] - offset
    wrong = damaged | (total != pixels)
    problems = {
        index: "the counts of its RLE segmentation are damaged; encode the mask again"
        if damaged[index]
        else f"the counts of its RLE segmentation add up to {total[index]}, but its image has "
        f"{pixels[index]} pixels"
        for index in np.flatnonzero(wrong).tolist()
    }
    mask = np.repeat(np.arange(len(numbers)), numbers)  # of each run
    foreground = (np.arange(len(values)) - np.repeat(last - numbers, numbers)) % 2 == 1
    kept = np.flatnonzero(foreground & (values > 0) & ~wrong[mask])
    mask = mask[kept]
    ends = sums[1:][kept] - offset[mask]
    starts, height = ends - values[kept], heights[mask]
    # Runs go down the columns; one that reaches the next column covers the whole height.
    (left, top), (right, bottom) = np.divmod(starts, height), np.divmod(ends - 1, height)
    wraps = left != right
    boxes, empty = np.zeros((len(numbers), 4)), ~wrong
    first = np.flatnonzero(np.diff(mask, prepend=-1))
    if len(first):
        boxes[mask[first]] = np.stack(
            [
                np.minimum.reduceat(left, first),
                np.minimum.reduceat(np.where(wraps, 0, top), first),
                np.maximum.reduceat(right, first) + 1,
                np.maximum.reduceat(np.where(wraps, height - 1, bottom), first) + 1,
            ],
            axis=1,
        )
        empty[mask[first]] = False
    return boxes, empty, problems
