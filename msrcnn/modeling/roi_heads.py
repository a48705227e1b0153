"""ROI heads for options that need more than Detectron2's pass to the mask head.

* Soft-NMS replaces NMS in the box predictor, and in Cascade after the last one.
* The MaskIoU head's input ``high_res`` needs a second, finer pooling.
* The MaskIoU targets ``all_classes`` and ``positive_classes`` need all instances of the image.
* Training the MaskIoU head on detections needs a box inference in every training step.

Each class lists in ``supports`` which of these it supports: ``"soft_nms"``, ``"high_res"``,
``"image_instances"``, ``"detection_samples"``.
"""

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    FastRCNNOutputLayers,
    Res5ROIHeads,
    StandardROIHeads,
    select_foreground_proposals,
)
from detectron2.structures import Boxes, Instances
from torch import nn

from .detection_samples import DetectionSampler, evaluation_mode
from .maskiou_input import INPUT_DESIGNS
from .maskiou_samples import TARGETS
from .soft_nms import SoftNMS, soft_nms_inference


class SharedField:
    """One object shared by all proposals of an image, as a field that follows indexing.

    ``Instances`` selects proposals by indexing every field; this one keeps the object.
    """

    def __init__(self, value, length: int):
        """
        Args:
            value: the shared object.
            length: number of proposals.
        """
        self.value, self.length = value, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item) -> "SharedField":
        if not isinstance(item, torch.Tensor):
            return SharedField(self.value, len(range(self.length)[item]))
        # The host waits for the device only to count a mask.
        length = int(item.sum()) if item.dtype == torch.bool else len(item)
        return SharedField(self.value, length)


class SoftNMSOutputLayers(FastRCNNOutputLayers):
    """Detectron2's box predictor with Soft-NMS."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, soft_nms: SoftNMS, **kwargs):
        """
        Args:
            input_shape: shape of the box feature.
            soft_nms: replaces NMS.
            **kwargs: passed to ``FastRCNNOutputLayers``.
        """
        super().__init__(input_shape, **kwargs)
        self.soft_nms = soft_nms

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        return {**super().from_config(cfg, input_shape), "soft_nms": SoftNMS.from_config(cfg)}

    def inference(self, predictions, proposals: list[Instances]):
        return soft_nms_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.soft_nms,
            self.test_topk_per_image,
        )


class _ImageInstances:
    """Gives every sampled proposal the instances of its image, if a target needs them."""

    def __init__(self, *, share_image_instances: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.share_image_instances = share_image_instances

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        target = TARGETS[cfg.MODEL.ROI_MASKIOU_HEAD.TARGET]
        share = cfg.MODEL.MASKIOU_ON and target.needs_image_instances
        return {**super().from_config(cfg, input_shape), "share_image_instances": share}

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals, targets):
        sampled = super().label_and_sample_proposals(proposals, targets)
        if self.share_image_instances:
            for of_image, targets_of_image in zip(sampled, targets):
                of_image.gt_image_instances = SharedField(targets_of_image, len(of_image))
        return sampled


class _HighRes:
    """Pools a second feature for the MaskIoU head if its input design needs one."""

    def __init__(self, *, maskiou_pooler: nn.Module | None = None, **kwargs):
        super().__init__(**kwargs)
        self.maskiou_pooler = maskiou_pooler

    @classmethod
    def _init_mask_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        ret = super()._init_mask_head(cfg, input_shape)
        scale = INPUT_DESIGNS[cfg.MODEL.ROI_MASKIOU_HEAD.INPUT].feature_scale
        if ret and cfg.MODEL.MASKIOU_ON and scale > 1:
            head = cfg.MODEL.ROI_MASK_HEAD
            ret["maskiou_pooler"] = ROIPooler(
                output_size=head.POOLER_RESOLUTION * scale,
                scales=tuple(1.0 / input_shape[name].stride for name in ret["mask_in_features"]),
                sampling_ratio=head.POOLER_SAMPLING_RATIO,
                pooler_type=head.POOLER_TYPE,
            )
        return ret

    def _forward_mask(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        if not self.mask_on or self.maskiou_pooler is None:
            return super()._forward_mask(features, instances)
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        boxes = [i.proposal_boxes if self.training else i.pred_boxes for i in instances]
        mask_feature, *finer = self._pool_masks(features, boxes)
        return self.mask_head(mask_feature, instances, *finer)

    def _pool_masks(self, features: dict[str, torch.Tensor], boxes: list[Boxes]) -> list:
        """Returns the mask head's RoI feature, and the MaskIoU head's own if it has one."""
        maps = [features[name] for name in self.mask_in_features]
        poolers = [self.mask_pooler, self.maskiou_pooler]
        return [pooler(maps, boxes) for pooler in poolers if pooler is not None]


class _DetectionSamples:
    """Trains the MaskIoU head on the current model's detections, from an iteration on.

    Features of detections are computed without gradient. The detector is then trained as without
    mask scoring, undisturbed by false positives, whose target of 0 says nothing about a feature,
    and a step is cheaper.
    """

    def __init__(self, *, detection_sampler: DetectionSampler | None = None, **kwargs):
        super().__init__(**kwargs)
        self.detection_sampler = detection_sampler

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        sampler = DetectionSampler.from_config(cfg)
        return {**super().from_config(cfg, input_shape), "detection_sampler": sampler}

    def forward(self, images, features, proposals, targets=None):
        # The other losses come first: autocast caches weights when they are first used, and in
        # older PyTorch, weights that were first used without gradient would get no gradient.
        results, losses = super().forward(images, features, proposals, targets)
        if self.training and self.detection_sampler and self.mask_head.step_uses_detections:
            losses.update(self._detection_losses(features, proposals, targets))
        return results, losses

    def _detection_losses(self, features, proposals, targets) -> dict[str, torch.Tensor]:
        number = self.detection_sampler.num_proposals
        with torch.no_grad(), evaluation_mode(self):
            # Proposals are sorted by objectness, and do not contain the ground truth.
            detections = self._detect(features, [p[:number] for p in proposals])
            samples = self.detection_sampler(detections, targets)
            pooled = self._pool_masks(features, [s.proposal_boxes for s in samples])
            inputs = self.mask_head.maskiou_inputs(*pooled)
        return self.mask_head.detection_losses(*inputs, samples, targets)

    def _detect(self, features, proposals: list[Instances]) -> list[Instances]:
        """Runs the box inference; in evaluation mode."""
        return self._forward_box(features, proposals)


@ROI_HEADS_REGISTRY.register()
class MaskScoringROIHeads(_DetectionSamples, _ImageInstances, _HighRes, StandardROIHeads):
    """``StandardROIHeads`` (FPN) that support every option of mask scoring."""

    supports = frozenset({"soft_nms", "high_res", "image_instances", "detection_samples"})

    @configurable
    def __init__(self, **kwargs):
        """
        Args:
            **kwargs: those of ``StandardROIHeads``; ``maskiou_pooler``, which pools the MaskIoU
                head's own feature; ``share_image_instances``, whether a target needs them;
                ``detection_sampler``, which draws the detections that the MaskIoU head learns from.
        """
        super().__init__(**kwargs)

    @classmethod
    def _init_box_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        ret = super()._init_box_head(cfg, input_shape)
        if SoftNMS.from_config(cfg):
            ret["box_predictor"] = SoftNMSOutputLayers(cfg, ret["box_head"].output_shape)
        return ret


@ROI_HEADS_REGISTRY.register()
class MaskScoringRes5ROIHeads(_ImageInstances, Res5ROIHeads):
    """``Res5ROIHeads`` (C4) that support every option but ``high_res`` and detections as samples.

    Box inference would run res5 on about twice as many proposals as a training step does.
    """

    supports = frozenset({"soft_nms", "image_instances"})

    @configurable
    def __init__(self, **kwargs):
        """
        Args:
            **kwargs: those of ``Res5ROIHeads``; ``share_image_instances``, whether a target needs
                them.
        """
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        ret = super().from_config(cfg, input_shape)
        if SoftNMS.from_config(cfg):
            channels = ret["box_predictor"].cls_score.in_features
            shape = ShapeSpec(channels=channels, height=1, width=1)
            ret["box_predictor"] = SoftNMSOutputLayers(cfg, shape)
        return ret


@ROI_HEADS_REGISTRY.register()
class MaskScoringCascadeROIHeads(_DetectionSamples, _ImageInstances, _HighRes, CascadeROIHeads):
    """``CascadeROIHeads`` that support every option of mask scoring."""

    supports = frozenset({"soft_nms", "high_res", "image_instances", "detection_samples"})

    @configurable
    def __init__(self, *, soft_nms: SoftNMS | None = None, **kwargs):
        """
        Args:
            soft_nms: replaces NMS after the last stage; ``None`` keeps NMS.
            **kwargs: those of ``CascadeROIHeads``; ``maskiou_pooler``, which pools the MaskIoU
                head's own feature; ``share_image_instances``, whether a target needs them;
                ``detection_sampler``, which draws the detections that the MaskIoU head learns from.
        """
        super().__init__(**kwargs)
        self.soft_nms = soft_nms

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        return {**super().from_config(cfg, input_shape), "soft_nms": SoftNMS.from_config(cfg)}

    def _forward_box(self, features, proposals: list[Instances], targets=None):
        # The stock method ends in NMS without asking a predictor.
        if self.training or self.soft_nms is None:
            return super()._forward_box(features, proposals, targets)
        maps = [features[name] for name in self.box_in_features]
        sizes = [p.image_size for p in proposals]
        stage_scores = []
        for stage, predictor in enumerate(self.box_predictor):
            if stage > 0:
                proposals = self._create_proposals_from_boxes(boxes, sizes)  # noqa: F821
            predictions = self._run_stage(maps, proposals, stage)
            boxes = predictor.predict_boxes(predictions, proposals)
            stage_scores.append(predictor.predict_probs(predictions, proposals))
        scores = [torch.stack(of_image).mean(dim=0) for of_image in zip(*stage_scores)]
        thresh, topk = predictor.test_score_thresh, predictor.test_topk_per_image
        return soft_nms_inference(boxes, scores, sizes, thresh, self.soft_nms, topk)[0]
