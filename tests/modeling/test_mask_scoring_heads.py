"""Mask scoring of mask heads that are not Detectron2's, in YAML and in Python configs."""

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall, LazyConfig, configurable, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import (
    ROI_MASK_HEAD_REGISTRY,
    BaseMaskRCNNHead,
    MaskRCNNConvUpsampleHead,
)
from rectangles import batch, ground_truth, losses_of
from torch import nn
from zoo_configs import framework_cfg, zoo_cfg

from msrcnn.engine import check_config, start_run, use_scoring_parts
from msrcnn.errors import UserError
from msrcnn.lazy import add_mask_scoring
from msrcnn.modeling import MaskScoring, with_mask_scoring


class PlainHead(BaseMaskRCNNHead):
    """A user's head with layers of its own: masks of 4 times the feature's size."""

    @configurable
    def __init__(self, input_shape, *, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.up = nn.ConvTranspose2d(input_shape.channels, 8, kernel_size=4, stride=4)
        self.predictor = nn.Conv2d(8, num_classes, kernel_size=1)

    @classmethod
    def from_config(cls, cfg, input_shape):
        own = {"input_shape": input_shape, "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES}
        return {**super().from_config(cfg, input_shape), **own}

    def layers(self, x):
        return self.predictor(self.up(x).relu())


class MoreLayersHead(MaskRCNNConvUpsampleHead):
    """Detectron2's head with one more layer at the end: a Sequential runs all its children."""

    @configurable
    def __init__(self, input_shape, **kwargs):
        super().__init__(input_shape, **kwargs)
        self.last = nn.Conv2d(kwargs["num_classes"], kwargs["num_classes"], kernel_size=1)


class ResidualHead(MaskRCNNConvUpsampleHead):
    """Detectron2's head with other connections."""

    def layers(self, x):
        for layer in self.conv_norm_relus[1:]:
            x = x + layer(x)
        return self.predictor(self.deconv_relu(self.deconv(x)))


class OldHead(BaseMaskRCNNHead):
    """A head in the style of before ``@configurable``."""

    def __init__(self, cfg, input_shape):
        super().__init__(cfg, input_shape)
        self.predictor = nn.Conv2d(input_shape.channels, cfg.MODEL.ROI_HEADS.NUM_CLASSES, 1)

    def layers(self, x):
        return self.predictor(x)


class OwnForwardHead(MaskRCNNConvUpsampleHead):
    def forward(self, x, instances):
        return super().forward(x * 2, instances)


class NoLayersHead(BaseMaskRCNNHead):
    pass


class OddHead(PlainHead):
    """Masks whose size is not a multiple of the feature's."""

    def layers(self, x):
        return super().layers(x)[..., 1:, 1:]


USERS = (PlainHead, MoreLayersHead, ResidualHead)
NAMES = [head.__name__ for head in USERS]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Registers the heads of this file, as a user's module would."""
    heads = dict(ROI_MASK_HEAD_REGISTRY)
    for head in (*USERS, OldHead, OwnForwardHead, NoLayersHead, OddHead):
        heads[head.__name__] = head
    monkeypatch.setattr(ROI_MASK_HEAD_REGISTRY, "_obj_map", heads)


def config(name, framework="fpn", **maskiou_head):
    cfg = framework_cfg(framework, **maskiou_head)
    cfg.MODEL.ROI_MASK_HEAD.NAME = name
    use_scoring_parts(cfg)
    return cfg


def assert_trains_and_scores(model):
    losses = losses_of(model, batch(ground_truth(2), ground_truth(1)))
    losses["loss_maskiou"].backward()
    assert model.roi_heads.mask_head.maskiou_head.maskiou.weight.grad.abs().sum() > 0
    found = model.eval()(batch(ground_truth(2)))[0]["instances"]
    assert len(found) > 0
    assert torch.equal(found.mask_scores, found.scores * found.pred_maskiou)


def features():
    return torch.randn(3, 8, 14, 14, generator=torch.Generator().manual_seed(1))


# --- YAML ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "framework"), [*((name, "fpn") for name in NAMES), ("PlainHead", "c4")]
)
def test_a_users_head_trains_and_scores(name, framework, build, storage):
    cfg = config(name, framework)
    check_config(cfg)
    prefix = "MaskScoringRes5" if framework == "c4" else "MaskScoring"
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == prefix + name
    assert_trains_and_scores(build(cfg))


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_those_of_the_head_alone(name, build):
    """The weights of a model without mask scoring load, and give the same detections."""
    cfg = config(name)
    scoring = build(cfg).eval()
    cfg.MODEL.MASKIOU_ON, cfg.MODEL.ROI_MASK_HEAD.NAME = False, name
    plain = build(cfg).eval()
    result = scoring.load_state_dict(plain.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert all(".maskiou_head." in key for key in result.missing_keys)
    a, b = (model(batch(ground_truth()))[0]["instances"] for model in (scoring, plain))
    assert torch.equal(a.scores, b.scores)
    assert torch.equal(a.pred_masks, b.pred_masks)
    assert not b.has("mask_scores")


def test_a_saved_config_is_used_in_a_process_that_has_not_made_the_head():
    cfg = config("PlainHead")
    del ROI_MASK_HEAD_REGISTRY._obj_map["MaskScoringPlainHead"]
    use_scoring_parts(cfg)
    check_config(cfg)
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "MaskScoringPlainHead"


def test_processes_of_a_run_register_the_head(tmp_path):
    """Those that are spawned have only what the user's module registers."""
    cfg = config("PlainHead")
    cfg.OUTPUT_DIR = str(tmp_path)
    del ROI_MASK_HEAD_REGISTRY._obj_map["MaskScoringPlainHead"]
    start_run(cfg)
    assert "MaskScoringPlainHead" in ROI_MASK_HEAD_REGISTRY


def test_a_head_that_is_decorated_keeps_its_name():
    ROI_MASK_HEAD_REGISTRY._obj_map["PlainHead"] = with_mask_scoring(PlainHead)
    cfg = config("PlainHead")
    check_config(cfg)
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == "PlainHead"
    c4 = config("PlainHead", "c4")
    with pytest.raises(UserError, match=r"with_mask_scoring\(head, features_from_res5=True\)"):
        check_config(c4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("OldHead", "its __init__ is not @configurable"),
        ("OwnForwardHead", r"it has its own forward\(\), which mask scoring would replace"),
        ("NoLayersHead", r"it does not implement layers\(\)"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(name, reason):
    cfg = config(name)
    with pytest.raises(UserError, match=f"the mask head '{name}' does not score masks: {reason}"):
        check_config(cfg)
    cfg.MODEL.MASKIOU_ON = False
    check_config(cfg)


def test_a_config_without_use_scoring_parts_says_what_to_set():
    cfg = framework_cfg("fpn")
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PlainHead"
    with pytest.raises(UserError, match="set MODEL.ROI_MASK_HEAD.NAME MaskScoringPlainHead$"):
        check_config(cfg)


def test_lite_head_needs_detectron2s_layers(build, storage):
    cfg = config("PlainHead", NAME="MaskIoULiteHead")
    with pytest.raises(UserError, match="'MaskIoULiteHead' takes the feature before the deconv"):
        check_config(cfg)
    cfg = config("ResidualHead", NAME="MaskIoULiteHead")
    check_config(cfg)
    assert_trains_and_scores(build(cfg))


def test_masks_of_another_size_are_one_error(build, storage):
    model = build(config("OddHead"))
    with pytest.raises(ValueError, match="masks of side 55 cannot be pooled .* of side 14"):
        losses_of(model, batch(ground_truth(2)))


def test_pointrend_is_refused():
    """Its head takes the features of whole images, and predicts masks point by point."""
    point_rend = pytest.importorskip("detectron2.projects.point_rend")
    ROI_MASK_HEAD_REGISTRY._obj_map["PointRendMaskHead"] = point_rend.PointRendMaskHead
    cfg = zoo_cfg()
    point_rend.add_pointrend_config(cfg)
    cfg.MODEL.MASKIOU_ON, cfg.MODEL.ROI_MASK_HEAD.NAME = True, "PointRendMaskHead"
    use_scoring_parts(cfg)
    with pytest.raises(UserError, match="'PointRendMaskHead' .* not a subclass of .*BaseMaskRCNN"):
        check_config(cfg)
    with pytest.raises(TypeError, match="PointRendMaskHead cannot score its masks: it is not a"):
        with_mask_scoring(point_rend.PointRendMaskHead)


# --- LazyConfig ----------------------------------------------------------------------------


def lazy_model(head, **arguments):
    model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
    model.roi_heads.mask_head = LazyCall(head)(
        input_shape=ShapeSpec(channels=256, width=14, height=14), **arguments
    )
    return model


ARGUMENTS = {
    PlainHead: {"num_classes": "${..num_classes}"},
    MoreLayersHead: {"num_classes": "${..num_classes}", "conv_dims": [16, 16]},
    ResidualHead: {"num_classes": "${..num_classes}", "conv_dims": [256, 256, 16]},
}


@pytest.mark.parametrize("head", USERS)
def test_lazy_config_of_a_users_head(head, storage):
    model = lazy_model(head, **ARGUMENTS[head])
    model.roi_heads.num_classes = 6
    add_mask_scoring(model, conv_dims=[8] * 2, fc_dims=[16])
    add_mask_scoring(model, conv_dims=[8] * 4, fc_dims=[16])  # replaces the first
    mask_head = instantiate(model.roi_heads.mask_head)
    assert isinstance(mask_head, head)
    assert isinstance(mask_head, MaskScoring)
    assert len(mask_head.maskiou_head.convs) == 4

    x = torch.randn(2, 256, 14, 14)
    proposals = ground_truth(2)
    proposals.proposal_boxes = proposals.gt_boxes
    losses = mask_head.train()(x, [proposals])
    assert torch.isfinite(losses["loss_maskiou"])
    plain = head(ShapeSpec(256, 14, 14), **{**ARGUMENTS[head], "num_classes": 6}).eval()
    plain.load_state_dict(mask_head.state_dict(), strict=False)
    assert torch.equal(mask_head.layers(x), plain.layers(x))


def test_lazy_config_of_a_users_head_is_saved(tmp_path):
    model = lazy_model(PlainHead, num_classes="${..num_classes}")
    add_mask_scoring(model)
    LazyConfig.save(model, str(tmp_path / "model.yaml"))
    saved = LazyConfig.load(str(tmp_path / "model.yaml"))
    assert saved.roi_heads.mask_head.head_class == f"{__name__}.PlainHead"
    assert isinstance(instantiate(saved.roi_heads.mask_head), PlainHead)


def test_lazy_config_of_a_decorated_head():
    decorated = with_mask_scoring(PlainHead)
    model = lazy_model(decorated, num_classes="${..num_classes}")
    add_mask_scoring(model)
    assert model.roi_heads.mask_head._target_ is decorated
    assert instantiate(model.roi_heads.mask_head).maskiou_head is not None


@pytest.mark.parametrize("head", [OwnForwardHead, NoLayersHead, nn.Conv2d])
def test_lazy_config_of_a_head_that_does_not_fit(head):
    with pytest.raises(ValueError, match=f"mask head {head.__name__} cannot score its masks: it"):
        add_mask_scoring(lazy_model(head))


def test_decorated_head_describes_itself():
    head = with_mask_scoring(PlainHead)
    assert (head.__name__, head.__module__, head.__doc__) == (
        *("PlainHead", __name__, PlainHead.__doc__),
    )
    alone = head(ShapeSpec(8, 14, 14), num_classes=2)
    assert alone.maskiou_head is None
    assert alone.layers(features()).shape == (3, 2, 56, 56)
