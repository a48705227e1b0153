"""Replaces Detectron2's heads in a config by the ones that support mask scoring."""

from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads

from ..modeling.detection_samples import trains_on_detections
from ..modeling.maskiou_input import INPUT_DESIGNS
from ..modeling.maskiou_samples import TARGETS

# Detectron2's ROI heads, and ours with the same parameters.
ROI_HEADS = {
    "StandardROIHeads": "MaskScoringROIHeads",
    "Res5ROIHeads": "MaskScoringRes5ROIHeads",
    "CascadeROIHeads": "MaskScoringCascadeROIHeads",
}
# Mask heads that are the same but for mask scoring and where they get their RoI features.
MASK_HEADS = ("MaskRCNNConvUpsampleHead", "MaskScoringHead", "MaskScoringRes5Head")


def required_features(cfg: CfgNode) -> dict[str, str]:
    """Returns what a config needs from its ROI heads beyond Detectron2's.

    Returns:
        For each feature, as in the attribute ``supports`` of our ROI heads, the config key and
        value that need it. Unknown values need nothing; :func:`check_config` rejects them.
    """
    head, nms_type = cfg.MODEL.ROI_MASKIOU_HEAD, cfg.MODEL.ROI_HEADS.NMS_TYPE
    required = {}
    if nms_type != "nms":
        required["soft_nms"] = f"MODEL.ROI_HEADS.NMS_TYPE {nms_type}"
    if not cfg.MODEL.MASKIOU_ON:
        return required
    if head.INPUT in INPUT_DESIGNS and INPUT_DESIGNS[head.INPUT].feature_scale > 1:
        required["high_res"] = f"MODEL.ROI_MASKIOU_HEAD.INPUT {head.INPUT}"
    if head.TARGET in TARGETS and TARGETS[head.TARGET].needs_image_instances:
        required["image_instances"] = f"MODEL.ROI_MASKIOU_HEAD.TARGET {head.TARGET}"
    if trains_on_detections(cfg):
        required["detection_samples"] = (
            "MODEL.ROI_MASKIOU_HEAD.SAMPLES detections without SOLVER.FIT_SCORES True"
        )
    return required


def use_scoring_parts(cfg: CfgNode) -> None:
    """Lets a Detectron2 config gain mask scoring by ``MODEL.MASKIOU_ON True`` alone.

    Replaces the stock mask head, and the stock ROI heads where the config needs ours. Heads of
    other projects are left alone.

    Args:
        cfg: modified in place.
    """
    heads, mask_head = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_MASK_HEAD
    if required_features(cfg):
        heads.NAME = ROI_HEADS.get(heads.NAME, heads.NAME)
    if cfg.MODEL.MASKIOU_ON and mask_head.NAME in MASK_HEADS:
        res5 = is_res5(heads.NAME)
        mask_head.NAME = "MaskScoringRes5Head" if res5 else "MaskScoringHead"


def is_res5(roi_heads: str) -> bool:
    """Whether these ROI heads compute the mask head's features with res5, as C4 does."""
    return roi_heads in ROI_HEADS_REGISTRY and issubclass(
        ROI_HEADS_REGISTRY.get(roi_heads), Res5ROIHeads
    )
