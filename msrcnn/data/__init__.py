"""Datasets, checks of COCO-format files, the training mapper and the training data loader."""

from .datasets import register_datasets
from .mapper import MaskScoringDatasetMapper
from .train_loader import TrainLoader

__all__ = ["MaskScoringDatasetMapper", "TrainLoader", "register_datasets"]

register_datasets()
