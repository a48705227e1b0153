"""Pictures in which a model finds something, to compare it with its export."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.data.transforms import AugInput, ResizeShortestEdge
from PIL import Image
from torch import Tensor

from ..data.shapes import make_image
from ..errors import UserError
from .single_image import SingleImage

MIN_DETECTIONS = 10  # in all pictures together


def check_pictures(cfg: CfgNode) -> list[Tensor]:
    """Draws two pictures with shapes, as a model's input.

    Returns:
        uint8 tensors of shape (C, H, W): one at the size of the config's test images, and one that
        is turned by 90 degrees, at three quarters of the size.
    """
    pixels, _ = make_image(np.random.default_rng(9))  # not square, and with five shapes
    sizes = cfg.INPUT.MIN_SIZE_TEST or min(pixels.shape[:2]), cfg.INPUT.MAX_SIZE_TEST
    smaller = [int(size * 3 / 4) for size in sizes]
    return [
        _input(pixels, cfg.INPUT.FORMAT, *sizes),
        _input(np.rot90(pixels), cfg.INPUT.FORMAT, *smaller),
    ]


def _input(pixels: np.ndarray, image_format: str, min_size: int, max_size: int) -> Tensor:
    picture = AugInput(convert_PIL_to_numpy(Image.fromarray(pixels), image_format))
    ResizeShortestEdge(min_size, max_size)(picture)
    return torch.as_tensor(np.ascontiguousarray(picture.image.transpose(2, 0, 1)))


@contextmanager
def score_threshold(model: SingleImage, factor: float) -> Iterator[None]:
    """Multiplies the model's score threshold by a factor within a ``with`` block."""
    predictors = [m for m in model.modules() if hasattr(m, "test_score_thresh")]
    stock = [predictor.test_score_thresh for predictor in predictors]
    for predictor in predictors:
        predictor.test_score_thresh *= factor
    try:
        yield
    finally:
        for predictor, threshold in zip(predictors, stock):
            predictor.test_score_thresh = threshold


def revealing_factor(model: SingleImage, pictures: Sequence[Tensor]) -> float:
    """Returns what to multiply the score threshold by, so that the model finds something.

    Returns:
        The largest of 1, 0.1, 0.01, 0.001 and 0 with which it finds ``MIN_DETECTIONS``.

    Raises:
        UserError: if there is none: the weights are not those of a detector.
    """
    for factor in (1.0, 0.1, 0.01, 0.001, 0.0):
        with score_threshold(model, factor), torch.no_grad():
            if sum(len(model(picture)["scores"]) for picture in pictures) >= MIN_DETECTIONS:
                return factor
    raise UserError(
        "nothing was exported: even without a score threshold, the model finds nothing in the test "
        "pictures, so that its export cannot be checked. Are the weights finite?"
    )
