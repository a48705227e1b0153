"""A forward pass of Mask Scoring R-CNN in plain PyTorch, on the state dict of another library.

It uses neither Detectron2 nor the converters, so that the tests can compare converted models to it.
"""

import math

import torch
from torch.nn import functional as F
from torchvision.ops import roi_align

STRIDES = (4, 8, 16, 32)
LARGEST = math.log(1000 / 16)  # largest log scale of a box side
# In an image of 128 x 160. No size is close to a boundary between FPN levels.
BOXES = torch.tensor(
    [[3.0, 5.0, 40.0, 61.0], [10.5, 20.25, 31.0, 40.0], [0.0, 0.0, 159.0, 127.0], [60, 8, 119, 90]]
)


def close(found, expected):
    """Returns whether tensors are equal up to rounding, relative to the largest value."""
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


class Layers:
    """Applies layers with the parameters of a state dict."""

    def __init__(self, state):
        self.state = state

    def conv(self, x, name, stride=1, groups=1):
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        bias = self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)

    def deconv(self, x, name):
        return F.conv_transpose2d(
            x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride=2
        )

    def fc(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, x, name, eps):
        """Frozen batch normalization by its definition, in double precision."""
        weight, bias, mean, var = (
            self.state[f"{name}.{key}"].double()[:, None, None]
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        return ((x.double() - mean) / (var + eps).sqrt() * weight + bias).float()


def resnet_features(layers, image, prefix, stem, *, blocks, caffe, groups, eps):
    """Returns the outputs of the four stages of a bottleneck ResNet.

    Args:
        prefix, stem: name prefixes of the blocks' and the stem's parameters.
        caffe: whether the first 1 x 1 convolution has the stride, instead of the 3 x 3 one.
    """
    x = layers.norm(layers.conv(image, f"{stem}conv1", stride=2), f"{stem}bn1", eps)
    x = F.max_pool2d(x.relu(), 3, stride=2, padding=1)
    features = []
    for stage, num_blocks in enumerate(blocks, start=1):
        for number in range(num_blocks):
            name = f"{prefix}layer{stage}.{number}"
            stride = 2 if stage > 1 and number == 0 else 1
            first, second = (stride, 1) if caffe else (1, stride)
            y = layers.norm(layers.conv(x, f"{name}.conv1", first), f"{name}.bn1", eps).relu()
            y = layers.norm(layers.conv(y, f"{name}.conv2", second, groups), f"{name}.bn2", eps)
            y = layers.norm(layers.conv(y.relu(), f"{name}.conv3"), f"{name}.bn3", eps)
            if number == 0:
                x = layers.norm(
                    layers.conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1", eps
                )
            x = (x + y).relu()
        features.append(x)
    return features


def pyramid(layers, features, lateral, output):
    """Returns the five FPN levels; the layers of level i are ``lateral(i)`` and ``output(i)``."""
    merged = [layers.conv(features[3], lateral(3))]
    for i in (2, 1, 0):
        above = F.interpolate(merged[0], size=features[i].shape[-2:], mode="nearest")
        merged.insert(0, layers.conv(features[i], lateral(i)) + above)
    levels = [layers.conv(x, output(i)) for i, x in enumerate(merged)]
    return [*levels, F.max_pool2d(levels[-1], 1, stride=2)]


def pooled(levels, boxes, size, *, aligned, sampling_ratio, plus_one):
    """Returns the RoI features of the boxes of one image, each from the FPN level for its size.

    Args:
        plus_one: 1 if the side of a box is x1 - x0 + 1, else 0.
    """
    sides = boxes[:, 2:] - boxes[:, :2] + plus_one
    level = (4 + (sides.prod(dim=1).sqrt() / 224 + 1e-6).log2()).floor().clamp(2, 5)
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    features = torch.zeros(len(boxes), levels[0].shape[1], size, size)
    for i, stride in enumerate(STRIDES):
        chosen = level == i + 2
        features[chosen] = roi_align(
            levels[i], rois[chosen], size, 1 / stride, sampling_ratio, aligned
        )
    return features


def decode(anchors, deltas, weights, plus_one):
    """Applies deltas to anchors.

    Args:
        anchors: tensor of shape (N, 4).
        deltas: tensor of shape (N, 4).
        weights: the box regression weights.
        plus_one: 1 if the side of a box is x1 - x0 + 1, else 0.
    """
    dx, dy, dw, dh = (deltas / torch.tensor(weights)).unbind(1)
    width, height = (anchors[:, i + 2] - anchors[:, i] + plus_one for i in range(2))
    x, y = anchors[:, 0] + width / 2 + dx * width, anchors[:, 1] + height / 2 + dy * height
    width, height = width * dw.clamp(max=LARGEST).exp(), height * dh.clamp(max=LARGEST).exp()
    return torch.stack(
        [x - width / 2, y - height / 2, x + width / 2 - plus_one, y + height / 2 - plus_one], dim=1
    )


def maskiou(layers, features, masks, convs, fcs, output):
    """Returns the predicted MaskIoU of every class.

    Args:
        features: tensor of shape (N, channels, 14, 14).
        masks: probabilities, of shape (N, 28, 28).
        convs, fcs, output: names of the layers.
    """
    x = torch.cat([features, F.max_pool2d(masks[:, None], 2)], dim=1)
    for name in convs[:-1]:
        x = layers.conv(x, name).relu()
    x = layers.conv(x, convs[-1], stride=2).relu().flatten(1)
    for name in fcs:
        x = layers.fc(x, name).relu()
    return layers.fc(x, output)


def random_levels(channels, height, width):
    """Returns random features of five FPN levels for an image of this size."""
    generator = torch.Generator().manual_seed(2)
    sizes = [(height // stride, width // stride) for stride in (*STRIDES, 64)]
    return [torch.randn(1, channels, *size, generator=generator) for size in sizes]


def random_state(shapes, seed=0):
    """Returns random parameters that preserve the scale of activations from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("running_var"):
            value = torch.rand(shape, generator=generator) + 0.5
        elif name.endswith(("running_mean", "bias")):
            value = 0.1 * torch.randn(shape, generator=generator)
        elif name.endswith("num_batches_tracked"):
            value = torch.tensor(0)
        elif len(shape) == 1:  # scale of a normalization layer
            value = 0.5 * torch.rand(shape, generator=generator) + 0.5
        else:
            fan_in = torch.Size(shape[1:]).numel()
            value = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        state[name] = value
    return state


def resnet_shapes(prefix, stem, *, blocks, base=64, width=None, groups=1):
    """Returns the shapes of a bottleneck ResNet's parameters.

    Args:
        prefix, stem: name prefixes of the blocks' and the stem's parameters.
        base: output channels of the stem, a quarter of those of the first stage.
        width: channels inside a block of the first stage; the default is ``base``.
    """
    shapes = {}

    def conv_and_norm(conv, norm, *shape):
        shapes[f"{conv}.weight"] = shape
        for key in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{key}"] = shape[:1]

    conv_and_norm(f"{stem}conv1", f"{stem}bn1", base, 3, 7, 7)
    inputs = base
    for stage, num_blocks in enumerate(blocks, start=1):
        inner, outputs = ((n * 2 ** (stage - 1)) for n in (width or base, 4 * base))
        for number in range(num_blocks):
            name = f"{prefix}layer{stage}.{number}"
            conv_and_norm(f"{name}.conv1", f"{name}.bn1", inner, inputs, 1, 1)
            conv_and_norm(f"{name}.conv2", f"{name}.bn2", inner, inner // groups, 3, 3)
            conv_and_norm(f"{name}.conv3", f"{name}.bn3", outputs, inner, 1, 1)
            if number == 0:
                conv_and_norm(f"{name}.downsample.0", f"{name}.downsample.1", outputs, inputs, 1, 1)
            inputs = outputs
    return shapes


def weight_and_bias(name, *shape, transposed=False):
    """Returns the shapes of a layer's parameters."""
    return {f"{name}.weight": shape, f"{name}.bias": (shape[1] if transposed else shape[0],)}
