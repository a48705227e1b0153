"""The section of the HTML report with the worst misses."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..data.coco_schema import image_name
from ..evaluation import Evaluation
from .html import Content, Element, element
from .mask_choice import MAX_PER_IMAGE, NUM_MASKS
from .mask_picture import draw_mask, draw_missed
from .miss_choice import false_positives, missed_instances, most_overlapping, overlapped_instance
from .report_parts import class_name, number_at, photo, plain_background_note, terms
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
        "A detection matches an instance of its class if their boxes have an IoU of 0.5 or more. "
        f"At most {NUM_MASKS} of each kind are shown, and {MAX_PER_IMAGE} per image. Pink: "
        "predicted mask. Yellow outline: ground truth."
    ) + plain_background_note(missing)
    return [
        element("h2", "Worst misses"),
        element("p", note, class_="note"),
        *_group(
            "Largest missed instances",
            "Instances that no detection matches, whatever its score, in decreasing order of "
            "area; with the detection of any class that overlaps each most.",
            missed,
        ),
        *_group(
            "False positives with the highest box scores",
            "Detections that match no instance; with the instance of any class that each overlaps "
            "most. The outline is the instance of its own class, if one overlaps.",
            wrong,
        ),
    ]


def _group(heading: str, note: str, figures: list[tuple[Element, bool]]) -> list[Content]:
    return [
        element("h3", heading),
        element("p", note if figures else "There are none.", class_="note"),
        element("div", *(figure for figure, _ in figures), class_="gallery") if figures else None,
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
    return _figure(picture, name, values, image_name(info), "missed instance"), found


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
    return _figure(picture, name, values, image_name(info), "false positive"), found


def _figure(
    picture: Image.Image, name: str, values: dict[str, str | None], file_name: str, kind: str
) -> Element:
    return element(
        "figure",
        photo(picture, f"{name} in {file_name}: {kind}"),
        element("figcaption", element("strong", name), terms(values), element("p", file_name)),
    )
