"""Configs of Detectron2's model zoo with the keys of msrcnn, small enough for a CPU."""

from detectron2 import model_zoo

from msrcnn.config import get_msrcnn_cfg
from msrcnn.engine import use_scoring_parts

FRAMEWORKS = {
    "fpn": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", "MaskScoringROIHeads"),
    "c4": ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", "MaskScoringRes5ROIHeads"),
    "cascade": ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", "MaskScoringCascadeROIHeads"),
}


def zoo_cfg(name="COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"):
    """Returns a zoo config for the CPU, without weights."""
    cfg = get_msrcnn_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(name))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    return cfg


def framework_cfg(name, **maskiou_head):
    """Returns a narrow zoo config with R-18, mask scoring and our ROI heads.

    Args:
        name: a key of ``FRAMEWORKS``.
        **maskiou_head: values for keys of ``MODEL.ROI_MASKIOU_HEAD``.
    """
    zoo, roi_heads = FRAMEWORKS[name]
    cfg = zoo_cfg(zoo)
    cfg.MODEL.MASKIOU_ON = True
    cfg.MODEL.ROI_HEADS.NAME = roi_heads
    use_scoring_parts(cfg)
    cfg.MODEL.RESNETS.NORM = "GN"  # FrozenBN does not normalize features of random weights
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 64
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 32
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 100
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 6
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_MASKIOU_HEAD.CONV_DIM = cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM = 16
    for key, value in maskiou_head.items():
        cfg.MODEL.ROI_MASKIOU_HEAD[key] = value
    return cfg
