"""Checkpoints of other libraries for Detectron2: one module a library, and what they share."""

from .conversion import SOURCES, convert_checkpoint, convert_weights

__all__ = ["SOURCES", "convert_checkpoint", "convert_weights"]
