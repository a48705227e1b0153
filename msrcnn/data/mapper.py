"""Detectron2's training mapper, with what mask scoring needs of each instance."""

import torch
from detectron2.data import DatasetMapper
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from ..modeling.maskiou_target import instance_areas


class MaskScoringDatasetMapper(DatasetMapper):
    """Adds ``gt_mask_area``, the area of each whole instance, in the data workers.

    Detectron2's ROI heads hand every ``gt_*`` field on to the sampled proposals, so that no area
    is computed in the training step. The mapper also gives an image without instances (or a
    random crop without any) the same fields as every other.
    """

    def _transform_annotations(self, dataset_dict, transforms, image_shape):
        if all(annotation.get("iscrowd", 0) for annotation in dataset_dict["annotations"]):
            # The base class would leave out gt_masks, and fail where it recomputes boxes.
            dataset_dict.pop("annotations")
            dataset_dict["instances"] = self._empty(image_shape)
        else:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
        instances = dataset_dict["instances"]
        if instances.has("gt_masks"):
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
