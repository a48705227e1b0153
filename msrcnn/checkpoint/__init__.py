"""Checkpoints: loading whatever a user has, and converters."""

from .checkpointer import MaskScoringCheckpointer
from .torchvision_weights import convert_torchvision_resnet

__all__ = ["MaskScoringCheckpointer", "convert_torchvision_resnet"]
