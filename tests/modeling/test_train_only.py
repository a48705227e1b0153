import copy

import pytest
import torch
from detectron2.solver import build_optimizer
from rectangles import batch, ground_truth
from test_roi_heads import framework_cfg

from msrcnn.errors import UserError
from msrcnn.modeling.train_only import train_only

HEAD = "maskiou_head"


@pytest.fixture
def cfg(tiny_cfg):
    """A config with BatchNorm in every part of the model that supports it."""
    tiny_cfg.MODEL.RESNETS.NORM = tiny_cfg.MODEL.FPN.NORM = "BN"
    tiny_cfg.MODEL.ROI_MASK_HEAD.NORM = tiny_cfg.MODEL.ROI_MASKIOU_HEAD.NORM = "BN"
    return tiny_cfg


def step(model, optimizer):
    losses = model(batch(ground_truth()))
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    return losses


def test_other_parts_are_bitwise_unchanged(cfg, build, storage):
    model = build(cfg).train()
    train_only(model, [HEAD])
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(cfg, model)
    for _ in range(3):
        model.eval()
        model.train()  # as Detectron2 does after evaluation
        step(model, optimizer)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    head = {name for name in before if HEAD in name}
    assert changed <= head
    assert any("running_mean" in name for name in changed)
    assert any("weight" in name for name in changed)
    assert any("running_mean" in name for name in before.keys() - head)


def test_no_gradient_and_no_optimizer_state(cfg, build, storage):
    model = build(cfg).train()
    train_only(model, [HEAD])
    optimizer = build_optimizer(cfg, model)
    step(model, optimizer)
    head = [p for name, p in model.named_parameters() if HEAD in name]
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    optimized = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in optimized} == {id(p) for p in head} == {id(p) for p in optimizer.state}


def test_frozen_losses_are_logged_but_not_returned(cfg, build, storage):
    model = build(cfg).train()
    names = model(batch(ground_truth())).keys()
    train_only(model, [HEAD])
    losses = model(batch(ground_truth()))
    assert list(losses) == ["loss_maskiou"]
    logged = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
    assert logged.keys() == names
    assert logged["loss_maskiou"] == pytest.approx(losses["loss_maskiou"].item())


def test_several_parts(cfg, build, storage):
    model = build(cfg).train()
    train_only(model, [HEAD, "mask_head", "box_predictor"])
    losses = model(batch(ground_truth()))
    assert set(losses) == {"loss_maskiou", "loss_mask", "loss_cls", "loss_box_reg"}
    assert {name for name in storage.latest() if name.startswith("loss")} == {
        "loss_rpn_cls",
        "loss_rpn_loc",
    }
    assert model.roi_heads.mask_head.mask_fcn1.weight.requires_grad
    assert not model.roi_heads.box_head.fc1.weight.requires_grad


def test_image_without_instances(cfg, build, storage):
    model = build(cfg).train()
    train_only(model, [HEAD])
    inputs = batch(ground_truth())
    inputs[0]["instances"] = inputs[0]["instances"][:0]
    losses = model(inputs)
    sum(losses.values()).backward()
    assert list(losses) == ["loss_maskiou"]
    assert losses["loss_maskiou"].item() == 0


def test_inference_is_unchanged(cfg, build):
    model = build(cfg).eval()
    inputs = [{"image": batch(ground_truth())[0]["image"]}]
    with torch.no_grad():
        expected = model(inputs)[0]["instances"].scores
        train_only(model, [HEAD])
        assert torch.equal(model(inputs)[0]["instances"].scores, expected)


def test_nothing_to_freeze(cfg, build):
    model = build(cfg)
    trainable = [p.requires_grad for p in model.parameters()]
    train_only(model, ())
    assert [p.requires_grad for p in model.parameters()] == trainable


def test_pattern_without_a_match(cfg, build):
    with pytest.raises(UserError, match=r"TRAIN_ONLY 'masks' .* roi_heads\.mask_head$"):
        train_only(build(cfg), [HEAD, "masks"])


@pytest.mark.parametrize("name", ["c4", "cascade"])
def test_other_frameworks(name, build, storage):
    """In C4, boxes and masks share res5; Cascade has three box heads."""
    model = build(framework_cfg(name)).train()
    train_only(model, [HEAD])
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = step(model, optimizer)
    assert list(losses) == ["loss_maskiou"]
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all(HEAD in n for n in changed)


def test_parameters_frozen_by_the_config_stay_frozen(cfg, build):
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    model = build(cfg)
    train_only(model, ["backbone"])
    assert not any(p.requires_grad for p in model.backbone.bottom_up.stem.parameters())
    assert any(p.requires_grad for p in model.backbone.bottom_up.res3.parameters())
    with pytest.raises(UserError, match=r"bottom_up\.stem"):
        train_only(model, ["bottom_up.stem"])


def test_part_without_a_loss(cfg, build, storage):
    cfg.MODEL.MASKIOU_ON = False
    model = build(cfg).train()
    model.unused = torch.nn.Linear(1, 1)
    train_only(model, ["unused"])
    with pytest.raises(UserError, match="freezes all parameters that the losses"):
        model(batch(ground_truth()))
