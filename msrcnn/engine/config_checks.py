"""What a config must say for mask scoring, checked before anything is built."""

from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY

from ..errors import UserError
from ..modeling import MaskScoringHead
from ..modeling.roi_heads import ImageInstancesMixin

# Detectron2's parts and ours, the same but for what mask scoring adds.
MASK_HEADS = {"MaskRCNNConvUpsampleHead": "MaskScoringHead"}
ROI_HEADS = {
    "StandardROIHeads": "MaskScoringROIHeads",
    "Res5ROIHeads": "MaskScoringRes5ROIHeads",
    "CascadeROIHeads": "MaskScoringCascadeROIHeads",
}


def _asks_for_own_roi_heads(cfg: CfgNode) -> bool:
    """Whether a config asks for what the stock ROI heads cannot serve."""
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    return cfg.MODEL.ROI_HEADS.NMS_TYPE != "nms" or (
        cfg.MODEL.MASKIOU_ON and (head.INPUT == "high_res" or head.TARGET != "target_class")
    )


def adopt_stock_parts(cfg: CfgNode) -> None:
    """Let a Detectron2 config gain mask scoring by ``MODEL.MASKIOU_ON True`` alone.

    Its configs name the stock mask head and ROI heads, which ours replace where they are needed.

    Args:
        cfg: changed in place.
    """
    mask_head, heads = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_HEADS
    if cfg.MODEL.MASKIOU_ON:
        mask_head.NAME = MASK_HEADS.get(mask_head.NAME, mask_head.NAME)
    if _asks_for_own_roi_heads(cfg):
        heads.NAME = ROI_HEADS.get(heads.NAME, heads.NAME)


def check_config(cfg: CfgNode) -> None:
    """Refuse a config that asks for what it would not get.

    Raises:
        UserError: with the key to change.
    """
    heads = cfg.MODEL.ROI_HEADS
    if _asks_for_own_roi_heads(cfg) and not issubclass(
        ROI_HEADS_REGISTRY.get(heads.NAME), ImageInstancesMixin
    ):
        raise UserError(
            f"MODEL.ROI_HEADS.NAME '{heads.NAME}' knows neither Soft-NMS nor every input and "
            f"target of the MaskIoU head: set it to one of {', '.join(ROI_HEADS.values())}"
        )
    if not cfg.MODEL.MASKIOU_ON:
        return
    if not cfg.MODEL.MASK_ON:
        raise UserError("MODEL.MASKIOU_ON needs masks to score: set MODEL.MASK_ON True")
    name = cfg.MODEL.ROI_MASK_HEAD.NAME
    if not issubclass(ROI_MASK_HEAD_REGISTRY.get(name), MaskScoringHead):
        raise UserError(
            f"MODEL.MASKIOU_ON is True, but the mask head '{name}' does not score masks: set "
            "MODEL.ROI_MASK_HEAD.NAME MaskScoringHead"
        )
