"""Saves detections as .npz, and loads them from .npz or COCO result files."""

import dataclasses
import json
import logging
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

from ..class_names import listed, shortened
from ..data.coco_schema import image_name
from ..errors import UserError
from .category_ids import ABSENT
from .detection_rules import check_detections, check_values
from .detections import OPTIONAL_SCORES, Detections, present
from .npz_file import read_npz, write_npz
from .results_schema import results_problem
from .rle_masks import RLEMasks

logger = logging.getLogger(__name__)

FORMAT = 3  # increase it for any change that older versions cannot read
READABLE = (1, 2, 3)  # 1 has no names of categories, 2 has none of images
IDS = ("images", "image_id", "category_id")
NUMBERS = ("bbox", "score", *OPTIONAL_SCORES)
MASKS = ("mask_counts", "mask_length", "mask_size")
NEEDED = {"image_id", "category_id", "bbox", "score"}
CATEGORIES, IMAGES = "categories", "image_names"  # JSON: their names by id


def save_predictions(detections: Detections, path: Path, ground_truth: COCO | None = None) -> None:
    """Saves all columns of detections in one compressed file.

    Masks are stored as one array with the RLE strings of all masks, and arrays with the length of
    each string and the size of each mask.

    Args:
        detections: the detections to save.
        path: the ``.npz`` file to write; its folder is created if missing.
        ground_truth: the dataset, to save the names of its categories and images, too.
    """
    columns = {name: getattr(detections, name) for name in (*IDS, *NUMBERS)}
    columns = {name: column for name, column in columns.items() if column is not None}
    if detections.segmentation is not None:
        masks = detections.segmentation
        columns["mask_counts"] = np.frombuffer(masks.counts, dtype=np.uint8)
        columns["mask_length"] = masks.length.astype(np.int32)
        columns["mask_size"] = masks.size.astype(np.int32)
    if ground_truth is not None:
        of_images = {number: image_name(each) for number, each in ground_truth.imgs.items()}
        for key, names in ((CATEGORIES, _category_names(ground_truth)), (IMAGES, of_images)):
            # Not as an array of strings, in which the longest name sets the size of all.
            columns[key] = np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)
    write_npz(path, {"format": np.array(FORMAT), **columns})


def load_predictions(path: Path, ground_truth: COCO | None = None) -> Detections:
    """Loads detections that an evaluation saved, or a COCO result file.

    A ``predictions.npz`` has the names of the categories and images. If the dataset to evaluate on
    has the categories under other ids, detections get its ids; those of a category that it lacks
    are left out, and a log message says so. Images must have the same names, except for folder and
    extension: two splits of a dataset often have the same ids.

    Args:
        path: a ``predictions.npz``, or a JSON file with a list of COCO results that have a box, a
            mask or both. Boxes that are missing are computed from the masks.
        ground_truth: the dataset to evaluate on, which the detections must belong to.

    Raises:
        UserError: naming the file and the record, if the file cannot be read, is damaged, has
            another format, would unpack to far more than its size, or is of another dataset.
    """
    try:
        with path.open("rb") as file:
            is_npz = zipfile.is_zipfile(file)
        if is_npz:
            columns = read_npz(path)
            names = {key: _names(columns, key) for key in (CATEGORIES, IMAGES)}
            detections = _from_columns(columns)
        else:
            names, detections = {}, _load_results(path)
        if ground_truth is not None:
            _check_images(ground_truth, detections, names.get(IMAGES, {}))
            if of_categories := names.get(CATEGORIES):
                detections = _with_categories_of(ground_truth, detections, of_categories, path)
            check_detections(ground_truth, detections)
    except OSError as error:
        raise UserError(f"cannot read predictions '{path}': {error.strerror or error}") from error
    except UserError as error:
        raise UserError(f"predictions '{path}': {error}") from error
    return detections


def _category_names(ground_truth: COCO) -> dict[int, str]:
    return {each["id"]: each["name"] for each in ground_truth.cats.values()}


def _names(columns: dict[str, np.ndarray], key: str) -> dict[int, str]:
    """Removes names from ``columns`` and returns them by id; empty if the file has none."""
    try:
        names = json.loads(columns.pop(key, np.zeros(0, np.uint8)).tobytes() or "{}")
        if not all(isinstance(name, str) for name in names.values()):
            raise TypeError("a name is not a string")
        return {int(number): name for number, name in names.items()}
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"damaged: {key}: {error}") from error


def _check_images(ground_truth: COCO, detections: Detections, names: dict[int, str]) -> None:
    """Rejects detections of images that have another name in the dataset."""
    for number in np.unique(detections.image_id).tolist():
        then, now = names.get(number), image_name(ground_truth.imgs.get(number, {}))
        if then and now and PurePosixPath(then).stem != PurePosixPath(now).stem:
            raise UserError(
                f"they are of image {number}, '{then}', which is '{now}' in the dataset: evaluate "
                "them on the dataset that they were predicted on"
            )


def _with_categories_of(
    ground_truth: COCO, detections: Detections, names: dict[int, str], path: Path
) -> Detections:
    """Replaces category ids by those that a dataset has for the same names.

    Args:
        ground_truth: the dataset.
        detections: detections of another dataset, or of the same one.
        names: names of that dataset's categories by id.
        path: the file, for messages.
    """
    if names == _category_names(ground_truth):
        return detections
    wanted = {each["name"]: each["id"] for each in ground_truth.cats.values()}
    if not wanted.keys() <= set(names.values()):
        raise UserError(
            f"they are of {listed(list(names.values()))}, but the dataset has "
            f"{listed(list(wanted))}: evaluate them on a dataset of these classes"
        )
    unnamed = np.flatnonzero(~np.isin(detections.category_id, list(names)))
    if len(unnamed):
        row = unnamed[0]
        raise UserError(
            f"damaged: detection {row} has category_id {detections.category_id[row]}, which is "
            "none of its categories"
        )
    ids = np.array([wanted.get(names[each], ABSENT) for each in detections.category_id.tolist()])
    absent = [name for name in names.values() if name not in wanted]
    if absent:
        logger.info(
            "The dataset has %d of the %d classes of '%s'; detections of the others (%s) are "
            "ignored.",
            len(wanted),
            len(names),
            path,
            shortened(absent),
        )
    moved = dataclasses.replace(detections, category_id=ids.astype(np.int64))
    return moved.take(np.flatnonzero(ids != ABSENT), moved.images)


def _from_columns(columns: dict[str, Any]) -> Detections:
    missing = {"format", *NEEDED} - columns.keys()
    unknown = columns.keys() - {"format", *IDS, *NUMBERS, *MASKS}
    if "format" in columns and columns.pop("format").tolist() not in READABLE:
        raise UserError("saved by another version of msrcnn; evaluate the model again")
    if missing or unknown:
        names = ", ".join(sorted(missing or unknown))
        raise UserError(f"not saved by msrcnn: {'it lacks' if missing else 'it has'} {names}")
    wrong = [name for name, column in columns.items() if not _fits(name, column)]
    if wrong:
        found = columns[wrong[0]]
        raise UserError(f"damaged: {wrong[0]} is {found.dtype} of shape {found.shape}")
    if columns.keys() & {*MASKS}:
        columns["segmentation"] = _masks(columns)
    lengths = {name: len(column) for name, column in columns.items() if name != "images"}
    if len(set(lengths.values())) > 1:
        raise UserError(f"damaged: columns differ in length: {lengths}")
    detections = Detections(**{"images": None, **columns})
    check_values(detections)
    return detections


def _fits(name: str, column: np.ndarray) -> bool:
    """Whether a column has the type and shape that its name says."""
    kind = "f" if name in NUMBERS else "u" if name == "mask_counts" else "i"
    width = {"bbox": (4,), "mask_size": (2,)}.get(name, ())
    return column.dtype.kind == kind and column.ndim >= 1 and column.shape[1:] == width


def _masks(columns: dict[str, np.ndarray]) -> RLEMasks:
    """Removes the columns of masks from ``columns`` and returns the masks."""
    if missing := {*MASKS} - columns.keys():
        raise UserError(f"damaged: it lacks {', '.join(sorted(missing))}")
    counts = columns.pop("mask_counts").tobytes()
    length, size = columns.pop("mask_length"), columns.pop("mask_size")
    if (length < 0).any() or length.sum(dtype=np.int64) != len(counts):
        raise UserError(f"damaged: the lengths of its masks do not add up to {len(counts)}")
    return RLEMasks(counts, length, size)


def _load_results(path: Path) -> Detections:
    try:
        results = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"neither .npz nor JSON: {error}") from error
    if problem := results_problem(results):
        raise UserError(f"not COCO results: {problem}")
    has_masks, has_boxes = (
        bool(results) and all(key in result for result in results)
        for key in ("segmentation", "bbox")
    )

    def column(name: str, dtype: type) -> np.ndarray:
        return np.array([result[name] for result in results], dtype=dtype)

    detections = Detections(
        images=None,
        image_id=column("image_id", np.int64),
        category_id=column("category_id", np.int64),
        bbox=column("bbox", np.float64) if has_boxes else np.zeros((len(results), 4)),
        score=column("score", np.float64),
        segmentation=_masks_of(results) if has_masks else None,
        **{
            name: column(name, np.float64)
            for name in OPTIONAL_SCORES
            if results and all(name in result for result in results)
        },
    )
    check_values(detections)
    if has_masks and not has_boxes:
        logger.warning("%s has no boxes: box AP is that of the bounding boxes of its masks.", path)
        boxes = np.array([mask_util.toBbox(rle) for rle in present(detections.segmentation)])
        detections = dataclasses.replace(detections, bbox=boxes)
    return detections


def _masks_of(results: list[dict]) -> RLEMasks:
    return RLEMasks.from_dicts(_compressed(result["segmentation"]) for result in results)


def _compressed(segmentation: dict) -> dict:
    """Converts the mask of a COCO result to compressed RLE with counts in bytes."""
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_util.frPyObjects(segmentation, height, width)
    return {"size": [height, width], "counts": counts.encode("utf-8", "surrogatepass")}
