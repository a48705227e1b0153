"""Detections as plain records: what is kept of a prediction, and COCO results made of it.

A record is a dict with ``image_id``, ``category_id`` (the dataset's own), ``bbox`` as (x, y, w,
h), ``score`` (the box score), with mask scoring ``maskiou`` (the predicted MaskIoU) and
``mask_score``, and ``segmentation`` (compressed RLE, for models with masks).
"""

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BoxMode, Instances

from ..errors import UserError

BOX_SCORE, MASK_SCORE, MASKIOU = "score", "mask_score", "maskiou"


def instances_fields(instances: Instances) -> set[str]:
    """Which of a record's scores and mask a model predicts, detections or none."""
    of_field = {
        "scores": BOX_SCORE,
        "pred_maskiou": MASKIOU,
        "mask_scores": MASK_SCORE,
        "pred_masks": "segmentation",
    }
    return {name for field, name in of_field.items() if instances.has(field)}


def instances_to_records(
    instances: Instances, image_id: int, category_ids: dict[int, int]
) -> list[dict]:
    """The records of one image.

    Args:
        instances: on the CPU, in the image's own size, with ``pred_boxes``, ``scores``,
            ``pred_classes`` and perhaps ``pred_masks`` of shape (N, H, W), ``pred_maskiou`` and
            ``mask_scores``.
        image_id: the dataset's id of the image.
        category_ids: the dataset's category id of each class index.
    """
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns = {
        "category_id": [category_ids[c] for c in instances.pred_classes.tolist()],
        "bbox": boxes.tolist(),
        BOX_SCORE: instances.scores.tolist(),
    }
    if instances.has("mask_scores"):
        columns[MASKIOU] = instances.pred_maskiou.tolist()
        columns[MASK_SCORE] = instances.mask_scores.tolist()
    if instances.has("pred_masks"):
        columns["segmentation"] = [_encode(mask) for mask in instances.pred_masks]
    return [
        {"image_id": image_id, **dict(zip(columns, values))} for values in zip(*columns.values())
    ]


def _encode(mask: torch.Tensor) -> dict:
    """Compressed RLE of a bool (H, W) mask, ready for JSON."""
    rle = mask_util.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def load_records(path: Path) -> list[dict]:
    """Read the records that an evaluation saved as ``inference/predictions.json``.

    Raises:
        UserError: if the file is missing or is of another kind.
    """
    try:
        records = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"predictions '{path}': {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"predictions '{path}' are not JSON: {error}") from error
    needed = {"image_id", "category_id", "bbox", BOX_SCORE}
    if not isinstance(records, list) or not all(
        isinstance(record, dict) and needed <= record.keys() for record in records
    ):
        raise UserError(
            f"'{path}' does not hold detections: it must be a list of records with "
            f"{', '.join(sorted(needed))}, as inference/predictions.json is"
        )
    return records


def box_results(records: list[dict]) -> list[dict]:
    """COCO results of the ``bbox`` task."""
    return [
        {key: record[key] for key in ("image_id", "category_id", "bbox", "score")}
        for record in records
    ]


def mask_results(records: list[dict], ranking: str) -> list[dict]:
    """COCO results of the ``segm`` task.

    Without the box: the reference implementation would take an instance's area from it.

    Args:
        records: all of them with a mask.
        ranking: the field to rank by, ``BOX_SCORE`` or ``MASK_SCORE``.
    """
    return [
        {
            "image_id": record["image_id"],
            "category_id": record["category_id"],
            "segmentation": record["segmentation"],
            "score": record[ranking],
        }
        for record in records
    ]
