"""Saves detections as .npz, and loads them from .npz or COCO result files."""

import dataclasses
import io
import json
import logging
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

from ..atomic_file import write_file
from ..class_names import listed, shortened
from ..errors import UserError
from .category_ids import ABSENT
from .detections import OPTIONAL_SCORES, Detections

logger = logging.getLogger(__name__)

FORMAT = 2  # increase it for any change that older versions cannot read
READABLE = (1, 2)  # 1 has no names of categories
COLUMNS = ("images", "image_id", "category_id", "bbox", "score")


def save_predictions(detections: Detections, path: Path, ground_truth: COCO | None = None) -> None:
    """Saves all columns of detections in one compressed file.

    Masks are stored as one array with the RLE strings of all masks, and arrays with the length of
    each string and the size of each mask.

    Args:
        detections: the detections to save.
        path: the ``.npz`` file to write; its folder is created if missing.
        ground_truth: the dataset, to save the names of its categories, too.
    """
    columns = {name: getattr(detections, name) for name in (*COLUMNS, *OPTIONAL_SCORES)}
    columns = {name: column for name, column in columns.items() if column is not None}
    if detections.segmentation is not None:
        counts = [rle["counts"] for rle in detections.segmentation]
        sizes = [rle["size"] for rle in detections.segmentation]
        columns["mask_counts"] = np.frombuffer(b"".join(counts), dtype=np.uint8)
        columns["mask_length"] = np.array([len(c) for c in counts], dtype=np.int32)
        columns["mask_size"] = np.array(sizes, dtype=np.int32).reshape(-1, 2)
    if ground_truth is not None:
        names = {each["id"]: each["name"] for each in ground_truth.cats.values()}
        # Not as an array of strings, in which the longest name sets the size of all.
        columns["categories"] = np.frombuffer(json.dumps(names).encode(), dtype=np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, format=np.array(FORMAT), **columns)
    write_file(path, content.getvalue())


def load_predictions(path: Path, ground_truth: COCO | None = None) -> Detections:
    """Loads detections that an evaluation saved, or a COCO result file.

    A ``predictions.npz`` has the names of the categories. If the dataset to evaluate on has them
    under other ids, detections get its ids; those of a category that it lacks are left out, and a
    log message says so.

    Args:
        path: a ``predictions.npz``, or a JSON file with a list of COCO results that have a box, a
            mask or both. Boxes that are missing are computed from the masks.
        ground_truth: the dataset to evaluate on.

    Raises:
        UserError: if the file cannot be read, is damaged or has another format, or the dataset has
            categories that those of the file do not include.
    """
    try:
        with path.open("rb") as file:
            is_npz = zipfile.is_zipfile(file)
        return _load_npz(path, ground_truth) if is_npz else _load_results(path)
    except OSError as error:
        raise UserError(f"cannot read predictions '{path}': {error.strerror or error}") from error


def _load_npz(path: Path, ground_truth: COCO | None) -> Detections:
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = dict(file)
        if int(columns.pop("format")) not in READABLE:
            raise UserError(
                f"predictions '{path}' were saved by another version of msrcnn: evaluate the model "
                "again"
            )
        names = json.loads(columns.pop("categories", np.zeros(0, np.uint8)).tobytes() or "{}")
        if "mask_counts" in columns:
            columns["segmentation"] = _split_masks(columns)
        detections = Detections(**{"images": None, **columns})
        lengths = {name: len(column) for name, column in columns.items() if name != "images"}
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"predictions '{path}' are damaged or not saved by msrcnn: {error}"
        ) from error
    if len(set(lengths.values())) > 1:
        raise UserError(f"predictions '{path}' are damaged: columns differ in length: {lengths}")
    if ground_truth is None or not names:
        return detections
    return _with_categories_of(
        ground_truth, detections, {int(number): name for number, name in names.items()}, path
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
    if names == {each["id"]: each["name"] for each in ground_truth.cats.values()}:
        return detections
    wanted = {each["name"]: each["id"] for each in ground_truth.cats.values()}
    if not wanted.keys() <= set(names.values()):
        raise UserError(
            f"predictions '{path}' are of {listed(list(names.values()))}, but the dataset has "
            f"{listed(list(wanted))}: evaluate them on a dataset of these classes"
        )
    ids = np.array([wanted.get(names[each], ABSENT) for each in detections.category_id.tolist()])
    absent = [name for name in names.values() if name not in wanted]
    if absent:
        logger.info(
            "The dataset has %d of the %d classes of '%s'; detections of the others (%s) are "
            "ignored.",
            *(len(wanted), len(names), path, shortened(absent)),
        )
    moved = dataclasses.replace(detections, category_id=ids.astype(np.int64))
    return moved.take(np.flatnonzero(ids != ABSENT), moved.images)


def _split_masks(columns: dict[str, np.ndarray]) -> list[dict]:
    """Removes the columns of masks from ``columns`` and returns the masks."""
    counts = columns.pop("mask_counts").tobytes()
    ends = np.cumsum(columns.pop("mask_length"), dtype=np.int64).tolist()
    sizes = columns.pop("mask_size").tolist()
    return [
        {"size": size, "counts": counts[start:end]}
        for size, start, end in zip(sizes, [0, *ends], ends)
    ]


def _load_results(path: Path) -> Detections:
    try:
        results = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"predictions '{path}' are neither .npz nor JSON: {error}") from error
    if not isinstance(results, list):
        raise UserError(f"predictions '{path}' are not COCO results: expected a JSON list")
    segmentation = None
    try:
        if results and all("segmentation" in result for result in results):
            segmentation = [_compressed(result["segmentation"]) for result in results]
        if segmentation is not None and not all("bbox" in result for result in results):
            boxes = [mask_util.toBbox(rle) for rle in segmentation]
        else:
            boxes = [result["bbox"] for result in results]
        scores = {
            name: np.array([result[name] for result in results], dtype=np.float64)
            for name in OPTIONAL_SCORES
            if results and all(name in result for result in results)
        }
        return Detections(
            images=None,
            image_id=np.array([result["image_id"] for result in results], dtype=np.int64),
            category_id=np.array([result["category_id"] for result in results], dtype=np.int64),
            bbox=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            score=np.array([result["score"] for result in results], dtype=np.float64),
            segmentation=segmentation,
            **scores,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"predictions '{path}' are not COCO results: each record must have image_id, "
            f"category_id, score, and bbox or segmentation ({_first_invalid(results, error)})"
        ) from error


def _first_invalid(results: list, error: Exception) -> str:
    """Describes the first record with missing keys, or the error if no key is missing."""
    needed = {"image_id", "category_id", "score"}
    for index, result in enumerate(results):
        if not isinstance(result, dict):
            return f"record {index} is not an object"
        missing = needed - result.keys()
        if missing or not {"bbox", "segmentation"} & result.keys():
            return f"record {index} has no {', '.join(sorted(missing)) or 'bbox or segmentation'}"
    return f"{type(error).__name__}: {error}"


def _compressed(segmentation: dict) -> dict:
    """Converts the mask of a COCO result to compressed RLE with counts in bytes."""
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_util.frPyObjects(segmentation, height, width)
    return {"size": [height, width], "counts": counts.encode("ascii")}
