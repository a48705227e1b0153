"""Data: the made dataset, COCO-format files, the training mapper."""

from .datasets import register_shapes
from .mapper import MaskScoringDatasetMapper

__all__ = ["MaskScoringDatasetMapper", "register_shapes"]

register_shapes()
