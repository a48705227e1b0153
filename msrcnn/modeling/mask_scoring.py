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
from .maskiou_head import build_maskiou_head, select_class_masks
from .maskiou_loss import LOSSES, maskiou_loss
from .maskiou_target import instance_areas, maskiou_targets

TARGETS = ("target_class",)


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


def _feature_shape(cfg, input_shape: ShapeSpec) -> ShapeSpec:
    """The true shape of the RoI feature that the mask head is given.

    ``Res5ROIHeads`` declares the size before res5, whose stride halves it.
    """
    roi_heads = ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)
    shrink = 2 if issubclass(roi_heads, Res5ROIHeads) else 1
    return ShapeSpec(
        channels=input_shape.channels,
        height=input_shape.height // shrink,
        width=input_shape.width // shrink,
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
            maskiou_thresh: samples of a true MaskIoU at or below it do not train the head.
            **kwargs: of Detectron2's ``MaskRCNNConvUpsampleHead``.
        """
        super().__init__(input_shape, **kwargs)
        self.maskiou_head = maskiou_head
        self.maskiou_loss_type = maskiou_loss_type
        self.maskiou_loss_weight = maskiou_loss_weight
        self.maskiou_thresh = maskiou_thresh

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        ret = super().from_config(cfg, input_shape)
        if not cfg.MODEL.MASKIOU_ON:
            return ret
        head = cfg.MODEL.ROI_MASKIOU_HEAD
        check_choice("MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE", head.LOSS_TYPE, LOSSES)
        check_choice("MODEL.ROI_MASKIOU_HEAD.TARGET", head.TARGET, TARGETS)
        feature_shape = _feature_shape(cfg, input_shape)
        mask_shape = ShapeSpec(  # the deconvolution doubles the size
            channels=ret["num_classes"],
            height=2 * feature_shape.height,
            width=2 * feature_shape.width,
        )
        ret.update(
            maskiou_head=build_maskiou_head(cfg, feature_shape, mask_shape),
            maskiou_loss_type=head.LOSS_TYPE,
            maskiou_loss_weight=head.LOSS_WEIGHT,
            maskiou_thresh=head.MASKIOU_THRESH,
        )
        return ret

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """The stock mask layers; the base class would run every child in turn."""
        for layer in self.children():
            if layer is not self.maskiou_head:
                x = layer(x)
        return x

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        """
        Args:
            x: RoI features of all images together, of shape (N, channels, H, W).
            instances: one per image, N in all; in training foreground proposals with
                ``proposal_boxes``, ``gt_classes``, ``gt_masks`` and perhaps ``gt_mask_area``,
                at test time detections with ``pred_boxes``, ``pred_classes`` and perhaps
                ``scores``.

        Returns:
            In training the losses ``loss_mask`` and ``loss_maskiou``; at test time the
            instances, with ``pred_masks`` of shape (n, 1, M, M), ``pred_maskiou`` of shape (n,)
            and, where they have ``scores``, ``mask_scores`` of shape (n,).
        """
        if self.maskiou_head is None:
            return super().forward(x, instances)
        mask_logits = self.layers(x)
        if self.training:
            return self._losses(x, mask_logits, instances)
        mask_rcnn_inference(mask_logits, instances)
        self._score(x, mask_logits, instances)
        return instances

    def _losses(self, features, mask_logits, instances: list[Instances]) -> dict:
        # An image without a foreground proposal may lack every ground-truth field but the class.
        side = mask_logits.shape[-1]
        cropped = [_with_cropped_masks(i, side) for i in instances if len(i) > 0]

        none = mask_logits.new_zeros(0)  # torch.cat wants at least one tensor
        classes = torch.cat([none.long(), *(i.gt_classes for i in cropped)])
        prediction = self._predict(features, mask_logits, classes)
        with torch.no_grad():
            target = maskiou_targets(
                select_class_masks(mask_logits, classes) > 0,  # a probability above 0.5
                torch.cat([none.bool().view(0, side, side), *(i.gt_masks.crops for i in cropped)]),
                torch.cat([none, *(i.gt_mask_area for i in cropped)]),
                torch.cat([none.view(0, 4), *(i.proposal_boxes.tensor for i in cropped)]),
            )
        _log_maskiou(prediction, target)
        loss = maskiou_loss(
            prediction, target, loss_type=self.maskiou_loss_type, threshold=self.maskiou_thresh
        )
        return {
            "loss_mask": mask_rcnn_loss(mask_logits, cropped, self.vis_period) * self.loss_weight,
            "loss_maskiou": loss * self.maskiou_loss_weight,
        }

    def _score(self, features, mask_logits, instances: list[Instances]) -> None:
        classes = torch.cat([i.pred_classes for i in instances])
        maskiou = self._predict(features, mask_logits, classes).float().clamp(0, 1)
        for detections, pred in zip(instances, maskiou.split([len(i) for i in instances])):
            detections.pred_maskiou = pred
            if detections.has("scores"):
                detections.mask_scores = detections.scores * pred

    def _predict(self, features, mask_logits, classes) -> torch.Tensor:
        """Predicted MaskIoU of each mask's class, of shape (N,), not clamped."""
        maskiou = self.maskiou_head(features, mask_logits, classes)
        return maskiou.gather(1, classes[:, None])[:, 0]


def _with_cropped_masks(proposals: Instances, side: int) -> Instances:
    """What the two losses need of an image's proposals, the masks cropped and rasterised.

    Args:
        proposals: foreground proposals of one image.
        side: height and width of the crops.
    """
    boxes = proposals.proposal_boxes.tensor
    crops = proposals.gt_masks.crop_and_resize(boxes, side).to(boxes.device)
    if proposals.has("gt_mask_area"):
        areas = proposals.gt_mask_area
    else:
        areas = instance_areas(proposals.gt_masks, proposals.image_size, boxes.device)
    return Instances(
        proposals.image_size,
        proposal_boxes=proposals.proposal_boxes,
        gt_classes=proposals.gt_classes,
        gt_masks=CroppedMasks(crops > 0.5),
        gt_mask_area=areas,
    )


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
