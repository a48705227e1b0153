"""Mappers: for images of any depth, with the instance areas that mask scoring needs, and with
errors that name the image.
"""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from PIL import Image

from ..errors import UserError
from ..modeling.instance_masks import InstanceMasks
from ..modeling.maskiou_target import instance_areas
from .pixels import read_pixels


class ImageMapper(DatasetMapper):
    """Detectron2's ``DatasetMapper`` that also reads images of more than 8 bits.

    For other images its output is the same.
    """

    @configurable
    def __init__(self, is_train: bool, *, value_range: Sequence[float] = (), **kwargs):
        """
        Args:
            is_train: see ``DatasetMapper``.
            value_range: ``INPUT.VALUE_RANGE``.
            **kwargs: passed to ``DatasetMapper``.
        """
        super().__init__(is_train, **kwargs)
        self.value_range = tuple(value_range)

    @classmethod
    def from_config(cls, cfg, is_train: bool = True):
        """Returns the arguments of ``__init__``."""
        return {**super().from_config(cfg, is_train), "value_range": cfg.INPUT.VALUE_RANGE}

    def __call__(self, dataset_dict: dict) -> dict:
        """Returns the model's input of a dataset dict."""
        mapped = copy.deepcopy(dataset_dict)
        pixels = read_pixels(mapped["file_name"], self.image_format, self.value_range)
        utils.check_image_size(mapped, pixels)
        regions = mapped.pop("sem_seg_file_name", None)  # of panoptic models
        if regions is not None:
            regions = utils.read_image(regions, "L")[:, :, 0]
        augmented = T.AugInput(pixels, sem_seg=regions)
        transforms = self.augmentations(augmented)
        size = augmented.image.shape[:2]
        mapped["image"] = torch.as_tensor(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        if regions is not None:
            mapped["sem_seg"] = torch.as_tensor(augmented.sem_seg.astype("long"))
        if self.proposal_topk is not None:
            utils.transform_proposals(mapped, size, transforms, proposal_topk=self.proposal_topk)
        if not self.is_train:
            mapped.pop("annotations", None)
        elif "annotations" in mapped:
            self._transform_annotations(mapped, transforms, size)
        return mapped


class MaskScoringDatasetMapper(ImageMapper):
    """A mapper that adds ``gt_mask_area``, the area of each whole instance.

    The areas are computed in the data workers instead of the training step: Detectron2's ROI heads
    copy every ``gt_*`` field to the sampled proposals, therefore bitmasks become
    :class:`~msrcnn.modeling.instance_masks.InstanceMasks`. Images (and random crops) without
    instances get the same fields as all others.
    """

    def _transform_annotations(self, dataset_dict, transforms, image_shape):
        if all(annotation.get("iscrowd", 0) for annotation in dataset_dict["annotations"]):
            # The base class would omit gt_masks, and fail when it recomputes the boxes.
            dataset_dict.pop("annotations")
            dataset_dict["instances"] = self._empty(image_shape)
        else:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
        instances = dataset_dict["instances"]
        if instances.has("gt_masks"):
            if isinstance(instances.gt_masks, BitMasks):
                instances.gt_masks = InstanceMasks(instances.gt_masks.tensor)
            instances.gt_mask_area = instance_areas(instances.gt_masks, image_shape)

    def _empty(self, image_shape: tuple[int, int]) -> Instances:
        instances = Instances(image_shape)
        instances.gt_boxes = Boxes(torch.zeros(0, 4))
        instances.gt_classes = torch.zeros(0, dtype=torch.int64)
        if self.use_instance_mask:
            if self.instance_mask_format == "polygon":
                instances.gt_masks = PolygonMasks([])
            else:
                instances.gt_masks = BitMasks(torch.zeros(0, *image_shape, dtype=torch.bool))
        return instances


class NamedErrors:
    """A mapper whose errors name the image: files can vanish or break while a run lasts."""

    def __init__(self, mapper: Callable[[dict], dict | None]):
        self._mapper = mapper

    def __call__(self, dataset_dict: dict) -> dict | None:
        """
        Raises:
            UserError: if the image cannot be read, resized or matched with its annotations.
        """
        try:
            return self._mapper(dataset_dict)
        except UserError:
            raise
        # Pillow raises all of them.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            name, width, height = map(dataset_dict.get, ("file_name", "width", "height"))
            raise UserError(
                f"image '{name}' of {width} x {height} pixels cannot be used: {error}"
            ) from error
