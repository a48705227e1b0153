import copy

import pytest
import torch
from detectron2.modeling import build_model
from test_mask_scoring import batch, ground_truth, losses_of, zoo_cfg

from msrcnn.modeling.roi_heads import SharedField

FRAMEWORKS = {
    "fpn": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", "MaskScoringROIHeads"),
    "c4": ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", "MaskScoringRes5ROIHeads"),
    "cascade": ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", "MaskScoringCascadeROIHeads"),
}


def framework_cfg(name, **maskiou_head):
    """A zoo config of a framework with mask scoring, at a size for a CPU."""
    zoo, roi_heads = FRAMEWORKS[name]
    cfg = zoo_cfg(zoo)
    cfg.MODEL.MASKIOU_ON = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"
    cfg.MODEL.ROI_HEADS.NAME = roi_heads
    cfg.MODEL.RESNETS.NORM = "GN"  # random weights need a norm that acts
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 6
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_MASKIOU_HEAD.CONV_DIM = cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM = 16
    for key, value in maskiou_head.items():
        cfg.MODEL.ROI_MASKIOU_HEAD[key] = value
    return cfg


def test_shared_field_follows_indexing():
    field = SharedField("image", 5)
    assert len(field[torch.tensor([0, 3])]) == 2
    assert len(field[torch.tensor([True, False, True, True, False])]) == 3
    assert len(field[1:4]) == 3
    assert field[torch.tensor([], dtype=torch.int64)].value == "image"


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("nms_type", ["soft_linear", "soft_gaussian"])
def test_soft_nms_in_every_framework(name, nms_type, build):
    """Soft-NMS keeps every box that NMS keeps first, and lowers scores where boxes overlap."""
    cfg = framework_cfg(name)
    cfg.TEST.DETECTIONS_PER_IMAGE = 200
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.3
    stock = build(cfg).eval()
    cfg.MODEL.ROI_HEADS.NMS_TYPE = nms_type
    soft = build(cfg).eval()
    soft.load_state_dict(stock.state_dict())
    inputs = batch(ground_truth(), ground_truth(1))
    with torch.no_grad():
        pairs = list(zip(soft(copy.deepcopy(inputs)), stock(inputs)))
    for ours, theirs in pairs:
        ours, theirs = ours["instances"], theirs["instances"]
        assert ours.scores[0].item() == pytest.approx(theirs.scores[0].item(), rel=1e-5)
        assert (ours.scores[:-1] >= ours.scores[1:]).all()
        assert len(ours) > len(theirs)  # nothing is removed
        assert torch.equal(ours.mask_scores, ours.scores * ours.pred_maskiou)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fpn", "cascade"])
def test_high_res_input(name, build, storage):
    model = build(framework_cfg(name, INPUT="high_res"))
    head = model.roi_heads.mask_head.maskiou_head
    assert head.maskiou_fcn1.in_channels == 257
    assert head.maskiou_fc1.in_features == 16 * 14 * 14
    assert torch.isfinite(losses_of(model, batch(ground_truth()))["loss_maskiou"])
    assert model.eval()(batch(ground_truth()))[0]["instances"].has("mask_scores")


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_all_classes_target_in_every_framework(name, build, storage):
    model = build(framework_cfg(name, TARGET="all_classes"))
    losses = losses_of(model, batch(ground_truth(), ground_truth(1)))
    assert torch.isfinite(losses["loss_maskiou"])


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ({"INPUT": "high_res"}, "INPUT high_res.*MaskScoringROIHeads, MaskScoringCascadeROIHeads"),
        ({"TARGET": "all_classes"}, "TARGET all_classes.*MaskScoringRes5ROIHeads"),
        ({"TARGET": "positive_classes"}, "TARGET positive_classes"),
    ],
)
def test_stock_roi_heads_cannot_serve_it(choice, named):
    cfg = framework_cfg("fpn", **choice)
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    with pytest.raises(ValueError, match=named):
        build_model(cfg)


def test_stock_roi_heads_know_no_soft_nms():
    cfg = framework_cfg("fpn")
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.NMS_TYPE = "StandardROIHeads", "soft_linear"
    with pytest.raises(ValueError, match="'StandardROIHeads' cannot serve.*NMS_TYPE soft_linear"):
        build_model(cfg)


def test_c4_has_no_high_res():
    with pytest.raises(ValueError, match="'MaskScoringRes5ROIHeads' cannot serve.*high_res"):
        build_model(framework_cfg("c4", INPUT="high_res"))


def test_threshold_is_for_the_target_class_alone():
    with pytest.raises(ValueError, match="MASKIOU_THRESH is for TARGET 'target_class'"):
        build_model(framework_cfg("fpn", TARGET="all_classes", MASKIOU_THRESH=0.5))


def test_rank_loss_is_for_the_target_class_alone():
    with pytest.raises(ValueError, match="'l2_rank' compares masks in pairs"):
        build_model(framework_cfg("fpn", TARGET="all_classes", LOSS_TYPE="l2_rank"))


@pytest.mark.parametrize("maskiou_on", [True, False])
def test_unknown_nms_type_names_what_is_allowed(maskiou_on):
    cfg = framework_cfg("fpn")
    cfg.MODEL.MASKIOU_ON, cfg.MODEL.ROI_HEADS.NMS_TYPE = maskiou_on, "nonsense"
    with pytest.raises(ValueError, match="NMS_TYPE is 'nonsense'; allowed: 'nms', 'soft_linear'"):
        build_model(cfg)
