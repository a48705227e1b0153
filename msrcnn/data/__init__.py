"""Data: the made dataset, COCO-format files, the training mapper."""

from .datasets import register_datasets
from .mapper import MaskScoringDatasetMapper
from .train_loader import TrainLoader

__all__ = ["MaskScoringDatasetMapper", "TrainLoader", "register_datasets"]

register_datasets()
