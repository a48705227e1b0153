"""The part of the report that shows masks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..evaluation import Evaluation
from .gallery import MAX_PER_IMAGE, SIDE, RankedMask, draw_mask, most_moved, most_overrated
from .html import Content, Element, element, image
from .images import image_name
from .text import number

JPEG_QUALITY = 85


def gallery_section(evaluation: Evaluation, image_root: Path | None) -> list[Content]:
    """Pictures of the masks that moved most, each with its scores.

    Args:
        evaluation: where it has no masks, there is no such section.
        image_root: the folder of the dataset's images, see :func:`.gallery.draw_mask`.
    """
    if evaluation.true_maskiou is None or not len(evaluation.detections):
        return []
    if "segm_mask_score" in evaluation.scores:
        down, up = most_moved(evaluation)
        groups = {
            "Moved down most": (
                "High box score, and a mask predicted to be poor: rightly where the true MaskIoU "
                "is low.",
                down,
            ),
            "Moved up most": (
                "Lower box score, and a mask predicted to be good: rightly where the true MaskIoU "
                "is high.",
                up,
            ),
        }
        how = (
            "Compared are the ranks of the best detections by box score, as many as there are "
            "instances, under either score (rank by box score → by mask score)"
        )
    else:
        groups = {
            "High box score, poor mask": (
                "Detections on an instance whose box score is most above their true MaskIoU.",
                most_overrated(evaluation),
            )
        }
        how = (
            "Looked at are the best detections by box score, as many as there are instances; the "
            "model predicts no MaskIoU to rank them anew"
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
            element("p", note if figures else "None.", class_="note"),
            element("div", *figures, class_="gallery") if figures else None,
        ]
    explanation = (
        f"{how}; at most {MAX_PER_IMAGE} of one image are shown. Pink: the predicted mask. Yellow "
        "line: the ground truth. Images are shown with less colour than they have."
    )
    if missing:
        explanation += (
            f" {missing} of the pictures are on a plain ground: their images were not found, "
            "cannot be read or are of another size."
        )
    return [
        element("h2", "Masks to look at"),
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
            None if matched else element("p", "The box is on no instance of the class."),
            element("p", file_name),
        ),
    )


def _number_at(column: np.ndarray | None, index: int) -> str | None:
    return None if column is None else number(column[index])


def _terms(values: dict[str, str | None]) -> Iterator[Element]:
    """The content of a ``dl``; what is ``None`` is left out."""
    for name, value in values.items():
        if value is not None:
            yield element("div", element("dt", name), element("dd", value))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
