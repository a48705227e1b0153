import pytest
import torch
from detectron2.layers import Conv2d
from detectron2.structures import Instances
from torch import nn
from torch.nn import functional as F
from zoo_configs import FRAMEWORKS, framework_cfg

from msrcnn.modeling.class_masks import ClassMaskPredictor
from msrcnn.modeling.fast_inference import fast_inference


@pytest.fixture
def images():
    torch.manual_seed(0)
    sizes = ((96, 128), (80, 64))
    return [{"image": torch.rand(3, h, w) * 255, "height": h, "width": w} for h, w in sizes]


def last_layers(model):
    """Returns the numbers of masks that the mask heads compute per detection, from now on."""
    found = []
    for name, layer in model.named_modules():
        if name.endswith("mask_head.predictor"):
            layer.register_forward_hook(lambda *args: found.append(args[2].shape[1]))
    return found


def detect(model, images):
    with torch.no_grad():
        return model.inference(images, do_postprocess=False)


def assert_same_detections(found, expected):
    assert all(len(each) > 5 for each in expected)
    for ours, theirs in zip(found, expected, strict=True):
        for field in ("pred_masks", "pred_maskiou", "mask_scores"):
            torch.testing.assert_close(ours.get(field), theirs.get(field), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks(build, framework, images):
    cfg = framework_cfg(framework)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(cfg).eval()
    expected = detect(model, images)
    with fast_inference(model):
        numbers = last_layers(model)
        found = detect(model, images)
    assert set(numbers) == {1}
    assert_same_detections(found, expected)
    assert type(model.roi_heads.mask_head.predictor) is Conv2d
    assert not model.roi_heads.mask_head._forward_pre_hooks
    assert not model.roi_heads.mask_head._forward_hooks


@pytest.mark.parametrize(
    ("head", "design", "computed"),
    [
        ("MaskIoUHead", "concat", 1),
        ("MaskIoUHead", "multiply", 1),
        ("MaskIoUHead", "high_res", 1),
        ("MaskIoUHead", "all_masks", 6),
        ("MaskIoULiteHead", "concat", 1),
        ("MaskConfidenceHead", "concat", 1),
    ],
)
def test_heads(tiny_cfg, build, images, head, design, computed):
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES, tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 6, 0.0
    tiny_cfg.MODEL.ROI_HEADS.NAME = "MaskScoringROIHeads"
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.NAME, tiny_cfg.MODEL.ROI_MASKIOU_HEAD.INPUT = head, design
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.INPUT_SCALARS = head != "MaskConfidenceHead"
    model = build(tiny_cfg).eval()
    expected = detect(model, images)
    with fast_inference(model):
        numbers = last_layers(model)
        found = detect(model, images)
    assert set(numbers) == {computed}
    assert_same_detections(found, expected)


def test_a_maskiou_head_of_ones_own_gets_all_masks(tiny_cfg, build, images):
    class Mean(nn.Module):
        uses_mask_features = False

        def forward(self, features, mask_logits, classes):
            assert mask_logits.shape[1] == tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES > 1
            return mask_logits.sigmoid().mean(dim=(2, 3))

    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(tiny_cfg).eval()
    model.roi_heads.mask_head.maskiou_head = Mean()
    with fast_inference(model):
        assert all(len(each) > 5 for each in detect(model, images))


@pytest.mark.parametrize("bias", [True, False])
def test_without_detections_all_masks_are_computed(bias):
    """``layers`` may be called on its own."""
    conv = Conv2d(4, 3, kernel_size=1, bias=bias)
    predictor, x = ClassMaskPredictor(conv), torch.rand(5, 4, 2, 2)
    expected = conv(x)
    assert torch.equal(predictor(x), expected)
    predictor.classes = torch.tensor([2, 0, 1, 1, 2])
    found = predictor(x)
    torch.testing.assert_close(found[:, 0], expected[torch.arange(5), predictor.classes])
    predictor.classes = torch.zeros(0, dtype=torch.int64)
    assert predictor(x[:0]).shape == (0, 1, 2, 2)


def test_an_error_does_not_leave_classes_behind(tiny_cfg, build):
    model = build(tiny_cfg).eval()
    head, detections = model.roi_heads.mask_head, Instances((9, 9))
    detections.pred_classes = torch.tensor([1])
    with fast_inference(model):
        with pytest.raises(RuntimeError, match="channels"):
            head(torch.rand(1, 3, 14, 14), [detections])
        assert head.predictor.classes is None


@pytest.mark.parametrize("activation", [F.relu, torch.relu, nn.ReLU(), F.silu, nn.GELU()])
def test_rectified_outputs_are_overwritten(activation):
    conv = Conv2d(3, 4, kernel_size=3, activation=activation)
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected = conv(image)
        with fast_inference(conv):
            torch.testing.assert_close(conv(image), expected)
            is_rectified = conv.activation is not activation
            if is_rectified:
                x = torch.rand(2) - 0.5
                assert conv.activation(x) is x
    assert is_rectified == (activation in (F.relu, torch.relu) or isinstance(activation, nn.ReLU))
    assert conv.activation is activation
