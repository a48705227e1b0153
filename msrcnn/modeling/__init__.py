"""The model: the mask head that also scores its masks, and its parts."""

from .anchors import GivenAnchorGenerator
from .deform_resnet import build_deform_resnet_fpn_backbone
from .mask_scoring import MaskScoring
from .mask_scoring_heads import MaskScoringHead, MaskScoringRes5Head, with_mask_scoring
from .maskiou_head import ROI_MASKIOU_HEAD_REGISTRY, MaskIoUHead, build_maskiou_head
from .maskiou_loss import MASKIOU_LOSS_REGISTRY, maskiou_loss
from .maskiou_target import instance_areas, maskiou_targets
from .roi_heads import MaskScoringCascadeROIHeads, MaskScoringRes5ROIHeads, MaskScoringROIHeads
from .soft_nms import SoftNMS
from .torchvision_backbone import build_torchvision_fpn_backbone

__all__ = [
    "MASKIOU_LOSS_REGISTRY",
    "ROI_MASKIOU_HEAD_REGISTRY",
    "GivenAnchorGenerator",
    "MaskIoUHead",
    "MaskScoring",
    "MaskScoringCascadeROIHeads",
    "MaskScoringHead",
    "MaskScoringROIHeads",
    "MaskScoringRes5Head",
    "MaskScoringRes5ROIHeads",
    "SoftNMS",
    "build_deform_resnet_fpn_backbone",
    "build_maskiou_head",
    "build_torchvision_fpn_backbone",
    "instance_areas",
    "maskiou_loss",
    "maskiou_targets",
    "with_mask_scoring",
]
