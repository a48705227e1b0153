"""torchvision's ImageNet ResNets for Detectron2: its model zoo has no ResNet-18 or 34.

They expect RGB images in [0, 1], normalised, and have the stride in the 3 x 3 convolution:
``INPUT.FORMAT "RGB"``, ``MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]``, ``MODEL.PIXEL_STD
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
    """Whether a state dict is of a bare torchvision ResNet."""
    return "layer1.0.conv1.weight" in state_dict and "bn1.running_mean" in state_dict


def convert_torchvision_resnet(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a torchvision ResNet's parameters as Detectron2 names them.

    Args:
        state_dict: of ``torchvision.models.resnet18``, 34, 50, 101 or the like.

    Returns:
        The backbone's parameters; the classifier is left out.
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
    """``torchvision://resnet18``: torchvision's ImageNet weights of that model, downloaded once."""

    PREFIX = "torchvision://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, **kwargs) -> str:
        try:
            weights = torchvision.models.get_model_weights(path[len(self.PREFIX) :])
        except ValueError as error:
            raise UserError(f"'{path}': torchvision has no such model") from error
        return PathManager.get_local_path(weights.IMAGENET1K_V1.url, **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(TorchvisionHandler())
