"""torchvision's classification models (MobileNet, EfficientNet, ConvNeXt, Swin, ...) as backbones.

A model is reduced to the layers that its last features of stride 4, 8, 16 and 32 depend on.
Parameters keep torchvision's names, after ``backbone.bottom_up.body.``, so torchvision's weights
load unchanged. They expect normalized RGB images: use ``INPUT.FORMAT "RGB"``, ``MODEL.PIXEL_MEAN
[123.675, 116.28, 103.53]`` and ``MODEL.PIXEL_STD [58.395, 57.12, 57.375]``.
"""

import difflib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from torch import nn
from torch.func import functional_call
from torchvision.models.feature_extraction import create_feature_extractor

from .fpn import build_fpn

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}  # by feature name
NORMS = ("FrozenBN", "BN")
# Height and width of the dry run. They tell (N, C, H, W) from (N, H, W, C): at no stride is the
# width equal to the height at another one.
DRY_RUN_SIZE = (224, 256)


class Block(NamedTuple):
    """A part of a torchvision model that returns a feature map."""

    name: str
    stride: int
    channels: int
    channels_last: bool
    mixes_pixels: bool  # False for e.g. norms, pooling, and a head of 1 x 1 convolutions


def find_blocks(model: nn.Module) -> list[Block]:
    """Returns the blocks of a classification model whose stride is a power of 2 up to 32.

    They are the model's children and, in place of an ``nn.Sequential``, the children of that. Their
    outputs are found by a dry run without data, on the meta device.

    Args:
        model: a torchvision classification model; unchanged.

    Returns:
        The blocks in the order in which they run.

    Raises:
        AssertionError, RuntimeError: if the model does not accept images of every size.
    """
    blocks: dict[str, Block] = {}

    def record(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if not isinstance(output, torch.Tensor) or output.dim() != 4:
            return
        for stride in (2, *STRIDES.values()):
            size = tuple(side // stride for side in DRY_RUN_SIZE)
            if size in (output.shape[2:], output.shape[1:3]):
                last = size != output.shape[2:]
                channels = output.shape[3 if last else 1]
                blocks[name] = Block(name, stride, channels, last, _mixes_pixels(module))

    hooks = [module.register_forward_hook(partial(record, name)) for name, module in _parts(model)]
    training = model.training
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors = {name: tensor.to("meta") for name, tensor in tensors.items()}
    try:
        with torch.no_grad():
            functional_call(model.eval(), tensors, torch.empty(1, 3, *DRY_RUN_SIZE, device="meta"))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return list(blocks.values())


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if type(child) is nn.Sequential:  # subclasses are blocks
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _mixes_pixels(module: nn.Module) -> bool:
    """Returns whether a module has a convolution larger than 1 x 1, or attention."""
    return any(
        isinstance(layer, nn.Linear)
        or (isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1)
        for layer in module.modules()
    )


class TorchvisionBackbone(Backbone):
    """The features of a torchvision classification model, as the bottom-up network of an FPN."""

    def __init__(
        self,
        name: str,
        *,
        out_features: Sequence[str] = tuple(STRIDES),
        norm: str = "FrozenBN",
        freeze_at: int = 0,
    ):
        """
        Args:
            name: the model, one of ``torchvision.models.list_models(module=torchvision.models)``
                with features of stride 4, 8, 16 and 32. Weights are random.
            out_features: the features to return, of ``"res2"`` (stride 4) to ``"res5"`` (stride
                32). Each is the output of the model's last block of this stride.
            norm: ``"FrozenBN"`` to freeze the statistics and parameters of all batch norms, or
                ``"BN"`` to train them. Other norms are always trained.
            freeze_at: if at least 1, freeze all blocks up to stride ``2 ** freeze_at``. This is
                Detectron2's numbering of a ResNet's stages: 1 freezes its stem, 2 also res2.

        Raises:
            ValueError: if an argument is unknown, or the model does not have such features.
        """
        super().__init__()
        _check_choice("MODEL.TORCHVISION.NORM", norm, NORMS)
        for feature in out_features:
            _check_choice("MODEL.FPN.IN_FEATURES", feature, STRIDES)
        model = _build_model(name)
        blocks = _checked_blocks(name, model)
        features = {
            feature: [b for b in blocks if b.mixes_pixels and b.stride == STRIDES[feature]][-1]
            for feature in STRIDES
            if feature in out_features
        }
        self.body = create_feature_extractor(
            model,
            {block.name: feature for feature, block in features.items()},
            suppress_diff_warning=True,  # about layers of the classifier
        )
        self._channels_last = {f for f, block in features.items() if block.channels_last}
        self._out_features = list(features)
        self._out_feature_strides = {f: block.stride for f, block in features.items()}
        self._out_feature_channels = {f: block.channels for f, block in features.items()}

        if freeze_at:
            for block in blocks:
                if block.stride <= 2**freeze_at:
                    _freeze(self.body, block.name)
        if norm == "FrozenBN":
            FrozenBatchNorm2d.convert_frozen_batchnorm(self.body)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            x: tensor of shape (N, 3, H, W), with H and W multiples of 32.

        Returns:
            Tensors of shape (N, channels, H / stride, W / stride), by feature name.
        """
        return {
            feature: x.permute(0, 3, 1, 2) if feature in self._channels_last else x
            for feature, x in self.body(x).items()
        }


def _check_choice(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key} '{value}' is unknown; allowed: {', '.join(allowed)}")


def _build_model(name: str) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, cutoff=0.5) or known
        raise ValueError(
            f"MODEL.TORCHVISION.NAME is '{name}', which is not a classification model of "
            f"torchvision; did you mean: {', '.join(near)}?"
        )
    return torchvision.models.get_model(name, weights=None)


def _checked_blocks(name: str, model: nn.Module) -> list[Block]:
    """Returns the blocks of a model, and checks that FPN can use it."""
    try:
        blocks = find_blocks(model)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(_unsuitable(name, "it does not accept images of every size")) from error
    found = {block.stride for block in blocks if block.mixes_pixels}
    missing = [str(stride) for stride in STRIDES.values() if stride not in found]
    if missing:
        raise ValueError(_unsuitable(name, f"it has no features of stride {', '.join(missing)}"))
    return blocks


def _unsuitable(name: str, reason: str) -> str:
    return (
        f"MODEL.TORCHVISION.NAME '{name}' cannot be the backbone of an FPN: {reason}; allowed are "
        "models with features of stride 4, 8, 16 and 32: ResNet, ResNeXt, MobileNetV2 and V3, "
        "EfficientNet, ConvNeXt, Swin, RegNet, MNASNet, DenseNet, GoogLeNet"
    )


def _freeze(body: nn.Module, name: str) -> None:
    parent, _, child = name.rpartition(".")
    try:
        module = body.get_submodule(name)
    except AttributeError:  # not needed for the features
        return
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    module = FrozenBatchNorm2d.convert_frozen_batchnorm(module)
    setattr(body.get_submodule(parent), child, module)


@BACKBONE_REGISTRY.register()
def build_torchvision_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Builds an FPN (p2 to p6) on the torchvision model ``MODEL.TORCHVISION.NAME``.

    It uses ``MODEL.TORCHVISION``, ``MODEL.FPN`` and ``MODEL.BACKBONE.FREEZE_AT``, see
    :class:`TorchvisionBackbone`.

    Raises:
        ValueError: if the model is unknown or does not have features of stride 4, 8, 16 and 32, or
            images do not have three channels.
    """
    if input_shape.channels != 3:
        raise ValueError(
            f"MODEL.PIXEL_MEAN has {input_shape.channels} channels; the torchvision models of "
            "MODEL.TORCHVISION.NAME need 3"
        )
    bottom_up = TorchvisionBackbone(
        cfg.MODEL.TORCHVISION.NAME,
        out_features=cfg.MODEL.FPN.IN_FEATURES,
        norm=cfg.MODEL.TORCHVISION.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return build_fpn(cfg, bottom_up)
