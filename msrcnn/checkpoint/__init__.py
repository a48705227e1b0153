"""Loads, saves and converts checkpoints; files are read as data, without running code in them."""

from .checkpointer import MaskScoringCheckpointer
from .safe_load import load_checkpoint_file, load_class_names
from .torchvision_weights import convert_torchvision_resnet
from .weights_names import resolve_weights
from .write_weights import write_weights

__all__ = [
    "MaskScoringCheckpointer",
    "convert_torchvision_resnet",
    "load_checkpoint_file",
    "load_class_names",
    "resolve_weights",
    "write_weights",
]
