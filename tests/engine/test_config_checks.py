import pytest
from detectron2 import model_zoo

from msrcnn.config import get_msrcnn_cfg
from msrcnn.engine import check_config
from msrcnn.engine.config_checks import adopt_stock_parts
from msrcnn.errors import UserError


def test_zoo_config_gains_mask_scoring_by_one_key():
    cfg = get_msrcnn_cfg()
    zoo = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
    cfg.merge_from_file(model_zoo.get_config_file(zoo))
    cfg.MODEL.MASKIOU_ON = True
    with pytest.raises(UserError, match="MaskRCNNConvUpsampleHead' does not score masks"):
        check_config(cfg)
    adopt_stock_parts(cfg)
    check_config(cfg)
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "MaskScoringHead"


def test_masks_are_needed(tiny_cfg):
    tiny_cfg.MODEL.MASK_ON = False
    with pytest.raises(UserError, match="MODEL.MASK_ON True"):
        check_config(tiny_cfg)


def test_plain_mask_rcnn_may_have_any_head(tiny_cfg):
    tiny_cfg.MODEL.MASKIOU_ON = False
    tiny_cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    check_config(tiny_cfg)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["MODEL.ROI_HEADS.NMS_TYPE", "soft_linear"], "MaskScoringROIHeads"),
        (["MODEL.ROI_MASKIOU_HEAD.INPUT", "high_res"], "MaskScoringROIHeads"),
        (["MODEL.ROI_MASKIOU_HEAD.TARGET", "all_classes"], "MaskScoringROIHeads"),
        (["MODEL.ROI_MASKIOU_HEAD.INPUT", "multiply"], "StandardROIHeads"),
    ],
)
def test_own_roi_heads_only_where_a_config_asks(tiny_cfg, keys, name):
    tiny_cfg.merge_from_list(keys)
    if name != "StandardROIHeads":
        with pytest.raises(UserError, match="'StandardROIHeads' cannot serve"):
            check_config(tiny_cfg)
    adopt_stock_parts(tiny_cfg)
    check_config(tiny_cfg)
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == name
