"""Compares torchvision backbones with torchvision's own forward pass."""

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.structures import Boxes, Instances, PolygonMasks
from torch import nn

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.config import get_config, get_msrcnn_cfg
from msrcnn.modeling.torchvision_backbone import (
    TorchvisionBackbone,
    build_torchvision_fpn_backbone,
    find_blocks,
)

RGB = ShapeSpec(channels=3)
WEIGHTS = Path(__file__).parents[3] / "shared" / "weights" / "mobilenet_v2_imagenet.pth"


def fpn_cfg(name="mobilenet_v2", *, norm="FrozenBN", freeze_at=0):
    cfg = get_msrcnn_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.TORCHVISION.NAME, cfg.MODEL.TORCHVISION.NORM = name, norm
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    return cfg


def small_model_cfg():
    cfg = get_config("quick/ccp_ms_rcnn_MNV2_FPN.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 20
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 3
    return cfg


def randomize_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)


# --- features ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", [64, 128, 256, 512]),
        ("mobilenet_v2", [24, 32, 96, 320]),
        ("mobilenet_v3_small", [16, 24, 48, 96]),
        ("efficientnet_b0", [24, 40, 112, 320]),
        ("efficientnet_v2_s", [48, 64, 160, 256]),
        ("convnext_tiny", [96, 192, 384, 768]),
        ("swin_t", [96, 192, 384, 768]),
        ("swin_v2_t", [96, 192, 384, 768]),
        ("regnet_y_400mf", [48, 104, 208, 440]),
        ("mnasnet0_5", [16, 24, 48, 160]),
    ],
)
def test_shapes_and_strides(name, channels):
    backbone = TorchvisionBackbone(name).eval()
    specs = backbone.output_shape()
    assert list(specs) == ["res2", "res3", "res4", "res5"]
    assert [spec.channels for spec in specs.values()] == channels
    assert [spec.stride for spec in specs.values()] == [4, 8, 16, 32]
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 64, 96))
    for feature, spec in specs.items():
        expected = (1, spec.channels, 64 // spec.stride, 96 // spec.stride)
        assert features[feature].shape == expected


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("mobilenet_v2", {"features.3": 4, "features.6": 8, "features.13": 16, "features.17": 32}),
        ("resnet50", {"layer1.2": 4, "layer2.3": 8, "layer3.5": 16, "layer4.2": 32}),
    ],
)
def test_features_are_the_last_blocks_of_their_stride(name, blocks):
    model = torchvision.models.get_model(name, weights=None)
    last = {block.stride: block.name for block in find_blocks(model) if block.mixes_pixels}
    assert {name: stride for stride, name in last.items() if stride > 2} == blocks


def test_layers_after_the_features_are_left_out():
    names = dict(TorchvisionBackbone("mobilenet_v2").named_parameters())
    assert "body.features.17.conv.2.weight" in names
    assert not any("features.18" in name or "classifier" in name for name in names)
    early = TorchvisionBackbone("mobilenet_v2", out_features=["res2", "res3"])
    assert list(early.output_shape()) == ["res2", "res3"]
    assert "features.7" not in dict(early.body.named_modules())


def expected_features(model, image):
    """Returns the features of MobileNetV2 or a ResNet, layer by layer."""
    if hasattr(model, "features"):
        outputs = [image := layer(image) for layer in model.features]
        return [outputs[index] for index in (3, 6, 13, 17)]
    x = model.maxpool(model.relu(model.bn1(model.conv1(image))))
    stages = (model.layer1, model.layer2, model.layer3, model.layer4)
    return [x := stage(x) for stage in stages]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_features_equal_torchvision(name, norm):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    randomize_statistics(model)
    backbone = TorchvisionBackbone(name, norm=norm)
    missing, unexpected = backbone.body.load_state_dict(model.state_dict(), strict=False)
    assert missing == []
    counters = ".num_batches_tracked"  # which frozen norms do not have
    head = ("features.18.", "classifier.", "fc.")
    assert all(key.endswith(counters) or key.startswith(head) for key in unexpected)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = backbone.eval()(image)
        expected = expected_features(model.eval(), image)
    for feature, tensor in zip(found.values(), expected):
        assert torch.allclose(feature, tensor, atol=1e-5 * tensor.abs().max().item())


def test_channels_last_features_equal_torchvision():
    torch.manual_seed(0)
    backbone = TorchvisionBackbone("swin_t").eval()
    model = torchvision.models.swin_t(weights=None).eval()
    model.load_state_dict(backbone.body.state_dict(), strict=False)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = backbone(image)
        outputs = [image := layer(image) for layer in model.features]
    for feature, index in zip(found.values(), (1, 3, 5, 7)):
        assert torch.allclose(feature, outputs[index].permute(0, 3, 1, 2), atol=1e-5)


def test_copy_is_independent():
    backbone = TorchvisionBackbone("mobilenet_v2")
    twin = copy.deepcopy(backbone)
    nn.init.zeros_(twin.body.get_submodule("features.0.0").weight)
    assert backbone.body.get_submodule("features.0.0").weight.abs().sum() > 0
    assert twin(torch.rand(1, 3, 32, 32))["res5"].shape == (1, 320, 1, 1)


# --- FPN and freezing ----------------------------------------------------------------------


def test_fpn():
    backbone = build_torchvision_fpn_backbone(fpn_cfg(), RGB)
    assert backbone.size_divisibility == 32
    features = backbone(torch.rand(1, 3, 64, 96))
    assert [features[f"p{i}"].shape[-1] for i in range(2, 7)] == [24, 12, 6, 3, 2]
    assert {feature.shape[1] for feature in features.values()} == {8}
    names = [name for name in backbone.state_dict() if not name.startswith("fpn_")]
    assert all(name.startswith("bottom_up.body.features.") for name in names)
    sum(feature.square().sum() for feature in features.values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())


def norms(module, kind):
    return {name for name, child in module.named_modules() if isinstance(child, kind)}


def test_frozen_norms_do_not_change():
    torch.manual_seed(0)
    backbone = TorchvisionBackbone("mobilenet_v2").train()
    assert not norms(backbone, nn.BatchNorm2d)
    frozen = norms(backbone, FrozenBatchNorm2d)
    assert len(frozen) == 51
    before = {name: tensor.clone() for name, tensor in backbone.named_buffers()}
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    backbone(torch.rand(2, 3, 32, 64))["res5"].sum().backward()
    optimizer.step()
    after = dict(backbone.named_buffers())
    assert {name.rpartition(".")[0] for name in before} == frozen
    assert all(torch.equal(after[name], before[name]) for name in before)
    trained = {name.rpartition(".")[0] for name, _ in backbone.named_parameters()}
    assert not trained & frozen


def test_trained_norms_change():
    backbone = TorchvisionBackbone("mobilenet_v2", norm="BN").train()
    norm = backbone.body.get_submodule("features.0.1")
    backbone(torch.rand(2, 3, 32, 64))["res5"].sum().backward()
    assert norm.running_mean.abs().sum() > 0
    assert norm.weight.grad is not None
    assert not norms(backbone, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("name", "freeze_at", "frozen"),
    [
        ("mobilenet_v2", 0, ()),
        ("mobilenet_v2", 1, [f"features.{i}." for i in range(2)]),
        ("mobilenet_v2", 2, [f"features.{i}." for i in range(4)]),
        ("mobilenet_v2", 5, ["features."]),
        ("resnet18", 1, ["conv1.", "bn1."]),
        ("resnet18", 2, ["conv1.", "bn1.", "layer1."]),
        ("swin_t", 2, ["features.0.", "features.1."]),
    ],
)
def test_freeze_at(name, freeze_at, frozen):
    backbone = TorchvisionBackbone(name, norm="BN", freeze_at=freeze_at)
    frozen = tuple(frozen)
    for key, parameter in backbone.body.named_parameters():
        assert parameter.requires_grad == (not key.startswith(frozen)), key
    for key in norms(backbone.body, FrozenBatchNorm2d):
        assert f"{key}.".startswith(frozen)
    assert not any(f"{key}.".startswith(frozen) for key in norms(backbone.body, nn.BatchNorm2d))


# --- a model -------------------------------------------------------------------------------


def ground_truth(height, width):
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 10, 40, 50], [30, 5, 90, 60]]))
    instances.gt_classes = torch.tensor([3, 11])
    instances.gt_masks = PolygonMasks(
        [[[8, 10, 40, 10, 40, 50, 8, 50]], [[30, 5, 90, 5, 90, 60, 30, 60]]]
    )
    return instances


def test_training_step_and_inference(build, storage):
    model = build(small_model_cfg())
    image = torch.rand(3, 64, 96) * 255
    losses = model.train()([{"image": image, "instances": ground_truth(64, 96)}])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_maskiou"] > 0
    sum(losses.values()).backward()
    backbone = model.backbone.bottom_up.body
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert backbone.get_submodule("features.17.conv.2").weight.grad.abs().sum() > 0
    with torch.no_grad():
        (output,) = model.eval()([{"image": image}])
    assert len(output["instances"].mask_scores) == 3


def test_imagenet_weights_of_mobilenet_v2(build, caplog):
    if not WEIGHTS.is_file():
        pytest.skip(f"no ../shared/weights/{WEIGHTS.name} beside the checkout")
    model = build(small_model_cfg())
    with caplog.at_level("INFO", "msrcnn"):
        MaskScoringCheckpointer(model).load(str(WEIGHTS))
    weights = torch.load(WEIGHTS, weights_only=True)
    body = model.backbone.bottom_up.body.state_dict()
    body = {name: tensor for name, tensor in body.items() if "num_batches" not in name}
    assert len(body) == 255
    assert all(torch.equal(tensor, weights[name]) for name, tensor in body.items())
    assert "in the file, not in the model: features.18.0, features.18.1" in caplog.text
    assert "warning" not in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}


# --- models that cannot be used ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet", "NAME is 'mobilenet', which is not a .*; did you mean: mobilenet_v2"),
        ("fcn_resnet50", "NAME is 'fcn_resnet50', which is not a classification model"),
        ("vit_b_16", "NAME 'vit_b_16' cannot be .*: it does not accept images of every size; all"),
        ("shufflenet_v2_x0_5", "'shufflenet_v2_x0_5' cannot be .*: it has no features of stride 4"),
        ("squeezenet1_1", "has no features of stride 4, 8, 16, 32; allowed are .*: ResNet"),
    ],
)
def test_unsuitable_model_is_rejected(name, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionBackbone(name)


def test_unknown_arguments_are_rejected():
    with pytest.raises(ValueError, match="TORCHVISION.NORM 'GN' is unknown; allowed: FrozenBN, BN"):
        TorchvisionBackbone("mobilenet_v2", norm="GN")
    with pytest.raises(
        ValueError, match="FPN.IN_FEATURES 'stage2' is unknown; allowed: res2, res3"
    ):
        TorchvisionBackbone("mobilenet_v2", out_features=["stage2"])
    with pytest.raises(ValueError, match="PIXEL_MEAN has 1 channels"):
        build_torchvision_fpn_backbone(fpn_cfg(), ShapeSpec(channels=1))
