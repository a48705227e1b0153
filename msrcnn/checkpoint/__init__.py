"""Checkpoints: loading whatever a user has, as data alone; converters."""

from .checkpointer import MaskScoringCheckpointer
from .safe_load import load_checkpoint_file
from .torchvision_weights import convert_torchvision_resnet

__all__ = ["MaskScoringCheckpointer", "convert_torchvision_resnet", "load_checkpoint_file"]
