"""What a config must say for mask scoring, checked before anything is built."""

from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY

from ..config import check_choice
from ..errors import UserError
from ..evaluation import ENGINES
from ..modeling import MaskScoringHead
from ..modeling.mask_scoring import check_choices, own_roi_heads_needs
from ..modeling.maskiou_head import INPUT_DESIGNS
from ..modeling.maskiou_samples import TARGETS
from .optimizer import OPTIMIZERS

# Detectron2's parts and ours, the same but for what mask scoring adds.
MASK_HEADS = {"MaskRCNNConvUpsampleHead": "MaskScoringHead"}
ROI_HEADS = {
    "StandardROIHeads": "MaskScoringROIHeads",
    "Res5ROIHeads": "MaskScoringRes5ROIHeads",
    "CascadeROIHeads": "MaskScoringCascadeROIHeads",
}


def adopt_stock_parts(cfg: CfgNode) -> None:
    """Let a Detectron2 config gain mask scoring by ``MODEL.MASKIOU_ON True`` alone.

    Its configs name the stock mask head and ROI heads, which ours replace where they are needed.

    Args:
        cfg: changed in place.

    Raises:
        UserError: for an unknown choice.
    """
    check_choice("MODEL.ROI_MASKIOU_HEAD.INPUT", cfg.MODEL.ROI_MASKIOU_HEAD.INPUT, INPUT_DESIGNS)
    check_choice("MODEL.ROI_MASKIOU_HEAD.TARGET", cfg.MODEL.ROI_MASKIOU_HEAD.TARGET, TARGETS)
    mask_head, heads = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_HEADS
    if cfg.MODEL.MASKIOU_ON:
        mask_head.NAME = MASK_HEADS.get(mask_head.NAME, mask_head.NAME)
    if own_roi_heads_needs(cfg):
        heads.NAME = ROI_HEADS.get(heads.NAME, heads.NAME)


def check_config(cfg: CfgNode) -> None:
    """Refuse a config that asks for what it would not get.

    Raises:
        UserError: with the key to change.
    """
    check_choices(cfg)
    check_choice("TEST.COCO_ENGINE", cfg.TEST.COCO_ENGINE, ENGINES)
    check_choice("SOLVER.OPTIMIZER", cfg.SOLVER.OPTIMIZER, OPTIMIZERS)
    if cfg.TEST.BOOTSTRAP < 0:
        raise UserError(f"TEST.BOOTSTRAP is {cfg.TEST.BOOTSTRAP}; 0 is without, 1000 is usual")
    if not cfg.MODEL.MASKIOU_ON:
        return
    if not cfg.MODEL.MASK_ON:
        raise UserError("MODEL.MASKIOU_ON needs masks to score: set MODEL.MASK_ON True")
    name = cfg.MODEL.ROI_MASK_HEAD.NAME
    check_choice("MODEL.ROI_MASK_HEAD.NAME", name, dict(ROI_MASK_HEAD_REGISTRY))
    if not issubclass(ROI_MASK_HEAD_REGISTRY.get(name), MaskScoringHead):
        raise UserError(
            f"MODEL.MASKIOU_ON is True, but the mask head '{name}' does not score masks: set "
            "MODEL.ROI_MASK_HEAD.NAME MaskScoringHead"
        )
