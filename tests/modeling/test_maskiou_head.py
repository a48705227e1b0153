import pytest
import torch
from detectron2.layers import ShapeSpec
from torch.nn import functional as F

from msrcnn.modeling import MaskIoUHead

FEATURE, MASK = (
    ShapeSpec(channels=256, height=14, width=14),
    ShapeSpec(channels=80, height=28, width=28),
)


def make_head(feature=FEATURE, mask=MASK, **kwargs):
    sizes = {"num_classes": 80, "conv_dims": [256] * 4, "fc_dims": [1024, 1024], **kwargs}
    return MaskIoUHead(feature, mask, **sizes)


def reference(state, features, mask_logits, classes):
    """The head of the paper, written out from its text with plain functions."""
    chosen = torch.stack([logits[c] for logits, c in zip(mask_logits, classes)]).sigmoid()
    pooled = F.max_pool2d(chosen[:, None], kernel_size=2, stride=2)
    x = torch.cat([features, pooled], dim=1)
    assert x.shape[1:] == (257, 14, 14)
    for layer, stride in enumerate((1, 1, 1, 2), start=1):
        name = f"maskiou_fcn{layer}"
        x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=1)
        x = x.relu()
    x = x.reshape(len(x), 256 * 7 * 7)
    for layer in (1, 2):
        x = F.linear(x, state[f"maskiou_fc{layer}.weight"], state[f"maskiou_fc{layer}.bias"]).relu()
    return F.linear(x, state["maskiou.weight"], state["maskiou.bias"])


def test_output_equals_the_reference():
    torch.manual_seed(0)
    head = make_head()
    features, logits = torch.randn(3, 256, 14, 14), torch.randn(3, 80, 28, 28)
    classes = torch.tensor([7, 0, 79])
    expected = reference(head.state_dict(), features, logits, classes)
    assert torch.allclose(head(features, logits, classes), expected, atol=1e-6)


def test_parameters_are_those_of_the_paper():
    shapes = {name: tuple(value.shape) for name, value in make_head().state_dict().items()}
    assert shapes["maskiou_fcn1.weight"] == (256, 257, 3, 3)
    assert shapes["maskiou_fcn4.weight"] == (256, 256, 3, 3)
    assert shapes["maskiou_fc1.weight"] == (1024, 256 * 7 * 7)
    assert shapes["maskiou_fc2.weight"] == (1024, 1024)
    assert shapes["maskiou.weight"] == (80, 1024)


def test_initialisation_is_that_of_the_authors():
    torch.manual_seed(0)
    head = make_head()
    fan_out = 256 * 9
    assert head.maskiou_fcn2.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    bound = (3 / 1024) ** 0.5  # Kaiming uniform, a = 1: gain 1
    assert head.maskiou_fc2.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert head.maskiou.weight.std().item() == pytest.approx(0.01, rel=0.02)
    biases = [value for name, value in head.named_parameters() if name.endswith("bias")]
    assert all(bias.abs().max() == 0 for bias in biases)


def test_class_agnostic_masks():
    head = make_head(mask=ShapeSpec(channels=1, height=28, width=28))
    features, mask = torch.randn(2, 256, 14, 14), torch.randn(2, 1, 28, 28)
    classes = torch.tensor([3, 5])
    expected = make_equal(head)(features, mask.expand(2, 80, 28, 28), classes)
    assert torch.allclose(head(features, mask, classes), expected, atol=1e-6)


def make_equal(head):
    other = make_head()
    other.load_state_dict(head.state_dict())
    return other


def test_sizes_follow_the_c4_framework():
    head = make_head(
        ShapeSpec(channels=2048, height=7, width=7), ShapeSpec(channels=5, height=14, width=14),
        num_classes=5,
    )  # fmt: skip
    out = head(torch.randn(2, 2048, 7, 7), torch.randn(2, 5, 14, 14), torch.tensor([0, 4]))
    assert out.shape == (2, 5)
    assert head.maskiou_fc1.in_features == 256 * 4 * 4


def test_no_masks():
    head = make_head()
    out = head(torch.zeros(0, 256, 14, 14), torch.zeros(0, 80, 28, 28), torch.zeros(0).long())
    assert out.shape == (0, 80)


def test_masks_that_cannot_be_pooled_are_refused():
    with pytest.raises(ValueError, match="28 x 28 cannot be pooled"):
        make_head(feature=ShapeSpec(channels=256, height=10, width=10))
