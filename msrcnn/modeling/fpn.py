"""An FPN as Detectron2's ``build_resnet_fpn_backbone`` builds it, on any bottom-up network."""

from detectron2.config import CfgNode
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool


def build_fpn(cfg: CfgNode, bottom_up: Backbone) -> FPN:
    """Builds an FPN with the levels p2 to p6, from ``MODEL.FPN``."""
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
