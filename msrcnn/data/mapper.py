"""Mappers: one with the instance areas that mask scoring needs, and errors that name the image."""

from collections.abc import Callable

import torch
from detectron2.data import DatasetMapper
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from PIL import Image

from ..errors import UserError
from ..modeling.instance_masks import InstanceMasks
from ..modeling.maskiou_target import instance_areas


class MaskScoringDatasetMapper(DatasetMapper):
    """Detectron2's ``DatasetMapper`` that adds ``gt_mask_area``, the area of each whole instance.

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
