"""Loads torchvision's ImageNet weights into Detectron2's ResNets and into torchvision backbones.

These weights expect the images of :data:`~.expected_images.IMAGENET_RGB`, and in Detectron2's
ResNets ``MODEL.RESNETS.STRIDE_IN_1X1 False``, as torchvision has the stride in the 3 x 3
convolution.
"""

import re
from collections.abc import Collection

import torchvision
from detectron2.utils.file_io import PathHandler, PathManager
from torch import Tensor

from ..errors import UserError

# Prefix of torchvision's names in a model with build_torchvision_fpn_backbone.
BODY = "backbone.bottom_up.body."

_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(.+)")
_PARTS = (
    (re.compile(r"downsample\.0\."), "shortcut."),
    (re.compile(r"downsample\.1\."), "shortcut.norm."),
    (re.compile(r"bn(\d)\."), r"conv\1.norm."),
)


def is_torchvision_resnet(state_dict: dict) -> bool:
    """Returns whether a state dict is that of a torchvision ResNet on its own."""
    return "layer1.0.conv1.weight" in state_dict and "bn1.running_mean" in state_dict


def convert_torchvision_resnet(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames a torchvision ResNet's parameters to Detectron2's names.

    Args:
        state_dict: the state dict of ``torchvision.models.resnet18`` or another ResNet.

    Returns:
        The parameters of the backbone, without the classifier.
    """
    return {
        _detectron2_name(name): value
        for name, value in state_dict.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


def _detectron2_name(name: str) -> str:
    block = _BLOCK.fullmatch(name)
    prefix, rest = (f"res{int(block[1]) + 1}.{block[2]}", block[3]) if block else ("stem", name)
    for pattern, replacement in _PARTS:
        rest = pattern.sub(replacement, rest)
    return f"{prefix}.{rest}"


def has_torchvision_backbone(model_names: Collection[str]) -> bool:
    """Returns whether the names of a model's state dict are those with a torchvision backbone."""
    return any(name.startswith(BODY) for name in model_names)


def add_body_prefix(
    state_dict: dict[str, Tensor], model_names: Collection[str]
) -> dict[str, Tensor]:
    """Renames a torchvision model's parameters to those of a torchvision backbone.

    Args:
        state_dict: the state dict of a torchvision classification model. Any other is unchanged.
        model_names: all names of the state dict of the model to load into.

    Returns:
        The parameters. Those after the last layer of the backbone, such as the classifier's, keep
        their names.
    """
    body = [name.removeprefix(BODY) for name in model_names if name.startswith(BODY)]
    # In the modules before the last layer, parameters that the model lacks are of another backbone.
    # The last module can have more layers in the file: `features` ends with one for the classifier.
    # The order is that of the model, as a safetensors file has its own.
    before_last = {module for name in body for module in _modules(name)} - _modules(body[-1])
    return {
        BODY + name if BODY + name in model_names or _modules(name) & before_last else name: value
        for name, value in state_dict.items()
    }


def _modules(name: str) -> set[str]:
    """Returns the names of the modules that a parameter is in."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


class TorchvisionHandler(PathHandler):
    """Resolves paths such as ``torchvision://mobilenet_v2``, torchvision's weights for ImageNet.

    They are downloaded once.
    """

    PREFIX = "torchvision://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, **kwargs) -> str:
        try:
            weights = torchvision.models.get_model_weights(path[len(self.PREFIX) :]).IMAGENET1K_V1
        except ValueError as error:
            raise UserError(f"'{path}': torchvision has no model of this name") from error
        except AttributeError as error:
            raise UserError(f"'{path}': torchvision has no IMAGENET1K_V1 weights of it") from error
        return PathManager.get_local_path(weights.url, **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(TorchvisionHandler())
