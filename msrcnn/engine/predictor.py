"""Prediction on single images."""

import numpy as np
import torch
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.data.transforms import AugInput, AugmentationList, ResizeShortestEdge
from detectron2.modeling import build_model
from detectron2.structures import Instances
from PIL import Image

from ..checkpoint import MaskScoringCheckpointer
from ..checkpoint.load_report import LoadReport
from ..errors import UserError
from .build_errors import config_errors
from .device import on_available_device
from .model_classes import class_names


def load_model(cfg, *, resume: bool = False, trust_weights: bool = False) -> torch.nn.Module:
    """Builds the model of a config and loads its weights, for evaluation or prediction.

    Args:
        cfg: the config.
        resume: use the last checkpoint of the output folder instead of ``MODEL.WEIGHTS``.
        trust_weights: load weights that are not plain data, and run the code in them.

    Returns:
        The model, in evaluation mode.

    Raises:
        UserError: if there are no weights, or they cannot be loaded or do not fit the whole model.
    """
    with config_errors():
        model = build_model(on_available_device(cfg))
    checkpointer = MaskScoringCheckpointer(model, cfg.OUTPUT_DIR, trusted=trust_weights)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if checkpointer.report is None:
        raise UserError("no weights to load: set MODEL.WEIGHTS, or --weights; the model is random")
    _check_complete(checkpointer.report)
    return model.eval()


def _check_complete(report: LoadReport) -> None:
    """Rejects weights that leave a part of the model random: fine in training, wrong here."""
    fresh = [*report.fresh, *(name for names in report.remade.values() for name in names)]
    # The number of batches that a batch norm has seen is not used.
    fresh = [name for name in fresh if not name.endswith("num_batches_tracked")]
    if fresh:
        raise UserError(
            f"'{report.source}' lacks {len(fresh)} of the model's tensors, the first "
            f"'{fresh[0]}': its output would be random. Use the config that the weights were "
            "trained with, or train further"
        )


class Predictor:
    """A trained model that takes an RGB image of any size.

    Attributes:
        class_names: names by class index; empty if they are not known.
    """

    def __init__(self, cfg, *, trust_weights: bool = False):
        """
        Args:
            cfg: a config with ``MODEL.WEIGHTS``.
            trust_weights: see :func:`load_model`.
        """
        self.model = load_model(cfg, trust_weights=trust_weights)
        self.class_names = class_names(cfg)
        self._format = cfg.INPUT.FORMAT
        sizes = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self._resize = AugmentationList([ResizeShortestEdge(*sizes)])

    @torch.no_grad()
    def __call__(self, pixels: np.ndarray) -> Instances:
        """Detects objects in one image.

        Args:
            pixels: array of shape (H, W, 3), RGB, 0 to 255.

        Returns:
            Instances on the CPU at the image's size, with ``pred_boxes``, ``scores`` and
            ``pred_classes``; if the model predicts them, ``pred_masks`` of shape (N, H, W),
            ``pred_maskiou`` and ``mask_scores`` of shape (N,).

        Raises:
            UserError: if the image is so narrow that nothing is left of it at the model's size.
        """
        height, width = pixels.shape[:2]
        resized = AugInput(convert_PIL_to_numpy(Image.fromarray(pixels), self._format))
        try:
            self._resize(resized)
        except ValueError as error:
            raise UserError(f"an image of {width} x {height} cannot be resized: {error}") from error
        image = torch.as_tensor(np.ascontiguousarray(resized.image.transpose(2, 0, 1)))
        inputs = [{"image": image, "height": height, "width": width}]
        return self.model(inputs)[0]["instances"].to("cpu")
