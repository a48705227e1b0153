import copy

import pytest
import torch
from rectangles import batch, ground_truth, losses_of
from zoo_configs import FRAMEWORKS, framework_cfg

from msrcnn.modeling.roi_heads import SharedField


def test_shared_field_follows_indexing():
    field = SharedField("image", 5)
    assert len(field[torch.tensor([0, 3])]) == 2
    assert len(field[torch.tensor([True, False, True, True, False])]) == 3
    assert len(field[1:4]) == 3
    assert field[torch.tensor([], dtype=torch.int64)].value == "image"


def soft_and_stock(build, cfg, nms_type, nms_thresh):
    """For two images, the detections of a model with Soft-NMS and of the same one with NMS."""
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 14
    cfg.TEST.DETECTIONS_PER_IMAGE = 100  # more than there are candidates
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = nms_thresh
    stock = build(cfg).eval()
    cfg.MODEL.ROI_HEADS.NMS_TYPE = nms_type
    soft = build(cfg).eval()
    soft.load_state_dict(stock.state_dict())
    inputs = batch(ground_truth(), ground_truth(1))
    with torch.no_grad():
        pairs = zip(soft(copy.deepcopy(inputs)), stock(inputs))
    return [(ours["instances"], theirs["instances"]) for ours, theirs in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("nms_type", ["soft_linear", "soft_gaussian"])
def test_soft_nms_in_every_framework(name, nms_type, build):
    """Soft-NMS keeps every box that NMS keeps first, and lowers scores where boxes overlap."""
    cfg = framework_cfg(name)
    for ours, theirs in soft_and_stock(build, cfg, nms_type, nms_thresh=0.3):
        assert ours.scores[0].item() == pytest.approx(theirs.scores[0].item(), rel=1e-5)
        assert (ours.scores[:-1] >= ours.scores[1:]).all()
        assert len(ours) > len(theirs)  # nothing is removed
        assert torch.equal(ours.mask_scores, ours.scores * ours.pred_maskiou)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_soft_nms_at_an_iou_threshold_of_1_is_nms(name, build):
    for ours, theirs in soft_and_stock(build, framework_cfg(name), "soft_linear", nms_thresh=1.0):
        assert len(theirs) > 40
        assert torch.equal(ours.pred_classes, theirs.pred_classes)
        assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
        # Cascade averages the scores of its stages in another order.
        assert torch.allclose(ours.scores, theirs.scores, rtol=1e-6)
        assert torch.allclose(ours.mask_scores, theirs.mask_scores, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fpn", "cascade"])
def test_high_res_input(name, build, storage):
    model = build(framework_cfg(name, INPUT="high_res"))
    head = model.roi_heads.mask_head.maskiou_head
    assert head.maskiou_fcn1.in_channels == 33
    assert head.maskiou_fc1.in_features == 16 * 14 * 14
    assert torch.isfinite(losses_of(model, batch(ground_truth()))["loss_maskiou"])
    assert model.eval()(batch(ground_truth()))[0]["instances"].has("mask_scores")


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_all_classes_target_in_every_framework(name, build, storage):
    model = build(framework_cfg(name, TARGET="all_classes"))
    losses = losses_of(model, batch(ground_truth(), ground_truth(1)))
    assert torch.isfinite(losses["loss_maskiou"])


def test_instances_are_shared_only_for_targets_that_need_them(build, storage):
    """Sharing them costs transfers from the device."""
    shared = []
    for changes in ({}, {"TARGET": "all_classes"}):
        cfg = framework_cfg("fpn", **changes)
        cfg.MODEL.ROI_HEADS.NMS_TYPE = "soft_linear"
        model = build(cfg)
        instances = ground_truth()
        instances.proposal_boxes = instances.gt_boxes
        instances.objectness_logits = torch.zeros(3)
        (sampled,) = model.roi_heads.label_and_sample_proposals([instances], [ground_truth()])
        shared.append(sampled.has("gt_image_instances"))
    assert shared == [False, True]


def high_res_heads(build, **changes):
    cfg = framework_cfg("fpn")
    cfg.MODEL.ROI_HEADS.NAME = "MaskScoringROIHeads"
    cfg.MODEL.ROI_MASKIOU_HEAD.INPUT = changes.pop("input", "high_res")
    for name, value in changes.items():
        cfg.MODEL[name] = value
    return build(cfg).roi_heads


def test_a_second_pooling_only_where_it_is_needed(build):
    pooler = high_res_heads(build).maskiou_pooler
    assert pooler.output_size == (28, 28)
    assert high_res_heads(build, input="concat").maskiou_pooler is None
    assert high_res_heads(build, MASKIOU_ON=False).maskiou_pooler is None
    without_masks = high_res_heads(build, MASK_ON=False, MASKIOU_ON=False)
    assert without_masks.maskiou_pooler is None
    assert not without_masks.mask_on
