"""The section of the HTML report that shows masks."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..data.coco_schema import image_name
from ..evaluation import Evaluation
from .html import Content, Element, element
from .mask_choice import MAX_PER_IMAGE, RankedMask, most_moved, most_overrated
from .mask_picture import draw_mask
from .report_parts import class_name, gallery, mask_figure, number_at, plain_background_note
from .text import number


def gallery_section(evaluation: Evaluation, image_root: Path | None) -> list[Content]:
    """Builds the section with pictures of masks and their scores.

    It shows the masks whose rank changes most under the mask score, or, if the model has no mask
    scores, the masks whose box score exceeds their true MaskIoU most.

    Args:
        evaluation: the evaluation. Without masks or detections, the section is empty.
        image_root: folder with the images of the dataset, see :func:`.mask_picture.draw_mask`.
    """
    if evaluation.true_maskiou is None or not len(evaluation.detections):
        return []
    if "segm_mask_score" in evaluation.scores:
        down, up = most_moved(evaluation)
        groups = {
            "Moved down most": (
                "High box score, but low predicted MaskIoU. The move is correct if the true "
                "MaskIoU is low.",
                down,
            ),
            "Moved up most": (
                "Lower box score, but high predicted MaskIoU. The move is correct if the true "
                "MaskIoU is high.",
                up,
            ),
        }
        selection = (
            "These masks change rank most when masks are ranked by mask score instead of box "
            "score (rank by box score → rank by mask score). Only the detections with the highest "
            "box scores are ranked, as many as there are instances."
        )
    else:
        groups = {
            "High box score, poor mask": (
                "Detections that match an instance, and whose box score exceeds their true "
                "MaskIoU most.",
                most_overrated(evaluation),
            )
        }
        selection = (
            "The model predicts no MaskIoU, so masks are ranked by box score only. Only the "
            "detections with the highest box scores are considered, as many as there are "
            "instances."
        )
    sections, missing = [], 0
    for heading, (note, masks) in groups.items():
        figures = []
        for mask in masks:
            picture, found = draw_mask(evaluation, mask.index, image_root)
            missing += not found
            figures.append(_figure(evaluation, mask, picture))
        sections += gallery(heading, note, figures)
    explanation = (
        f"{selection} At most {MAX_PER_IMAGE} masks per image are shown. Pink: predicted mask. "
        "Yellow outline: ground truth. Images are shown with reduced saturation."
    )
    explanation += plain_background_note(missing)
    return [
        element("h2", "Masks"),
        element("p", explanation, class_="note"),
        *sections,
    ]


def _figure(evaluation: Evaluation, mask: RankedMask, picture: Image.Image) -> Element:
    detections, true, index = evaluation.detections, evaluation.true_maskiou, mask.index
    name = class_name(evaluation, detections.category_id[index])
    file_name = image_name(evaluation.ground_truth.imgs[int(detections.image_id[index])])
    matched = true.instance[index] != 0
    rank = f"{mask.box_rank:,}"
    if mask.mask_rank is not None:
        rank += f" → {mask.mask_rank:,}"
    values = {
        "Rank": rank,
        "Box score": number(detections.score[index]),
        "Predicted MaskIoU": number_at(detections.maskiou, index),
        "Mask score": number_at(detections.mask_score, index),
        "True MaskIoU": number(true.matched[index] if matched else true.best[index]),
    }
    remark = "" if matched else "The box matches no instance of the class."
    return mask_figure(picture, "predicted mask and ground truth", name, values, file_name, remark)
