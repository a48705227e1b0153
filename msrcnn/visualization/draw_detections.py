"""Draws the detections of one image."""

import numpy as np
from detectron2.structures import Instances
from PIL import Image

from ..class_names import name_of
from ..modeling.mask_score import box_scores
from .overlay import Overlay, class_color, draw_overlays

# Fields to show: calibrated, 0.5 means that the mask is as likely right as wrong.
MASK_SCORES = ("mask_probability", "mask_scores")
MIN_SIDE = 480  # of a drawing: labels would cover a smaller one
MAX_SIDE = 1920  # to which a drawing is enlarged: that of a long strip would fill the memory


def draw_detections(
    pixels: np.ndarray, instances: Instances, class_names: list[str], *, enlarge: bool = True
) -> Image.Image:
    """Draws boxes, masks and labels with class, box score and mask score over an image.

    A calibrated model has the probability that the mask is correct in place of the mask score.

    Args:
        pixels: uint8 array of shape (H, W, 3), RGB.
        instances: output of a model for the image, on the CPU.
        class_names: class names by index; a class without a name is labeled with its index.
        enlarge: enlarge images whose short side is below ``MIN_SIDE`` pixels, but their long side
            to at most ``MAX_SIDE``.
    """
    overlays = []
    for index in range(len(instances)):
        one = instances[index]
        label = int(one.pred_classes)
        scores = [box_scores(one)]
        mask_score = next((name for name in MASK_SCORES if one.has(name)), None)
        scores += [one.get(mask_score)] if mask_score else []
        x0, y0, x1, y1 = one.pred_boxes.tensor[0].tolist()
        overlays.append(
            Overlay(
                one.pred_masks[0].numpy() if one.has("pred_masks") else None,
                np.array([x0, y0, x1 - x0, y1 - y0]),
                name_of(label, class_names),
                " | ".join(f"{float(score):.2f}" for score in scores),
                class_color(label),
            )
        )
    short, long = sorted(pixels.shape[:2])
    scale = max(min(MIN_SIDE / short, MAX_SIDE / long), 1.0) if enlarge else 1.0
    return draw_overlays(pixels, scale, overlays)
