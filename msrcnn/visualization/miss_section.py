"""The section of the HTML report with the worst misses."""

from __future__ import annotations

from pathlib import Path

from ..data.coco_schema import image_name
from ..evaluation import Evaluation
from .html import Content, Element, element
from .mask_choice import MAX_PER_IMAGE, NUM_MASKS
from .mask_picture import draw_mask, draw_missed
from .miss_choice import false_positives, missed_instances, most_overlapping, overlapped_instance
from .report_parts import (
    MATCHING,
    class_name,
    gallery,
    mask_figure,
    number_at,
    plain_background_note,
)
from .text import number


def miss_section(evaluation: Evaluation, image_root: Path | None) -> list[Content]:
    """Builds the section with the largest missed instances and the surest false positives.

    Args:
        evaluation: the evaluation. Without masks, the section is empty.
        image_root: folder with the images of the dataset; ``None`` if unknown.
    """
    if evaluation.true_maskiou is None:
        return []
    missed = [_missed(evaluation, each, image_root) for each in missed_instances(evaluation)]
    wrong = [_wrong(evaluation, each, image_root) for each in false_positives(evaluation)]
    missing = sum(not found for _, found in (*missed, *wrong))
    note = (
        f"{MATCHING} At most {NUM_MASKS} of each kind are shown, and {MAX_PER_IMAGE} per image. "
        "Pink: predicted mask. Yellow outline: ground truth."
    ) + plain_background_note(missing)
    return [
        element("h2", "Worst misses"),
        element("p", note, class_="note"),
        *gallery(
            "Largest missed instances",
            "Instances that no detection of any score matches, in decreasing order of "
            "area; with the detection of any class that overlaps each most.",
            [figure for figure, _ in missed],
        ),
        *gallery(
            "False positives with the highest box scores",
            "Detections that match no instance; with the instance of any class that each overlaps "
            "most. The outline is the instance of its own class, if one overlaps.",
            [figure for figure, _ in wrong],
        ),
    ]


def _missed(
    evaluation: Evaluation, instance: dict, image_root: Path | None
) -> tuple[Element, bool]:
    detections = evaluation.detections
    nearest = most_overlapping(evaluation, instance)
    index = None if nearest is None else nearest[0]
    values = {"Area": f"{instance['area']:,.0f}"}
    if nearest is None:
        values["Overlapped by"] = "nothing"
    else:
        values |= {
            "Overlapped by": class_name(evaluation, detections.category_id[index]),
            "MaskIoU": number(nearest[1]),
            "Box score": number_at(detections.score, index),
            "Mask score": number_at(detections.mask_score, index),
        }
    picture, found = draw_missed(evaluation, instance, index, image_root)
    name = class_name(evaluation, instance["category_id"])
    info = evaluation.ground_truth.imgs[instance["image_id"]]
    return mask_figure(picture, "missed instance", name, values, image_name(info)), found


def _wrong(evaluation: Evaluation, index: int, image_root: Path | None) -> tuple[Element, bool]:
    detections = evaluation.detections
    overlapped = overlapped_instance(evaluation, index)
    values = {
        "Box score": number_at(detections.score, index),
        "Mask score": number_at(detections.mask_score, index),
    }
    if overlapped is None:
        values["Overlaps"] = "nothing"
    else:
        instance, iou = overlapped
        values |= {
            "Overlaps": class_name(evaluation, instance["category_id"]),
            "MaskIoU": number(iou),
        }
    picture, found = draw_mask(evaluation, index, image_root)
    name = class_name(evaluation, detections.category_id[index])
    info = evaluation.ground_truth.imgs[int(detections.image_id[index])]
    return mask_figure(picture, "false positive", name, values, image_name(info)), found
