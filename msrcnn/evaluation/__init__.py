"""Evaluation: COCO metrics of boxes and masks, masks under both rankings."""

from .coco_metrics import METRICS, coco_metrics
from .evaluator import (
    MaskScoringEvaluator,
    evaluate_and_write,
    evaluate_records,
    load_ground_truth,
)
from .records import instances_to_records, load_records

__all__ = [
    "METRICS",
    "MaskScoringEvaluator",
    "coco_metrics",
    "evaluate_and_write",
    "evaluate_records",
    "instances_to_records",
    "load_ground_truth",
    "load_records",
]
