"""Test-time augmentation for Mask Scoring R-CNN."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from detectron2.data.transforms import HFlipTransform
from detectron2.modeling import GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances

from .mask_score import rank_by_mask_score
from .soft_nms import SoftNMS, soft_nms_inference


class MaskScoringRCNNWithTTA(GeneralizedRCNNWithTTA):
    """Detectron2's ``GeneralizedRCNNWithTTA`` that also scores the merged masks.

    The output mask is the average over all augmented views, so averaging the mask scores of the
    views would not score the mask that is returned. Instead, the MaskIoU head scores the merged
    mask on one view, which is not flipped and has the test scale.

    Every view passes the backbone once: its features are kept until the image is done, 80 MB for
    an average view of COCO's settings with an FPN of 256 channels.
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

    def _batch_inference(self, views: "_Views", detected_instances=None) -> list[Instances]:
        """As in the base class, which calls it with the views that it was given."""
        return views.detect() if detected_instances is None else views.mask(detected_instances)

    def _inference_one_image(self, input: dict) -> dict:
        shape = (input["height"], input["width"])
        inputs, transforms = self._get_augmented_inputs(input)
        views = _Views(self.model, inputs, self.batch_size)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            boxes = self._get_augmented_boxes(views, transforms)
        merged = self._merge_detections(*boxes, shape)
        if self.cfg.MODEL.MASK_ON:
            in_views = self._rescale_detected_boxes(inputs, merged, transforms)
            with without_maskiou(self.model.roi_heads):
                outputs = self._batch_inference(views, in_views)
            merged.pred_masks = self._reduce_pred_masks(outputs, transforms)
        if self.cfg.MODEL.MASKIOU_ON:
            self._score(merged, inputs, views, transforms)
        return {"instances": self.postprocess(merged, *shape)}

    def _score(
        self, merged: Instances, inputs: list[dict], views: "_Views", transforms: list
    ) -> None:
        """Adds ``pred_maskiou`` and ``mask_scores`` to the merged detections."""
        index = self._scoring_view(inputs, transforms)
        (detections,) = self._rescale_detected_boxes([inputs[index]], merged, [transforms[index]])
        detections.given_masks = merged.pred_masks
        scored = views.mask_one(index, detections)
        merged.pred_maskiou, merged.mask_scores = scored.pred_maskiou, scored.mask_scores
        if scored.has("mask_probability"):
            merged.mask_probability = scored.mask_probability
        if self.cfg.MODEL.ROI_MASK_HEAD.RANK_BY == "mask_score":
            rank_by_mask_score(merged)

    def _scoring_view(self, views: list[dict], transforms: list) -> int:
        """Returns the index of the unflipped view whose short side is closest to the test scale."""
        height, width = views[0]["height"], views[0]["width"]
        min_size, max_size = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        if min_size == 0:  # images are not resized
            short_side = min(height, width)
        else:
            short_side = min(min_size, max_size * min(height, width) / max(height, width))

        def distance(index: int) -> float:
            return abs(min(views[index]["image"].shape[1:]) - short_side)

        unflipped = [
            index
            for index, transform in enumerate(transforms)
            if not any(isinstance(t, HFlipTransform) for t in transform.transforms)
        ]
        return min(unflipped, key=distance)


class _Views:
    """Views of an image with the features of the backbone, which all steps share."""

    def __init__(self, model: GeneralizedRCNN, inputs: list[dict], batch_size: int):
        self._model, self._batch_size = model, batch_size
        chunks = [inputs[i : i + batch_size] for i in range(0, len(inputs), batch_size)]
        self._images = [model.preprocess_image(chunk) for chunk in chunks]
        self._features = [model.backbone(images.tensor) for images in self._images]

    def detect(self) -> list[Instances]:
        """Returns the detections in each view."""
        found = []
        for images, features in zip(self._images, self._features):
            proposals, _ = self._model.proposal_generator(images, features, None)
            found += self._model.roi_heads(images, features, proposals, None)[0]
        return found

    def mask(self, detections: list[Instances]) -> list[Instances]:
        """Returns the detections of each view with masks."""
        detections, found = [each.to(self._model.device) for each in detections], []
        for features in self._features:
            chunk, detections = detections[: self._batch_size], detections[self._batch_size :]
            found += self._model.roi_heads.forward_with_given_boxes(features, chunk)
        return found

    def mask_one(self, index: int, detections: Instances) -> Instances:
        """Returns the detections of one view with masks."""
        chunk, row = divmod(index, self._batch_size)
        features = {name: x[row : row + 1] for name, x in self._features[chunk].items()}
        detections = [detections.to(self._model.device)]
        return self._model.roi_heads.forward_with_given_boxes(features, detections)[0]


@contextlib.contextmanager
def without_maskiou(roi_heads: torch.nn.Module) -> Iterator[None]:
    """Turns off mask scoring within a ``with`` block, if the model has it."""
    mask_head = roi_heads.mask_head
    maskiou_head = getattr(mask_head, "maskiou_head", None)
    if maskiou_head is None:
        yield
        return
    mask_head.maskiou_head = None
    try:
        yield
    finally:
        mask_head.maskiou_head = maskiou_head
