"""Converts checkpoints of other libraries to Detectron2, with one module per library."""

from .conversion import SOURCES, convert_checkpoint, convert_weights

__all__ = ["SOURCES", "convert_checkpoint", "convert_weights"]
