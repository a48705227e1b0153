"""What a config must say for mask scoring, checked before anything is built."""

from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY

from ..errors import UserError
from ..modeling import MaskScoringHead


def adopt_stock_mask_head(cfg: CfgNode) -> None:
    """Let a Detectron2 config gain mask scoring by ``MODEL.MASKIOU_ON True`` alone.

    Its configs name the stock mask head, which ours replaces: the same but for the scoring.

    Args:
        cfg: changed in place.
    """
    if cfg.MODEL.MASKIOU_ON and cfg.MODEL.ROI_MASK_HEAD.NAME == "MaskRCNNConvUpsampleHead":
        cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"


def check_config(cfg: CfgNode) -> None:
    """Refuse a config that asks for mask scoring but would not get it.

    Raises:
        UserError: with the key to change.
    """
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
