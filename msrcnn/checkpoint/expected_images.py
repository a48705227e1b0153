"""The images that the weights of a backbone expect."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class ExpectedImages:
    """The images that a backbone expects: channel order, mean and standard deviation."""

    channels: str  # "BGR" or "RGB"
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def is_given_by(self, model: nn.Module) -> bool:
        """Returns whether a model has these images; also if it is not a detector of Detectron2."""
        if not hasattr(model, "pixel_mean"):
            return True
        expected = torch.tensor([self.mean, self.std])
        found = torch.stack([model.pixel_mean.flatten(), model.pixel_std.flatten()])
        return model.input_format == self.channels and torch.allclose(found.cpu(), expected, atol=1)

    def __str__(self) -> str:
        """The keys that set these images."""
        return (
            f"INPUT.FORMAT {self.channels}, MODEL.PIXEL_MEAN {list(self.mean)} and "
            f"MODEL.PIXEL_STD {list(self.std)}"
        )


IMAGENET_RGB = ExpectedImages("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
