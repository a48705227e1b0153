"""Test-time augmentation for Mask Scoring R-CNN."""

from collections.abc import Callable

import torch
from detectron2.data.transforms import HFlipTransform
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances

from .soft_nms import SoftNMS, soft_nms_inference


class MaskScoringRCNNWithTTA(GeneralizedRCNNWithTTA):
    """Detectron2's ``GeneralizedRCNNWithTTA`` that also scores the merged masks.

    The output mask is the average over all augmented views, so averaging the mask scores of the
    views would not score the mask that is returned. Instead, the MaskIoU head scores the merged
    mask on one view, which is not flipped and has the test scale.
    """

    def __init__(
        self,
        cfg,
        model,
        tta_mapper=None,
        batch_size: int = 3,
        postprocess: Callable[[Instances, int, int], Instances] = detector_postprocess,
    ):
        """
        Args:
            cfg: config of the model.
            model: a ``GeneralizedRCNN``, optionally wrapped in ``DistributedDataParallel``.
            tta_mapper: creates the augmented views of an image; follows ``TEST.AUG`` by default.
            batch_size: number of views per forward pass.
            postprocess: computes the output from the merged detections, with ``pred_masks`` of
                shape (N, 1, M, M), and the height and width of the image.
        """
        super().__init__(cfg, model, tta_mapper, batch_size)
        self.soft_nms = SoftNMS.from_config(cfg)
        self.postprocess = postprocess

    def _merge_detections(self, all_boxes, all_scores, all_classes, shape_hw):
        if self.soft_nms is None:
            return super()._merge_detections(all_boxes, all_scores, all_classes, shape_hw)
        scores = all_boxes.new_zeros(len(all_boxes), self.cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1)
        if len(all_boxes):
            rows = torch.arange(len(all_boxes), device=all_boxes.device)
            scores[rows, torch.stack(list(all_classes))] = torch.stack(list(all_scores))
        topk = self.cfg.TEST.DETECTIONS_PER_IMAGE
        merged, _ = soft_nms_inference([all_boxes], [scores], [shape_hw], 0.0, self.soft_nms, topk)
        return merged[0]

    def _inference_one_image(self, input: dict) -> dict:
        shape = (input["height"], input["width"])
        views, transforms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            boxes = self._get_augmented_boxes(views, transforms)
        merged = self._merge_detections(*boxes, shape)
        if self.cfg.MODEL.MASK_ON:
            in_views = self._rescale_detected_boxes(views, merged, transforms)
            merged.pred_masks = self._reduce_pred_masks(
                self._batch_inference(views, in_views), transforms
            )
        if self.cfg.MODEL.MASKIOU_ON:
            self._score(merged, views, transforms)
        return {"instances": self.postprocess(merged, *shape)}

    def _score(self, merged: Instances, views: list[dict], transforms: list) -> None:
        """Adds ``pred_maskiou`` and ``mask_scores`` to the merged detections."""
        index = self._scoring_view(views, transforms)
        (detections,) = self._rescale_detected_boxes([views[index]], merged, [transforms[index]])
        detections.given_masks = merged.pred_masks
        (scored,) = self._batch_inference([views[index]], [detections])
        merged.pred_maskiou, merged.mask_scores = scored.pred_maskiou, scored.mask_scores

    def _scoring_view(self, views: list[dict], transforms: list) -> int:
        """Returns the index of the unflipped view whose short side is closest to the test scale."""
        height, width = views[0]["height"], views[0]["width"]
        min_size, max_size = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        short_side = min(min_size, max_size * min(height, width) / max(height, width))

        def distance(index: int) -> float:
            return abs(min(views[index]["image"].shape[1:]) - short_side)

        unflipped = [
            index
            for index, transform in enumerate(transforms)
            if not any(isinstance(t, HFlipTransform) for t in transform.transforms)
        ]
        return min(unflipped, key=distance)
