"""Where the masks of annotations are, and which of them are damaged or empty."""

import itertools
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from .rle_counts import rle_counts

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
        annotations: of the types of the schema.
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
    rows = {"polygons": [], "compressed": [], "counts": []}
    for row, annotation in enumerate(annotations, start=first):
        segmentation = annotation.get("segmentation")
        if not segmentation:
            x, y, width, height = annotation["bbox"]
            extents.boxes[row] = (x, y, x + width, y + height)
        elif isinstance(segmentation, list):
            if any(len(polygon) % 2 for polygon in segmentation):
                extents.damaged[row] = (
                    f"annotation {annotation['id']}: a polygon of its segmentation has an odd "
                    "number of values; they are x, y in turn"
                )
            else:
                rows["polygons"].append(row)
        else:
            width, height = sizes[annotation["image_id"]]
            if segmentation["size"] != [height, width]:
                extents.damaged[row] = (
                    f"annotation {annotation['id']}: its RLE segmentation has size "
                    f"{segmentation['size']}, but its image has size {[height, width]} (height, "
                    "width)"
                )
            else:
                kind = "compressed" if isinstance(segmentation["counts"], str) else "counts"
                rows[kind].append(row)
    for kind, of_kind in rows.items():
        if not of_kind:
            continue
        chosen = [annotations[row - first] for row in of_kind]
        if kind == "polygons":
            boxes, flat = _polygons([a["segmentation"] for a in chosen])
            extents.boxes[of_kind], extents.flat[of_kind] = boxes, flat
            continue
        counts = [a["segmentation"]["counts"] for a in chosen]
        if kind == "compressed":
            runs = rle_counts(counts)
        else:
            values = np.array(list(itertools.chain.from_iterable(counts)), dtype=np.int64)
            runs = (values, np.array(list(map(len, counts))), np.zeros(len(counts), bool))
        _read_runs(extents, np.array(of_kind), chosen, *runs)


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


def _read_runs(
    extents: MaskExtents,
    rows: np.ndarray,
    annotations: list[dict],
    values: np.ndarray,
    numbers: np.ndarray,
    damaged: np.ndarray,
) -> None:
    """Reads the run lengths of some annotations; see :func:`rle_counts`."""
    sums = np.concatenate([[0], np.cumsum(values)])
    last = np.cumsum(numbers)
    offset = sums[last - numbers]
    total = sums[last] - offset
    heights, widths = np.array([a["segmentation"]["size"] for a in annotations]).T
    unequal = (total != heights * widths) & ~damaged
    for index in np.flatnonzero(damaged | unequal).tolist():
        found = (
            "the counts of its RLE segmentation are damaged; encode the mask again"
            if damaged[index]
            else f"the counts of its RLE segmentation add up to {total[index]}, but its image has "
            f"{heights[index] * widths[index]} pixels"
        )
        extents.damaged[int(rows[index])] = f"annotation {annotations[index]['id']}: {found}"
    mask = np.repeat(np.arange(len(numbers)), numbers)
    foreground = (np.arange(len(values)) - np.repeat(last - numbers, numbers)) % 2 == 1
    runs = np.flatnonzero(foreground & (values > 0) & ~(damaged | unequal)[mask])
    mask, ends = mask[runs], sums[1:][runs]
    starts, ends, height = (
        ends - values[runs] - offset[mask],
        ends - 1 - offset[mask],
        heights[mask],
    )
    # Runs go down the columns; one that reaches the next column covers the whole height.
    (left, top), (right, bottom) = np.divmod(starts, height), np.divmod(ends, height)
    wraps = left != right
    first = np.flatnonzero(np.diff(mask, prepend=-1))
    if len(first):
        extents.boxes[rows[mask[first]]] = np.stack(
            [
                np.minimum.reduceat(left, first),
                np.minimum.reduceat(np.where(wraps, 0, top), first),
                np.maximum.reduceat(right, first) + 1,
                np.maximum.reduceat(np.where(wraps, height - 1, bottom), first) + 1,
            ],
            axis=1,
        )
    extents.empty_rle[rows] = True
    extents.empty_rle[rows[mask[first]]] = False
    extents.empty_rle[rows[damaged | unequal]] = False
