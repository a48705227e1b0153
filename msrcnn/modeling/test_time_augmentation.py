"""Test-time augmentation that keeps both scores."""

from collections.abc import Callable

import torch
from detectron2.data.transforms import HFlipTransform
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances

from .soft_nms import SoftNMS, soft_nms_inference


class MaskScoringRCNNWithTTA(GeneralizedRCNNWithTTA):
    """Detectron2's test-time augmentation; the merged mask is scored as one mask.

    The mask that is put out is the average over the views, so the average of the views' scores
    would be of masks that nobody sees. The MaskIoU head scores the merged mask itself, on one
    unflipped view at the test scale.
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
            cfg: as of the model.
            model: a ``GeneralizedRCNN``, perhaps wrapped for data-parallel use.
            tta_mapper: makes the views of an image; by default as ``TEST.AUG`` says.
            batch_size: views that go through the model together.
            postprocess: makes the output of merged detections, whose ``pred_masks`` are of
                shape (N, 1, M, M), and the image's height and width.
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
        """Give the merged detections ``pred_maskiou`` and ``mask_scores``."""
        index = self._plain_view(views, transforms)
        (given,) = self._rescale_detected_boxes([views[index]], merged, [transforms[index]])
        given.given_masks = merged.pred_masks
        (scored,) = self._batch_inference([views[index]], [given])
        merged.pred_maskiou, merged.mask_scores = scored.pred_maskiou, scored.mask_scores

    def _plain_view(self, views: list[dict], transforms: list) -> int:
        """The unflipped view whose short side is nearest to the test scale."""
        height, width = views[0]["height"], views[0]["width"]
        test_size, limit = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        wanted = min(test_size, limit * min(height, width) / max(height, width))

        def distance(index: int) -> float:
            return abs(min(views[index]["image"].shape[1:]) - wanted)

        unflipped = [
            index
            for index, transform in enumerate(transforms)
            if not any(isinstance(t, HFlipTransform) for t in transform.transforms)
        ]
        return min(unflipped, key=distance)
