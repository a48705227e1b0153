"""The views of an image in the pass over the training images."""

import detectron2.data.transforms as T
import torch
from detectron2.structures import Instances

from ..data.mapper import ImageMapper, NamedErrors
from ..data.train_loader import random_numbers


class ViewMapper:
    """Loads images for one view of the pass.

    View 0 is that of the evaluation. Later views have a random size of ``INPUT.MIN_SIZE_TRAIN``,
    and every second one is mirrored if ``INPUT.RANDOM_FLIP`` is ``"horizontal"``. They
    depend on the image and the view alone, so that an interrupted pass can resume, and fits with
    different seeds can share its samples.
    """

    def __init__(self, cfg, view: int):
        self.mirrors = view % 2 == 1 and cfg.INPUT.RANDOM_FLIP == "horizontal"
        self._view = view
        if view == 0:
            self._mapper = NamedErrors(ImageMapper(cfg, False))
            return
        size = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN
        augmentations = [T.ResizeShortestEdge(*size, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)]
        if self.mirrors:
            augmentations.append(T.RandomFlip(prob=1.0))
        self._mapper = NamedErrors(ImageMapper(cfg, False, augmentations=augmentations))

    def __call__(self, image: dict) -> dict:
        """Returns the model's input of a dataset dict."""
        with random_numbers(self._view, image["image_id"]):
            return self._mapper(image)


def mirror(instances: Instances) -> None:
    """Mirrors detections horizontally, before they are postprocessed.

    Args:
        instances: n detections with ``pred_boxes`` in pixels of the network's input and
            ``pred_masks`` of shape (n, 1, M, M); changed in place.
    """
    width = instances.image_size[1]
    x0, y0, x1, y1 = instances.pred_boxes.tensor.unbind(dim=1)
    instances.pred_boxes.tensor = torch.stack([width - x1, y0, width - x0, y1], dim=1)
    instances.pred_masks = instances.pred_masks.flip(-1)
