"""Replaces parts of Detectron2 in a config: heads for mask scoring, the deformable backbone."""

from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    Res5ROIHeads,
)

from ..modeling import MaskScoring, with_mask_scoring
from ..modeling.detection_samples import trains_on_detections
from ..modeling.mask_scoring_heads import why_not_scored
from ..modeling.maskiou_input import INPUT_DESIGNS
from ..modeling.maskiou_samples import TARGETS

# Detectron2's ROI heads, and ours with the same parameters.
ROI_HEADS = {
    "StandardROIHeads": "MaskScoringROIHeads",
    "Res5ROIHeads": "MaskScoringRes5ROIHeads",
    "CascadeROIHeads": "MaskScoringCascadeROIHeads",
}
BACKBONES = {"build_resnet_fpn_backbone": "build_deform_resnet_fpn_backbone"}  # if deformable
# Mask heads that differ only in mask scoring and in the source of their RoI features.
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
    """Adds mask scoring to a Detectron2 config that sets ``MODEL.MASKIOU_ON True``.

    Replaces the mask head, and the stock ROI heads where the config needs ours. A mask head of
    another project, such as ``MyMaskHead``, is replaced by ``MaskScoringMyMaskHead``, which this
    function registers. A part that cannot be replaced stays; :func:`check_config` says why.

    Also replaces Detectron2's FPN backbone, if it is deformable, by ours, which has the same
    parameters and outputs, and runs on a CPU and without Detectron2's compiled extension.

    Args:
        cfg: modified in place.
    """
    heads, mask_head, backbone = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.BACKBONE
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE):
        backbone.NAME = BACKBONES.get(backbone.NAME, backbone.NAME)
    if required_features(cfg):
        heads.NAME = ROI_HEADS.get(heads.NAME, heads.NAME)
    if cfg.MODEL.MASKIOU_ON:
        mask_head.NAME = scoring_mask_head(mask_head.NAME, is_res5(heads.NAME))


def scoring_mask_head(name: str, res5: bool) -> str:
    """Returns the name of a mask head's version that scores masks, which is registered if needed.

    Args:
        name: name of the mask head, or of its version that scores masks.
        res5: whether the ROI heads compute the features of the mask head with res5.

    Returns:
        The name; ``name`` itself if that head already scores masks or cannot score any.
    """
    prefix = "MaskScoringRes5" if res5 else "MaskScoring"
    if name in MASK_HEADS:
        return f"{prefix}Head"
    # A name that this function has put into a config may not be registered in this process yet.
    plain = name if name in ROI_MASK_HEAD_REGISTRY else name.removeprefix(prefix)
    if plain not in ROI_MASK_HEAD_REGISTRY:
        return name
    head = ROI_MASK_HEAD_REGISTRY.get(plain)
    if issubclass(head, MaskScoring) or why_not_scored(head, by_config=True):
        return name
    scoring = prefix + plain
    if scoring not in ROI_MASK_HEAD_REGISTRY:
        ROI_MASK_HEAD_REGISTRY.register(
            with_mask_scoring(head, name=scoring, features_from_res5=res5)
        )
    return scoring


def register_mask_head(cfg: CfgNode) -> None:
    """Registers the mask head of a config from :func:`use_scoring_parts` in this process."""
    if cfg.MODEL.MASKIOU_ON:
        scoring_mask_head(cfg.MODEL.ROI_MASK_HEAD.NAME, is_res5(cfg.MODEL.ROI_HEADS.NAME))


def is_res5(roi_heads: str) -> bool:
    """Whether these ROI heads compute the mask head's features with res5, as C4 does."""
    return roi_heads in ROI_HEADS_REGISTRY and issubclass(
        ROI_HEADS_REGISTRY.get(roi_heads), Res5ROIHeads
    )
