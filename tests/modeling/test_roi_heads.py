import copy

import pytest
import torch
from test_mask_scoring import batch, ground_truth, losses_of
from zoo_configs import FRAMEWORKS, framework_cfg

from msrcnn.modeling.roi_heads import SharedField


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
