"""The section of the HTML report that shows masks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.coco_schema import image_name
from ..evaluation import Evaluation
from .gallery import MAX_PER_IMAGE, SIDE, RankedMask, draw_mask, most_moved, most_overrated
from .html import Content, Element, element, image
from .text import number

JPEG_QUALITY = 85


def gallery_section(evaluation: Evaluation, image_root: Path | None) -> list[Content]:
    """Builds the section with pictures of masks and their scores.

    It shows the masks whose rank changes most under the mask score, or, if the model has no mask
    scores, the masks whose box score exceeds their true MaskIoU most.

    Args:
        evaluation: the evaluation. Without masks or detections, the section is empty.
        image_root: folder with the images of the dataset, see :func:`.gallery.draw_mask`.
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
            figures.append(_picture(evaluation, mask, picture))
        sections += [
            element("h3", heading),
            element("p", note if figures else "No such masks.", class_="note"),
            element("div", *figures, class_="gallery") if figures else None,
        ]
    explanation = (
        f"{selection} At most {MAX_PER_IMAGE} masks per image are shown. Pink: predicted mask. "
        "Yellow outline: ground truth. Images are shown with reduced saturation."
    )
    if missing:
        explanation += (
            f" {missing} of the pictures have a plain background, because their images are "
            "missing, unreadable, outside of the image folder or of a different size than "
            "annotated."
        )
    return [
        element("h2", "Masks"),
        element("p", explanation, class_="note"),
        *sections,
    ]


def _picture(evaluation: Evaluation, mask: RankedMask, picture: Image.Image) -> Element:
    detections, true, index = evaluation.detections, evaluation.true_maskiou, mask.index
    ground_truth = evaluation.ground_truth
    class_name = str(ground_truth.cats[int(detections.category_id[index])]["name"])
    file_name = image_name(ground_truth.imgs[int(detections.image_id[index])])
    matched = true.instance[index] != 0
    rank = f"{mask.box_rank:,}"
    if mask.mask_rank is not None:
        rank += f" → {mask.mask_rank:,}"
    values = {
        "Rank": rank,
        "Box score": number(detections.score[index]),
        "Predicted MaskIoU": _number_at(detections.maskiou, index),
        "Mask score": _number_at(detections.mask_score, index),
        "True MaskIoU": number(true.matched[index] if matched else true.best[index]),
    }
    return element(
        "figure",
        image(
            _jpeg(picture),
            "image/jpeg",
            f"{class_name} in {file_name}: predicted mask and ground truth",
            SIDE,
            SIDE,
        ),
        element(
            "figcaption",
            element("strong", class_name),
            element("dl", *_terms(values)),
            None if matched else element("p", "The box matches no instance of the class."),
            element("p", file_name),
        ),
    )


def _number_at(column: np.ndarray | None, index: int) -> str | None:
    return None if column is None else number(column[index])


def _terms(values: dict[str, str | None]) -> Iterator[Element]:
    """Yields the content of a ``dl``; values that are ``None`` are left out."""
    for name, value in values.items():
        if value is not None:
            yield element("div", element("dt", name), element("dd", value))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
