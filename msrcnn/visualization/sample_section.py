"""The section of the HTML report with ordinary predictions: images drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.coco_schema import image_name
from ..evaluation import Detections, Evaluation
from .html import Content, Element, element, row, table
from .images import image_or_none
from .instances_picture import Shape, draw_instances
from .mask_crop import BACKGROUND
from .overlay import MIN_SCORE, category_color
from .report_parts import class_name, number_at, photo, plain_background_note
from .text import counted

SEED = 0
NUM_IMAGES = 6
LISTED = 8  # detections or instances with a number, per image
DRAWN = 100  # detections at most, per image: more hide each other


def sample_section(evaluation: Evaluation, image_root: Path | None) -> list[Content]:
    """Builds the section with ground truth beside predictions.

    Args:
        evaluation: the evaluation, with or without masks.
        image_root: folder with the images of the dataset; ``None`` if unknown.
    """
    figures, missing = [], 0
    for image_id in sampled_images(evaluation):
        info = evaluation.ground_truth.imgs[image_id]
        pixels = image_or_none(info, image_root)
        missing += 2 * (pixels is None)
        if pixels is None:
            pixels = np.full((info["height"], info["width"], 3), BACKGROUND, dtype=np.uint8)
        figures.append(_figure(evaluation, image_id, pixels))
    if not figures:
        return []
    note = (
        f"{counted(len(figures), 'image', 'images')} drawn at random from all images (seed "
        f"{SEED}), regardless of predictions. Left: ground truth. Right: detections with a box "
        f"score of at least {MIN_SCORE}. Colors are those of classes. The first {LISTED} instances "
        "are numbered, and the detections with the highest box scores."
    ) + plain_background_note(missing)
    return [
        element("h2", "Sample of predictions"),
        element("p", note, class_="note"),
        element("div", *figures, class_="sample"),
    ]


def sampled_images(evaluation: Evaluation) -> list[int]:
    """Returns the ids of some images, drawn from all images that the model was run on."""
    images = evaluation.detections.images
    known = sorted(evaluation.ground_truth.imgs) if images is None else sorted(images.tolist())
    order = np.random.default_rng(SEED).permutation(len(known))[:NUM_IMAGES]
    return [known[position] for position in order]


def _figure(evaluation: Evaluation, image_id: int, pixels: np.ndarray) -> Element:
    ground_truth = evaluation.ground_truth
    file_name = image_name(ground_truth.imgs[image_id])
    annotations = ground_truth.imgToAnns[image_id]
    of_image = evaluation.detections.of_image(image_id)
    order = np.argsort(-of_image.score, kind="stable")
    detected = order[of_image.score[order] >= MIN_SCORE].tolist()
    truth = draw_instances(pixels, _truth_shapes(evaluation, annotations))
    predicted = draw_instances(pixels, _detection_shapes(evaluation, of_image, detected[:DRAWN]))
    names = [
        f"{class_name(evaluation, a['category_id'])}{' (crowd)' if a['iscrowd'] else ''}"
        for a in annotations
    ]
    return element(
        "figure",
        element(
            "div",
            photo(truth, f"{file_name}: {counted(len(names), 'instance', 'instances')}"),
            photo(predicted, f"{file_name}: {counted(len(detected), 'detection', 'detections')}"),
            class_="sides",
        ),
        element(
            "figcaption",
            element("p", file_name),
            element("p", f"Instances: {_listed(names)}"),
            _scores(evaluation, of_image, detected, file_name),
        ),
    )


def _truth_shapes(evaluation: Evaluation, annotations: list[dict]) -> list[Shape]:
    shapes = [
        Shape(
            evaluation.ground_truth.annToRLE(a) if a.get("segmentation") else None,
            np.array(a["bbox"], dtype=float),
            category_color(evaluation.ground_truth.cats, a["category_id"]),
            _label(position),
        )
        for position, a in enumerate(annotations)
    ]
    return sorted(shapes, key=lambda shape: -shape.bbox[2] * shape.bbox[3])


def _detection_shapes(
    evaluation: Evaluation, detections: Detections, detected: list[int]
) -> list[Shape]:
    masks = detections.segmentation
    shapes = [
        Shape(
            None if masks is None else masks[index],
            detections.bbox[index].astype(float),
            category_color(evaluation.ground_truth.cats, int(detections.category_id[index])),
            _label(position),
        )
        for position, index in enumerate(detected)
    ]
    return shapes[::-1]  # the highest score on top


def _label(position: int) -> str:
    return str(position + 1) if position < LISTED else ""


def _listed(names: list[str]) -> str:
    numbered = [f"{number} {name}" for number, name in enumerate(names[:LISTED], start=1)]
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return ", ".join([*numbered, *more]) or "none"


def _scores(
    evaluation: Evaluation, detections: Detections, detected: list[int], file_name: str
) -> Element:
    """Returns a table with the scores of the numbered detections."""
    if not detected:
        return element("p", "Detections: none")
    columns = {"box score": detections.score, "mask score": detections.mask_score}
    given = {name: column for name, column in columns.items() if column is not None}
    rows = [
        row(
            f"{number} {class_name(evaluation, detections.category_id[index])}",
            *(number_at(column, index) for column in given.values()),
        )
        for number, index in enumerate(detected[:LISTED], start=1)
    ]
    scores = table(["detection", *given], rows, f"Detections in {file_name}")
    left = len(detected) - LISTED
    return element("div", scores, element("p", f"and {left} more") if left > 0 else None)
