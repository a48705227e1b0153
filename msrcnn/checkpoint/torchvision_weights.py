"""Converts torchvision's ImageNet ResNets; Detectron2's model zoo has no ResNet-18 or 34.

These weights expect normalized RGB images, and have the stride in the 3 x 3 convolution. Use them
with ``INPUT.FORMAT "RGB"``, ``MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]``, ``MODEL.PIXEL_STD
[58.395, 57.12, 57.375]``, ``MODEL.RESNETS.STRIDE_IN_1X1 False``.
"""

import re

import torchvision
from detectron2.utils.file_io import PathHandler, PathManager
from torch import Tensor

from ..errors import UserError

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


class TorchvisionHandler(PathHandler):
    """Resolves paths such as ``torchvision://resnet18``, torchvision's weights for ImageNet.

    They are downloaded once.
    """

    PREFIX = "torchvision://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, **kwargs) -> str:
        try:
            weights = torchvision.models.get_model_weights(path[len(self.PREFIX) :])
        except ValueError as error:
            raise UserError(f"'{path}': torchvision has no model of this name") from error
        return PathManager.get_local_path(weights.IMAGENET1K_V1.url, **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(TorchvisionHandler())
