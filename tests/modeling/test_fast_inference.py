import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import ROIHeads
from torch import nn
from torch.fx import symbolic_trace
from torch.nn.utils import parametrizations

from msrcnn.modeling.fast_inference import fast_inference, speed_up
from msrcnn.modeling.torchvision_backbone import TorchvisionBackbone

NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)


def with_statistics(model):
    """Gives every batch norm statistics and parameters as of a trained model."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, NORMS):
            layer.running_var.uniform_(0.5, 2)
            layer.running_mean.normal_()
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_()
    return model.eval()


def norms_that_run(model):
    """Counts the calls of batch norms from now on."""
    calls = []
    for layer in model.modules():
        if isinstance(layer, NORMS):
            layer.register_forward_hook(lambda *_: calls.append(1))
    return calls


def backbones(tiny_cfg, build):
    for norm in ("FrozenBN", "BN"):
        tiny_cfg.MODEL.RESNETS.NORM = norm
        yield build(tiny_cfg).backbone
        yield TorchvisionBackbone("mobilenet_v2", norm=norm)
        yield TorchvisionBackbone("resnet18", norm=norm)


def test_features_are_the_same_without_batch_norms(tiny_cfg, build):
    for backbone in backbones(tiny_cfg, build):
        with_statistics(backbone)
        image, calls = torch.rand(2, 3, 64, 96), norms_that_run(backbone)
        with torch.no_grad():
            expected = backbone(image)
            assert calls
            calls.clear()
            with fast_inference(backbone):
                found = backbone(image)
            assert not calls
        for name, feature in expected.items():
            torch.testing.assert_close(found[name], feature, rtol=1e-3, atol=1e-4)
            assert found[name].is_contiguous(memory_format=torch.channels_last)
            assert not found[name].requires_grad


def test_the_model_is_as_before(tiny_cfg, build):
    for backbone in backbones(tiny_cfg, build):
        with_statistics(backbone)
        before = dict(backbone.named_modules(remove_duplicate=False))
        tensors = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
        values = {name: tensor.clone() for name, tensor in tensors.items()}
        with fast_inference(backbone):
            assert not any("running_mean" in name for name in backbone.state_dict())
        after = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
        assert list(after) == list(tensors)
        assert all(after[name] is tensors[name] for name in tensors)
        assert all(torch.equal(after[name], values[name]) for name in tensors)
        assert all(after[name].stride() == values[name].stride() for name in tensors)
        assert dict(backbone.named_modules(remove_duplicate=False)) == before


def test_the_model_is_as_before_after_an_error():
    conv = Conv2d(3, 4, 3, bias=False, norm=FrozenBatchNorm2d(4))
    norm, weight = conv.norm, conv.weight
    with pytest.raises(KeyboardInterrupt), fast_inference(conv):
        raise KeyboardInterrupt
    assert conv.norm is norm
    assert conv.weight is weight
    assert conv.bias is None


class Twice(nn.Module):
    """A convolution with two batch norms, one that runs twice, and one whose output is reused."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x):
        x = self.norm2(self.conv(self.norm1(self.conv(x))))
        y = self.other(x)
        return self.norm3(y) + y


def sequential():
    """A convolution that two batch norms follow, and two convolutions with the same batch norm."""
    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    first = nn.Sequential(conv, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3))
    return nn.Sequential(first, nn.Sequential(nn.Conv2d(3, 3, 1), norm), nn.Conv2d(3, 3, 1), norm)


@pytest.mark.parametrize("build", [lambda: symbolic_trace(Twice()), sequential])
def test_layers_of_several_uses_stay(build):
    model = with_statistics(build())
    image, calls = torch.rand(1, 3, 8, 8), norms_that_run(model)
    with torch.no_grad():
        expected = model(image)
        number = len(calls)
        speed_up(model)
        torch.testing.assert_close(model(image), expected)
    assert len(calls) == 2 * number


def test_convolutions_of_another_kind_stay():
    class Scaled(Conv2d):
        def forward(self, x):
            return super().forward(x) * self.weight.mean()

    others = [
        with_statistics(Scaled(3, 4, 3, norm=FrozenBatchNorm2d(4))),
        with_statistics(parametrizations.weight_norm(Conv2d(3, 4, 3, norm=FrozenBatchNorm2d(4)))),
        Conv2d(3, 4, 3, norm=nn.BatchNorm2d(4, track_running_stats=False)).eval(),
    ]
    for layer in others:
        image = torch.rand(2, 3, 8, 8)
        with torch.no_grad():
            expected = layer(image)
            speed_up(layer)
            torch.testing.assert_close(layer(image), expected)
        assert layer.norm is not None


@pytest.mark.parametrize("norm", ["", "GN"])
def test_heads_with_group_norm_keep_their_format(tiny_cfg, build, norm):
    tiny_cfg.MODEL.ROI_MASK_HEAD.NORM = norm
    model = build(tiny_cfg)
    speed_up(model)
    formats = {
        name: layer.weight.is_contiguous(memory_format=torch.channels_last)
        for name, layer in model.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer.kernel_size != (1, 1)
    }
    heads = {name for name in formats if name.startswith("roi_heads")}
    assert len(heads) > 5
    assert formats == {name: not (norm and name in heads) for name in formats}


def test_detections_are_the_same(tiny_cfg, build):
    tiny_cfg.MODEL.RESNETS.NORM, tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = "FrozenBN", 0.0
    model = with_statistics(build(tiny_cfg))
    contiguous = []
    model.roi_heads.mask_pooler.register_forward_pre_hook(
        lambda _, inputs: contiguous.extend(each.is_contiguous() for each in inputs[0])
    )
    image = [{"image": torch.rand(3, 96, 128) * 255, "height": 96, "width": 128}]
    with torch.no_grad():
        (expected,) = model.inference(image, do_postprocess=False)
        contiguous.clear()
        with fast_inference(model):
            (found,) = model.inference(image, do_postprocess=False)
    assert len(found) == len(expected) > 5
    assert contiguous
    assert all(contiguous)
    for field in ("scores", "mask_scores", "pred_maskiou", "pred_masks"):
        torch.testing.assert_close(found.get(field), expected.get(field), rtol=1e-3, atol=1e-4)
    assert not model.roi_heads._forward_pre_hooks


@pytest.mark.parametrize("inputs", [("images",), ("images", ["a list"], None)])
def test_heads_with_another_interface_get_their_inputs(inputs):
    class Heads(ROIHeads):
        def __init__(self):
            nn.Module.__init__(self)

        def forward(self, *inputs, **named):
            return inputs, named

    heads = Heads()
    with fast_inference(heads):
        assert heads(*inputs, features={}) == (inputs, {"features": {}})
