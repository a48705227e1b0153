"""Data: the made dataset, COCO-format files, the training mapper."""

from .datasets import register_shapes
from .mapper import MaskScoringDatasetMapper
from .train_loader import TrainLoader

__all__ = ["MaskScoringDatasetMapper", "TrainLoader", "register_shapes"]

register_shapes()
