"""Mask scoring, written once: the mask head that also scores its masks (paper 3.1).

Every ROI-heads class of Detectron2 calls ``mask_head(features, instances)``: in training with
the foreground proposals, at test time with the detections that survived NMS. That call holds
all that mask scoring needs, so it is a mask head, and the stock ROI heads serve it unchanged.
"""

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY, Res5ROIHeads
from detectron2.modeling.roi_heads.mask_head import (
    MaskRCNNConvUpsampleHead,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from ..config import check_choice
from ..errors import UserError
from .maskiou_head import INPUT_DESIGNS, build_maskiou_head
from .maskiou_loss import LOSSES, maskiou_loss
from .maskiou_samples import TARGETS
from .maskiou_target import ground_truth_areas
from .roi_heads import HighResMixin, ImageInstancesMixin
from .soft_nms import NMS_TYPES


class CroppedMasks:
    """Ground-truth masks already cropped to their proposals, for the stock mask loss.

    Rasterising the crops is costly and both losses need them; this hands the stock one what was
    made once.
    """

    def __init__(self, crops: torch.Tensor):
        """
        Args:
            crops: bool tensor of shape (N, M, M).
        """
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """The crops; they must have been made for these boxes and this size."""
        assert self.crops.shape == (len(boxes), mask_size, mask_size), self.crops.shape
        return self.crops


def feature_shape(declared: ShapeSpec, through_res5: bool) -> ShapeSpec:
    """The true shape of the RoI feature that the mask head is given.

    Args:
        declared: the shape the mask head is declared with.
        through_res5: the ROI heads are ``Res5ROIHeads``, which declare the size before res5,
            whose stride halves it.
    """
    shrink = 2 if through_res5 else 1
    return ShapeSpec(
        channels=declared.channels,
        height=declared.height // shrink,
        width=declared.width // shrink,
    )


def mask_shape(feature: ShapeSpec, channels: int) -> ShapeSpec:
    """The shape of the mask logits: the deconvolution doubles the feature's size."""
    return ShapeSpec(channels=channels, height=2 * feature.height, width=2 * feature.width)


def own_roi_heads_needs(cfg) -> dict[str, type]:
    """What a config asks for that the stock ROI heads cannot serve, and what can.

    Returns:
        By config key and value, the class that ROI heads must have among their bases.
    """
    head, nms_type = cfg.MODEL.ROI_MASKIOU_HEAD, cfg.MODEL.ROI_HEADS.NMS_TYPE
    needs = {}
    if nms_type != "nms":
        needs[f"MODEL.ROI_HEADS.NMS_TYPE {nms_type}"] = ImageInstancesMixin
    if cfg.MODEL.MASKIOU_ON and INPUT_DESIGNS[head.INPUT].feature_scale > 1:
        needs[f"MODEL.ROI_MASKIOU_HEAD.INPUT {head.INPUT}"] = HighResMixin
    if cfg.MODEL.MASKIOU_ON and TARGETS[head.TARGET].needs_image_instances:
        needs[f"MODEL.ROI_MASKIOU_HEAD.TARGET {head.TARGET}"] = ImageInstancesMixin
    return needs


def check_choices(cfg) -> None:
    """Refuse unknown choices, and those that the ROI heads cannot serve.

    Raises:
        UserError: naming the key and what is allowed; a ``ValueError``.
    """
    check_choice("MODEL.ROI_HEADS.NMS_TYPE", cfg.MODEL.ROI_HEADS.NMS_TYPE, NMS_TYPES)
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    check_choice("MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE", head.LOSS_TYPE, LOSSES)
    check_choice("MODEL.ROI_MASKIOU_HEAD.TARGET", head.TARGET, TARGETS)
    check_choice("MODEL.ROI_MASKIOU_HEAD.INPUT", head.INPUT, INPUT_DESIGNS)
    if head.LOSS_TYPE == "l2_rank" and TARGETS[head.TARGET].counts_zero:
        raise UserError(
            "MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE 'l2_rank' compares masks in pairs, and is for TARGET "
            "'target_class' alone, one sample a mask"
        )
    name = cfg.MODEL.ROI_HEADS.NAME
    check_choice("MODEL.ROI_HEADS.NAME", name, dict(ROI_HEADS_REGISTRY))
    for choice, mixin in own_roi_heads_needs(cfg).items():
        if not issubclass(ROI_HEADS_REGISTRY.get(name), mixin):
            able = [n for n, heads in ROI_HEADS_REGISTRY if issubclass(heads, mixin)]
            raise UserError(
                f"MODEL.ROI_HEADS.NAME '{name}' cannot serve {choice}; these can: {', '.join(able)}"
            )
    if head.MASKIOU_THRESH != 0 and TARGETS[head.TARGET].counts_zero:
        raise UserError(
            "MODEL.ROI_MASKIOU_HEAD.MASKIOU_THRESH is for TARGET 'target_class' alone: the other "
            "targets train samples of MaskIoU 0 too"
        )


@ROI_MASK_HEAD_REGISTRY.register()
class MaskScoringHead(MaskRCNNConvUpsampleHead):
    """Detectron2's mask head, which also predicts how good its masks are.

    Its own parameters keep Detectron2's names, those of the MaskIoU head stand below
    ``maskiou_head``; a Mask R-CNN checkpoint therefore loads unchanged. Without a MaskIoU head
    it is the stock mask head.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        maskiou_head: nn.Module | None = None,
        maskiou_loss_type: str = "l2",
        maskiou_loss_weight: float = 1.0,
        maskiou_target: str = "target_class",
        maskiou_thresh: float = 0.0,
        **kwargs,
    ):
        """
        Args:
            input_shape: shape of the RoI feature.
            maskiou_head: called with RoI features, mask logits and classes; returns the
                MaskIoU of every class, of shape (N, num_classes).
            maskiou_loss_type: see :func:`maskiou_loss`.
            maskiou_loss_weight: factor of ``loss_maskiou``.
            maskiou_target: which outputs are trained, a key of ``TARGETS``.
            maskiou_thresh: samples of a true MaskIoU at or below it do not train the head.
            **kwargs: of Detectron2's ``MaskRCNNConvUpsampleHead``.
        """
        super().__init__(input_shape, **kwargs)
        self.maskiou_head = maskiou_head
        self.maskiou_loss_type = maskiou_loss_type
        self.maskiou_loss_weight = maskiou_loss_weight
        self.maskiou_samples = TARGETS[maskiou_target]()
        self.maskiou_thresh = maskiou_thresh

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        ret = super().from_config(cfg, input_shape)
        check_choices(cfg)
        if not cfg.MODEL.MASKIOU_ON:
            return ret
        head = cfg.MODEL.ROI_MASKIOU_HEAD
        roi_heads = ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)
        shape = feature_shape(input_shape, issubclass(roi_heads, Res5ROIHeads))
        ret.update(
            maskiou_head=build_maskiou_head(cfg, shape, mask_shape(shape, ret["num_classes"])),
            maskiou_loss_type=head.LOSS_TYPE,
            maskiou_loss_weight=head.LOSS_WEIGHT,
            maskiou_target=head.TARGET,
            maskiou_thresh=head.MASKIOU_THRESH,
        )
        return ret

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """The stock mask layers; the base class would run every child in turn."""
        return self._layers(x)[1]

    def _layers(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The feature before the upsampling, (N, channels, H, W), and the mask logits."""
        for layer in self.children():
            if layer is self.deconv:
                feature = x
            if layer is not self.maskiou_head:
                x = layer(x)
        return feature, x

    def forward(
        self,
        x: torch.Tensor,
        instances: list[Instances],
        maskiou_features: torch.Tensor | None = None,
    ):
        """
        Args:
            x: RoI features of all images together, of shape (N, channels, H, W).
            instances: one per image, N in all; in training foreground proposals with
                ``proposal_boxes``, ``gt_classes``, ``gt_masks`` and perhaps ``gt_mask_area``,
                at test time detections with ``pred_boxes``, ``pred_classes`` and perhaps
                ``scores``, and ``given_masks`` of shape (n, 1, M, M) to score in the place of
                the predicted ones.
            maskiou_features: RoI features for the MaskIoU head, where they are not ``x``.

        Returns:
            In training the losses ``loss_mask`` and ``loss_maskiou``; at test time the
            instances, with ``pred_masks`` of shape (n, 1, M, M), ``pred_maskiou`` of shape (n,)
            and, where they have ``scores``, ``mask_scores`` of shape (n,).
        """
        if self.maskiou_head is None:
            return super().forward(x, instances)
        mask_features, mask_logits = self._layers(x)
        if maskiou_features is None:
            maskiou_features = mask_features if self.maskiou_head.uses_mask_features else x
        if self.training:
            return self._losses(maskiou_features, mask_logits, instances)
        mask_logits = _with_given_masks(mask_logits, instances)
        mask_rcnn_inference(mask_logits, instances)
        self._score(maskiou_features, mask_logits, instances)
        return instances

    def _losses(self, features, mask_logits, instances: list[Instances]) -> dict:
        # An image without a foreground proposal may lack every ground-truth field but the class.
        proposals = [_with_cropped_masks(i, mask_logits.shape[-1]) for i in instances if len(i) > 0]
        classes = torch.cat([mask_logits.new_zeros(0).long(), *(p.gt_classes for p in proposals)])
        maskiou = self.maskiou_head(features, mask_logits, classes)
        samples = self.maskiou_samples(maskiou, mask_logits.detach(), proposals)
        _log_maskiou(samples.prediction, samples.target)
        loss = maskiou_loss(
            samples.prediction,
            samples.target,
            loss_type=self.maskiou_loss_type,
            threshold=-1.0 if self.maskiou_samples.counts_zero else self.maskiou_thresh,
            area=samples.area,
        )
        return {
            "loss_mask": mask_rcnn_loss(mask_logits, proposals, self.vis_period) * self.loss_weight,
            "loss_maskiou": loss * self.maskiou_loss_weight,
        }

    def _score(self, features, mask_logits, instances: list[Instances]) -> None:
        classes = torch.cat([i.pred_classes for i in instances])
        maskiou = self.maskiou_head(features, mask_logits, classes)
        maskiou = maskiou.gather(1, classes[:, None])[:, 0].float().clamp(0, 1)
        for detections, pred in zip(instances, maskiou.split([len(i) for i in instances])):
            detections.pred_maskiou = pred
            if detections.has("scores"):
                detections.mask_scores = detections.scores * pred


def _with_given_masks(mask_logits: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
    """The logits, with those of ``given_masks`` put where the instances' classes have theirs."""
    if not instances or not all(i.has("given_masks") for i in instances):
        return mask_logits
    given = torch.cat([i.given_masks for i in instances])[:, 0].logit(eps=1e-6)
    classes = torch.cat([i.pred_classes for i in instances])
    if mask_logits.shape[1] == 1:
        classes = torch.zeros_like(classes)
    mask_logits = mask_logits.clone()
    rows = torch.arange(len(classes), device=classes.device)
    mask_logits[rows, classes] = given.to(mask_logits.dtype)
    return mask_logits


def _with_cropped_masks(proposals: Instances, side: int) -> Instances:
    """What the two losses need of an image's proposals, the masks cropped and rasterised.

    Args:
        proposals: foreground proposals of one image.
        side: height and width of the crops.
    """
    boxes = proposals.proposal_boxes.tensor
    crops = proposals.gt_masks.crop_and_resize(boxes, side).to(boxes.device)
    cropped = Instances(
        proposals.image_size,
        proposal_boxes=proposals.proposal_boxes,
        gt_classes=proposals.gt_classes,
        gt_masks=CroppedMasks(crops > 0.5),
        gt_mask_area=ground_truth_areas(proposals, boxes.device),
    )
    if proposals.has("gt_image_instances"):
        cropped.gt_image_instances = proposals.gt_image_instances
    return cropped


def _log_maskiou(prediction: torch.Tensor, target: torch.Tensor) -> None:
    """Write means over the samples to the event storage."""
    if len(target) == 0:
        return
    error = (prediction - target).abs()
    means = torch.stack([target.mean(), prediction.mean().detach(), error.mean().detach()])
    storage = get_event_storage()
    names = ("maskiou/target", "maskiou/prediction", "maskiou/abs_error")
    for name, value in zip(names, means.tolist()):  # one transfer from the device
        storage.put_scalar(name, value)
