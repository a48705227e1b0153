from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.roi_heads.mask_head import (
    MaskRCNNConvUpsampleHead,
    mask_rcnn_inference,
)
from detectron2.structures import Instances
from mask_contrast import with_contrast
from torch import nn
from torch.nn import functional as F
from zoo_configs import FRAMEWORKS, framework_cfg

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


def compare_with_fast(model, images):
    """Checks that fast inference has the same results, and returns the numbers of masks."""
    with_contrast(model)
    expected = detect(model, images)
    with fast_inference(model):
        numbers = last_layers(model)
        found = detect(model, images)
    assert all(len(each) > 5 for each in expected)
    for ours, theirs in zip(found, expected, strict=True):
        for field in ("pred_masks", "pred_maskiou", "mask_scores"):
            torch.testing.assert_close(ours.get(field), theirs.get(field), rtol=1e-3, atol=1e-4)
    return set(numbers)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks(build, framework, images):
    cfg = framework_cfg(framework)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(cfg).eval()
    assert compare_with_fast(model, images) == {1}
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
    assert compare_with_fast(model, images) == {computed}


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


def mask_head(head=MaskRCNNConvUpsampleHead, bias=True):
    """A mask head of 3 classes, and features and classes of 5 detections."""
    torch.manual_seed(0)
    shape = ShapeSpec(channels=4, height=2, width=2)
    head = head(shape, num_classes=3, conv_dims=[4, 4]).eval()
    if not bias:
        head.predictor.bias = None
    with_contrast(head)
    return head, torch.rand(5, 4, 2, 2), torch.tensor([2, 0, 1, 1, 2])


def masks(head, x, classes):
    detections = Instances((9, 9), pred_classes=classes)
    with torch.no_grad():
        return head(x, [detections])[0].pred_masks


@pytest.mark.parametrize("bias", [True, False])
def test_stock_head(bias):
    head, x, classes = mask_head(bias=bias)
    expected, of_all = masks(head, x, classes), head.layers(x)
    with fast_inference(head):
        numbers = last_layers(nn.ModuleDict({"mask_head": head}))
        torch.testing.assert_close(masks(head, x, classes), expected)
        assert masks(head, x[:0], classes[:0]).shape == (0, 1, 4, 4)
        # ``layers`` may be called on its own.
        torch.testing.assert_close(head.layers(x), of_all)
    assert numbers == [1, 1, 3]


def test_an_error_does_not_leave_classes_behind():
    head, x, classes = mask_head()
    with fast_inference(head):
        with pytest.raises(RuntimeError, match="channels"):
            masks(head, x[:, :1], classes)
        assert head.layers(x).shape[1] == 3


def test_threads_do_not_share_classes():
    """One model may serve several threads."""
    head, x, _ = mask_head()
    every = [torch.full((5,), number) for number in range(3)]
    expected = [masks(head, x, classes) for classes in every]

    def predict(repeat):
        return torch.equal(masks(head, x, every[repeat % 3]).round(decimals=4), found[repeat % 3])

    with fast_inference(head), ThreadPoolExecutor(4) as pool:
        found = [masks(head, x, classes).round(decimals=4) for classes in every]
        assert all(pool.map(predict, range(200)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


class Normalized(MaskRCNNConvUpsampleHead):
    def layers(self, x):
        return super().layers(x).log_softmax(dim=1)


class Longer(MaskRCNNConvUpsampleHead):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.refine = nn.Conv2d(3, 3, kernel_size=1)


class AllMasks(MaskRCNNConvUpsampleHead):
    def forward(self, x, instances):
        logits = self.layers(x)
        assert logits.shape[1] == 3
        mask_rcnn_inference(logits, instances)
        return instances


@pytest.mark.parametrize("kind", [Normalized, Longer, AllMasks])
def test_other_heads_stay(kind):
    head, x, classes = mask_head(kind)
    expected = masks(head, x, classes)
    with fast_inference(head):
        torch.testing.assert_close(masks(head, x, classes), expected)
        assert type(head.predictor) is Conv2d


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
