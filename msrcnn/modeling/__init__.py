"""The model: the mask head that also scores, and the parts it is made of."""

from .anchors import GivenAnchorGenerator
from .deform_resnet import (
    DeformRes5ROIHeads,
    build_deform_resnet_backbone,
    build_deform_resnet_fpn_backbone,
)
from .mask_scoring import MaskScoringHead
from .maskiou_head import ROI_MASKIOU_HEAD_REGISTRY, MaskIoUHead, build_maskiou_head
from .maskiou_loss import maskiou_loss
from .maskiou_target import instance_areas, maskiou_targets
from .roi_heads import MaskScoringCascadeROIHeads, MaskScoringRes5ROIHeads, MaskScoringROIHeads
from .soft_nms import SoftNMS

__all__ = [
    "ROI_MASKIOU_HEAD_REGISTRY",
    "DeformRes5ROIHeads",
    "GivenAnchorGenerator",
    "MaskIoUHead",
    "MaskScoringCascadeROIHeads",
    "MaskScoringHead",
    "MaskScoringROIHeads",
    "MaskScoringRes5ROIHeads",
    "SoftNMS",
    "build_deform_resnet_backbone",
    "build_deform_resnet_fpn_backbone",
    "build_maskiou_head",
    "instance_areas",
    "maskiou_loss",
    "maskiou_targets",
]
