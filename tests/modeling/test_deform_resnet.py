"""Compares deformable layers with plain loops, and the backbone with Detectron2's."""

import math
import pickle

import pytest
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.backbone.fpn import build_resnet_fpn_backbone
from detectron2.modeling.backbone.resnet import (
    DeformBottleneckBlock as Detectron2DeformBottleneckBlock,
)
from detectron2.modeling.backbone.resnet import build_resnet_backbone
from torch.nn import functional as F

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.config import get_config, get_msrcnn_cfg
from msrcnn.modeling.deform_resnet import (
    DeformBasicBlock,
    DeformBottleneckBlock,
    DeformConv2d,
    build_deform_resnet_backbone,
    build_deform_resnet_fpn_backbone,
)

RGB = ShapeSpec(channels=3)


def sample(plane, y, x):
    """Bilinear interpolation of an (H, W) list of lists, zero outside."""
    height, width = len(plane), len(plane[0])
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += plane[row][column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def reference(x, offset, weight, mask, *, stride, padding, dilation, groups, deform_groups):
    """Deformable convolution computed from its definition, point by point."""
    num_out, per_group, kernel_height, kernel_width = weight.shape
    num_points = kernel_height * kernel_width
    result = torch.zeros(len(x), num_out, *offset.shape[2:], dtype=x.dtype)
    planes = x.tolist()
    for n, o, row, column in torch.cartesian_prod(*map(torch.arange, result.shape)).tolist():
        for c in range(per_group):
            channel = o // (num_out // groups) * per_group + c
            first = channel // (x.shape[1] // deform_groups) * num_points
            for k in range(num_points):
                shift_y, shift_x = offset[n, 2 * (first + k) : 2 * (first + k) + 2, row, column]
                y = row * stride - padding + k // kernel_width * dilation + shift_y.item()
                x_ = column * stride - padding + k % kernel_width * dilation + shift_x.item()
                factor = 1.0 if mask is None else mask[n, first + k, row, column].item()
                value = factor * sample(planes[n][channel], y, x_)
                result[n, o, row, column] += value * weight[o, c].flatten()[k].item()
    return result


def layer_and_inputs(modulated, *, stride=1, dilation=1, groups=1, deform_groups=1, scale=1.5):
    """Returns a double-precision deformable layer, an input, random offsets and weights."""
    torch.manual_seed(0)
    layer = DeformConv2d(
        4, 4, 3, stride=stride, padding=dilation, dilation=dilation, groups=groups, bias=False
    ).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.double)
    size = [(side - 1) // stride + 1 for side in (5, 6)]
    offset = scale * torch.randn(2, 18 * deform_groups, *size, dtype=torch.double)
    mask = torch.rand(2, 9 * deform_groups, *size, dtype=torch.double) if modulated else None
    return layer, x, offset, mask


# --- the layer -----------------------------------------------------------------------------


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"stride": 2},
        {"dilation": 2},
        {"groups": 2},
        {"deform_groups": 2},
        {"groups": 2, "deform_groups": 2, "stride": 2},
    ],
    ids=lambda geometry: "-".join(geometry) or "plain",
)
def test_equals_the_definition(modulated, geometry):
    layer, x, offset, mask = layer_and_inputs(modulated, **geometry)
    defaults = {"stride": 1, "dilation": 1, "groups": 1, "deform_groups": 1}
    expected = reference(
        x,
        offset,
        layer.weight,
        mask,
        padding=layer.padding[0],
        **(defaults | geometry),
    )
    assert torch.allclose(layer(x, offset, mask), expected, atol=1e-12)


@pytest.mark.parametrize("geometry", [{}, {"stride": 2}, {"groups": 2}, {"dilation": 2}])
def test_zero_offsets_are_an_ordinary_convolution(geometry):
    layer, x, offset, mask = layer_and_inputs(True, scale=0, **geometry)
    expected = F.conv2d(
        x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    assert torch.allclose(layer(x, offset), expected)
    assert torch.allclose(layer(x, offset, torch.ones_like(mask)), expected)


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_gradients(modulated):
    layer, x, offset, mask = layer_and_inputs(modulated, groups=2, deform_groups=2, stride=2)
    # Bilinear interpolation is not differentiable at grid points, so avoid them.
    offset = offset.floor() + 0.2 + 0.6 * torch.rand_like(offset)
    tensors = [x, offset, layer.weight.detach()] + ([mask] if modulated else [])

    def run(x, offset, weight, mask=None):
        return torch.func.functional_call(layer, {"weight": weight}, (x, offset, mask))

    assert torch.autograd.gradcheck(run, [t.requires_grad_() for t in tensors], fast_mode=True)


@pytest.mark.parametrize("block", [DeformBasicBlock, DeformBottleneckBlock])
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_empty_input(block, modulated):
    kwargs = {"bottleneck_channels": 4} if block is DeformBottleneckBlock else {}
    block = block(4, 8, stride=2, deform_modulated=modulated, **kwargs)
    output = block(torch.zeros(0, 4, 6, 8))
    assert output.shape == (0, 8, 3, 4)
    output.sum().backward()  # DistributedDataParallel expects all gradients
    assert all(p.grad is not None for p in block.parameters())


def test_autocast():
    block = DeformBottleneckBlock(4, 8, bottleneck_channels=4, deform_modulated=True)
    x = torch.randn(1, 4, 6, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = block(x)
    output.float().sum().backward()
    assert torch.allclose(output.float(), block(x), rtol=0.1, atol=0.1)
    assert block.conv2_offset.weight.grad.abs().sum() > 0


# --- the blocks ----------------------------------------------------------------------------


def shapes(module):
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("deform_groups", [1, 2])
@pytest.mark.parametrize("in_channels", [8, 16], ids=["shortcut", "identity"])
def test_parameters_equal_detectron2(modulated, deform_groups, in_channels):
    kwargs = {
        "bottleneck_channels": 4,
        "num_groups": 2,
        "deform_modulated": modulated,
        "deform_num_groups": deform_groups,
    }
    theirs = Detectron2DeformBottleneckBlock(in_channels, 16, **kwargs)
    assert shapes(DeformBottleneckBlock(in_channels, 16, **kwargs)) == shapes(theirs)


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_v1_block_equals_detectron2(stride_in_1x1):
    """Only Detectron2's v1 forward pass with one deformable group runs without CUDA."""
    torch.manual_seed(0)
    kwargs = {"bottleneck_channels": 4, "stride": 2, "stride_in_1x1": stride_in_1x1}
    theirs = Detectron2DeformBottleneckBlock(8, 16, **kwargs).eval()
    torch.nn.init.normal_(theirs.conv2_offset.weight, std=0.5)
    ours = DeformBottleneckBlock(8, 16, **kwargs).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 9, 10)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)


@pytest.mark.parametrize("deform_groups", [1, 2])
def test_v2_block_interprets_offsets_like_detectron2(deform_groups):
    """Detectron2 splits the channels into thirds, called x, y and mask. It concatenates the first
    two without reordering, so the operator reads them as (y, x) of each point, and applies a
    sigmoid to the mask.
    """
    torch.manual_seed(0)
    block = DeformBottleneckBlock(
        8,
        8,
        bottleneck_channels=4,
        norm="",
        deform_modulated=True,
        deform_num_groups=deform_groups,
    )
    torch.nn.init.normal_(block.conv2_offset.weight, std=0.5)
    x = torch.randn(1, 8, 4, 5)
    with torch.no_grad():
        inner = block.conv1(x).relu()
        first, second, mask = block.conv2_offset(inner).chunk(3, dim=1)
        deformed = reference(
            inner,
            torch.cat([first, second], dim=1),
            block.conv2.weight,
            mask.sigmoid(),
            stride=1,
            padding=1,
            dilation=1,
            groups=1,
            deform_groups=deform_groups,
        )
        expected = (block.conv3(deformed.relu()) + x).relu()
        assert torch.allclose(block(x), expected, atol=1e-5)


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_basic_block_is_initialized_like_the_stock_block(modulated):
    from detectron2.modeling.backbone.resnet import BasicBlock

    torch.manual_seed(0)
    stock = BasicBlock(4, 8, stride=2, norm="").eval()
    block = DeformBasicBlock(4, 8, stride=2, norm="", deform_modulated=modulated).eval()
    result = block.load_state_dict(stock.state_dict(), strict=False)
    assert result.missing_keys == ["conv2_offset.weight", "conv2_offset.bias"]
    assert not result.unexpected_keys
    if modulated:  # otherwise sigmoid(0) = 0.5 scales every kernel point
        torch.nn.init.constant_(block.conv2_offset.bias[18:], 100.0)
    x = torch.randn(2, 4, 6, 7)
    assert torch.allclose(block(x), stock(x), atol=1e-6)


# --- the backbone --------------------------------------------------------------------------


def resnet_cfg(depth=50, **resnets):
    cfg = get_msrcnn_cfg()
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    if depth < 50:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    for key, value in resnets.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


C3_TO_C5 = [False, True, True, True]


@pytest.mark.parametrize(
    "cfg",
    [
        resnet_cfg(18),
        resnet_cfg(34),
        resnet_cfg(50, OUT_FEATURES=["stem", "res4"]),
        resnet_cfg(50, RES5_DILATION=2, STRIDE_IN_1X1=False),
        resnet_cfg(50, NUM_GROUPS=32, WIDTH_PER_GROUP=4, NORM="GN"),
    ],
    ids=["18", "34", "50-C4", "50-dilated", "X-50-GN"],
)
def test_without_deformable_stages_equals_detectron2(cfg):
    torch.manual_seed(0)
    theirs = build_resnet_backbone(cfg, RGB)
    ours = build_deform_resnet_backbone(cfg, RGB)
    assert ours.output_shape() == theirs.output_shape()
    assert list(shapes(ours)) == list(shapes(theirs))
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    trained = [name for name, p in theirs.named_parameters() if p.requires_grad]
    assert [name for name, p in ours.named_parameters() if p.requires_grad] == trained


@pytest.mark.parametrize("depth", [50, 101, 152])
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("deform_groups", [1, 2])
def test_parameters_of_deformable_backbone_equal_detectron2(depth, modulated, deform_groups):
    cfg = resnet_cfg(
        depth,
        DEFORM_ON_PER_STAGE=C3_TO_C5,
        DEFORM_MODULATED=modulated,
        DEFORM_NUM_GROUPS=deform_groups,
        NUM_GROUPS=32,
        WIDTH_PER_GROUP=8,
    )
    with torch.device("meta"):
        theirs, ours = build_resnet_backbone(cfg, RGB), build_deform_resnet_backbone(cfg, RGB)
    assert shapes(ours) == shapes(theirs)


def test_deformable_fpn_equals_detectron2():
    """With random offsets; Detectron2's v1 forward pass runs without CUDA."""
    cfg = resnet_cfg(50, DEFORM_ON_PER_STAGE=C3_TO_C5, NORM="GN")
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES
    torch.manual_seed(0)
    theirs = build_resnet_fpn_backbone(cfg, RGB).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith("conv2_offset.weight"):
            torch.nn.init.normal_(parameter, std=0.02)
    ours = build_deform_resnet_fpn_backbone(cfg, RGB).eval()
    ours.load_state_dict(theirs.state_dict())
    assert ours.output_shape() == theirs.output_shape()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_trains(depth, modulated):
    cfg = resnet_cfg(depth, DEFORM_ON_PER_STAGE=C3_TO_C5, DEFORM_MODULATED=modulated)
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.IN_FEATURES = cfg.MODEL.RESNETS.OUT_FEATURES
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    torch.manual_seed(0)
    backbone = build_deform_resnet_fpn_backbone(cfg, RGB)
    features = backbone(torch.randn(1, 3, 32, 64))
    assert [features[f"p{i}"].shape[-1] for i in range(2, 7)] == [16, 8, 4, 2, 1]
    sum(feature.square().sum() for feature in features.values()).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert backbone.bottom_up.res3[0].conv2_offset.weight.grad.abs().sum() > 0
    assert not hasattr(backbone.bottom_up.res2[0], "conv2_offset")


def test_freezing():
    cfg = resnet_cfg(18, DEFORM_ON_PER_STAGE=[True] * 4, NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    backbone = build_deform_resnet_backbone(cfg, RGB)
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (not name.startswith(("stem.", "res2."))), name
    assert type(backbone.res2[0].conv2.norm).__name__ == "FrozenBatchNorm2d"
    assert type(backbone.res3[0].conv2.norm).__name__ == "BatchNorm2d"


@pytest.mark.parametrize(
    ("depth", "resnets", "message"),
    [
        (20, {}, "DEPTH is 20; allowed: 18, 34, 50, 101, 152"),
        (50, {"RES5_DILATION": 3}, "RES5_DILATION is 3; allowed: 1, 2"),
        (50, {"DEFORM_ON_PER_STAGE": [True]}, "DEFORM_ON_PER_STAGE must have 4 entries"),
        (18, {"RES2_OUT_CHANNELS": 256}, "RES2_OUT_CHANNELS is 256; ResNet-18 needs 64"),
        (34, {"NUM_GROUPS": 32}, "NUM_GROUPS is 32; ResNet-34 needs 1"),
        (18, {"RES5_DILATION": 2}, "RES5_DILATION is 2; ResNet-18 needs 1"),
    ],
)
def test_unsupported_values_are_rejected(depth, resnets, message):
    with pytest.raises(ValueError, match=message):
        build_deform_resnet_backbone(resnet_cfg(depth, **resnets), RGB)


# --- pretrained weights --------------------------------------------------------------------


def stock_and_deformable(path, name):
    """Yields the backbones of a config and of its deformable version, with weights from a file."""
    for suffix in ("1x", "dconv_1x"):
        cfg = get_config(f"COCO-InstanceSegmentation/mask_rcnn_{name}_{suffix}.yaml")
        cfg.MODEL.DEVICE = "cpu"
        model = build_model(cfg).eval()
        MaskScoringCheckpointer(model).load(str(path))
        yield model.backbone.bottom_up


def assert_equal_features(stock, deformable):
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        expected, found = stock(image), deformable(image)
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-3, atol=1e-3), name


def test_torchvision_weights_start_without_deformation(tmp_path):
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    assert_equal_features(*stock_and_deformable(tmp_path / "resnet18.pth", "R_18_FPN"))


CAFFE2 = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}


def caffe2_name(key):
    """Returns Caffe2's name of a ResNet parameter; None for (folded) batch norm statistics."""
    parts = key.split(".")
    if "running" in key:
        return None
    if parts[0] == "stem":
        return "res_conv1_bn_" + parts[-1][0].replace("w", "s") if "norm" in key else "conv1_w"
    parts = [CAFFE2.get(part, part) for part in parts]
    if "norm" in key:
        parts[-2:] = ["bn", {"weight": "s", "bias": "b"}[parts[-1]]]
    else:
        parts[-1] = "w"
    return "_".join(parts)


def test_imagenet_weights_start_without_deformation(tmp_path):
    """A file like Detectron2's ``ImageNetPretrained/MSRA/R-50.pkl``, matched by heuristics."""
    torch.manual_seed(0)
    state = build_resnet_backbone(resnet_cfg(50), RGB).state_dict()
    blobs = {caffe2_name(key): tensor.numpy() for key, tensor in state.items() if caffe2_name(key)}
    with (tmp_path / "R-50.pkl").open("wb") as file:
        pickle.dump(blobs, file)
    stock, deformable = stock_and_deformable(tmp_path / "R-50.pkl", "R_50_FPN")
    found = deformable.state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state if "running" not in key)
    assert_equal_features(stock, deformable)


@pytest.mark.parametrize("kind", [torch.nan, torch.inf, 1e30])
def test_offsets_that_are_not_finite_stay_where_they_are(kind):
    """Native code crashes on a NaN offset on the CPU; points at infinity are outside and 0."""
    torch.manual_seed(0)
    layer = DeformConv2d(2, 3, kernel_size=3, padding=1, bias=False)
    x, offset = torch.randn(1, 2, 6, 6), torch.zeros(1, 18, 6, 6)
    expected = layer(x, offset)
    offset[0, 5, 2, 3] = kind
    output = layer(x, offset)
    there = torch.zeros(6, 6, dtype=torch.bool)
    there[2, 3] = True
    assert torch.equal(output[..., ~there], expected[..., ~there])
    assert output[..., there].isnan().all() == (kind != kind)
    assert not torch.equal(output[..., there], expected[..., there])
