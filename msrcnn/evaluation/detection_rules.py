"""Rules about detections from files: their values, and that they belong to a dataset."""

import numpy as np
from pycocotools.coco import COCO

from ..data.rle_counts import rle_counts
from ..errors import UserError
from .detections import OPTIONAL_SCORES, Detections
from .results_schema import MAX_PIXELS

AT_A_TIME = 200  # masks, so that the arrays stay in the processor's cache


def check_values(detections: Detections) -> None:
    """Checks that scores and boxes are finite, and that boxes and masks can be read.

    Raises:
        UserError: naming the first detection, counted from 0, and what is wrong with it.
    """
    check_finite(detections)
    box, masks = detections.bbox, detections.segmentation
    negative = (box[:, 2:] < 0).any(axis=1)
    if negative.any():
        row = int(negative.argmax())
        raise UserError(
            f"{_named(detections, row)} has bbox {box[row].tolist()}, which is not "
            "[x, y, width, height]"
        )
    if masks is not None:
        sizes = masks.size.astype(np.int64)
        damaged = _damaged(sizes, [rle["counts"] for rle in masks])
        if damaged.any():
            row = int(damaged.argmax())
            raise UserError(
                f"{_named(detections, row)} has a damaged RLE mask of size {sizes[row].tolist()}"
            )


def check_finite(detections: Detections) -> None:
    """Checks that scores and boxes are finite.

    Raises:
        UserError: naming the first detection, counted from 0.
    """
    for name in ("score", "bbox", *OPTIONAL_SCORES):
        column = getattr(detections, name)
        if column is not None and not np.isfinite(column).all():
            row = int(np.argwhere(~np.isfinite(column))[0, 0])
            raise UserError(
                f"{_named(detections, row)} has a {name} that is not finite, {column[row]}: have "
                "the model's weights diverged?"
            )


def _named(detections: Detections, row: int) -> str:
    return f"detection {row} of image {detections.image_id[row]}"


def _damaged(sizes: np.ndarray, counts: list[bytes]) -> np.ndarray:
    """Finds the masks that pycocotools cannot read safely.

    Args:
        sizes: int64 array of shape (N, 2), height and width of each mask.
        counts: the compressed run lengths of N masks.

    Returns:
        Bool array of shape (N,): run lengths are damaged, or do not add up to the size.
    """
    found = [np.zeros(0, dtype=bool)]
    for start in range(0, len(counts), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        # Bytes that are not ASCII are no digits of run lengths either.
        values, number, damaged = rle_counts([each.decode("latin1") for each in counts[part]])
        height, width = sizes[part].T
        pixels, some = np.zeros(len(number), dtype=np.int64), number > 0
        if some.any():
            pixels[some] = np.add.reduceat(values, (np.cumsum(number) - number)[some])
        usable = (height > 0) & (width > 0) & (height <= MAX_PIXELS // width.clip(min=1))
        found.append(damaged | ~usable | (pixels != height * width))
    return np.concatenate(found)


def check_detections(ground_truth: COCO, detections: Detections) -> None:
    """Checks that detections belong to a dataset.

    Raises:
        UserError: if a detection has an unknown image id or category id, a score or box that is
            not finite, or a mask that differs in size from its image.
    """
    check_finite(detections)
    columns = {
        "image_id": (detections.image_id, ground_truth.imgs),
        "category_id": (detections.category_id, ground_truth.cats),
    }
    for key, (ids, known) in columns.items():
        unknown = np.flatnonzero(~np.isin(ids, list(known)))
        if len(unknown):
            row = unknown[0]
            raise UserError(
                f"detection {row} has {key} {ids[row]}, which is not in the annotations: "
                "evaluate detections on the dataset that they were predicted on"
            )
    if detections.segmentation is None:
        return
    size = {image_id: (i["height"], i["width"]) for image_id, i in ground_truth.imgs.items()}
    of_image = np.array([size[each] for each in detections.image_id.tolist()]).reshape(-1, 2)
    wrong = np.flatnonzero((detections.segmentation.size != of_image).any(axis=1))
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"detection {row} has a mask of size {detections.segmentation.size[row].tolist()} "
            f"(height, width), but its image {detections.image_id[row]} has size "
            f"{of_image[row].tolist()}: evaluate detections on the dataset that they were "
            "predicted on"
        )
