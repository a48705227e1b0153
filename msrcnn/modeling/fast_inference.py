"""Faster inference with the same weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from detectron2.layers import Conv2d
from detectron2.modeling import ROIHeads
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .batch_norms import has_plain_weight, normalized_convolutions
from .class_masks import predict_class_masks
from .number_format import compute_in


@contextmanager
def fast_inference(model: nn.Module, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Speeds up inference while the context is open, see :func:`speed_up`.

    Afterwards the model is as before: it has the same parameters and buffers, not copies.
    """
    undo = speed_up(model, dtype)
    try:
        yield
    finally:
        undo()


def speed_up(model: nn.Module, dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Speeds up a model in place, for inference only.

    Every batch norm that follows a convolution becomes part of it, with its present running
    statistics: in Detectron2's ``Conv2d``, in an ``nn.Sequential``, and in the graphs of
    torchvision's backbones. A ReLU overwrites the output of its convolution, and mask heads compute
    the masks of the detected classes only. On a CPU, convolutions change to the channels-last
    format. The outputs change only by rounding to ``dtype``.

    Args:
        model: a model with float32 parameters.
        dtype: number format of the model's parts, see :func:`~.number_format.compute_in`.

    Returns:
        A function that restores the parameters and layers.
    """
    replaced: list[tuple[nn.Module, str, object]] = []

    def replace(module: nn.Module, name: str, value: object) -> None:
        replaced.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    with torch.no_grad():
        pairs = {found[0]: found for found in normalized_convolutions(model)}
        for conv, owner, name in pairs.values():
            norm = getattr(owner, name)
            weight, bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            replace(conv, "weight", nn.Parameter(weight, requires_grad=False))
            replace(conv, "bias", nn.Parameter(bias, requires_grad=False))
            replace(owner, name, None if owner is conv else nn.Identity())
        for layer in _rectified_convolutions(model):
            is_module = isinstance(layer.activation, nn.Module)
            replace(layer, "activation", nn.ReLU(inplace=True) if is_module else F.relu_)
        for layer in _channels_last_convolutions(model):
            weight = layer.weight.contiguous(memory_format=torch.channels_last)
            replace(layer, "weight", nn.Parameter(weight, requires_grad=False))
    hooks = predict_class_masks(model, replace)
    hooks += [
        module.register_forward_pre_hook(_with_contiguous_features)
        for module in model.modules()
        if isinstance(module, ROIHeads)
    ]
    restore_methods = compute_in(model, dtype)

    def undo() -> None:
        restore_methods()
        while replaced:
            setattr(*replaced.pop())
        for hook in hooks:
            hook.remove()

    return undo


def _with_contiguous_features(module: nn.Module, inputs: tuple) -> tuple:
    """Converts features for RoIAlign once: it would do so for each head that pools from them."""
    if len(inputs) < 2 or not isinstance(inputs[1], dict):  # a class with another interface
        return inputs
    images, features, *others = inputs
    return (images, {name: each.contiguous() for name, each in features.items()}, *others)


def _rectified_convolutions(model: nn.Module) -> Iterator[Conv2d]:
    """Yields the convolutions with a ReLU, which may overwrite their output."""
    for layer in model.modules():
        activation = layer.activation if type(layer) is Conv2d else None
        if activation in (F.relu, torch.relu) or type(activation) is nn.ReLU:
            yield layer


def _channels_last_convolutions(model: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    """Yields the convolutions that are faster in the channels-last format.

    Group normalization of small maps, as in RoI heads, is slower in that format.
    """
    excluded = {
        layer
        for heads in model.modules()
        if isinstance(heads, ROIHeads)
        if any(isinstance(layer, nn.GroupNorm) for layer in heads.modules())
        for layer in heads.modules()
    }
    for layer in model.modules():
        is_convolution = has_plain_weight(layer, Conv2d, nn.Conv2d, nn.ConvTranspose2d)
        if is_convolution and layer not in excluded and layer.weight.is_cpu:
            yield layer
