"""COCO evaluation of boxes, and of masks under several rankings."""

from .bootstrap import ap_interval, too_few_images
from .coco_evaluator import MaskScoringEvaluator
from .coco_metrics import ENGINES, IOU_THRESHOLDS, METRICS, AveragePrecision
from .comparison import compare_detections, comparison_table
from .detections import Detections
from .ground_truth import load_ground_truth
from .inference import postprocess_to_rle, with_encoded_masks
from .intervals import student_interval
from .predictions_file import load_predictions, save_predictions
from .rankings import AP_LABELS, ORACLES, RANKINGS, Evaluation, evaluate_detections, metrics_table
from .result_files import PER_CLASS, evaluate_and_write, write_results
from .settings import EvaluationSettings

__all__ = [
    "AP_LABELS",
    "ENGINES",
    "IOU_THRESHOLDS",
    "METRICS",
    "ORACLES",
    "PER_CLASS",
    "RANKINGS",
    "AveragePrecision",
    "Detections",
    "Evaluation",
    "EvaluationSettings",
    "MaskScoringEvaluator",
    "ap_interval",
    "compare_detections",
    "comparison_table",
    "evaluate_and_write",
    "evaluate_detections",
    "load_ground_truth",
    "load_predictions",
    "metrics_table",
    "postprocess_to_rle",
    "save_predictions",
    "student_interval",
    "too_few_images",
    "with_encoded_masks",
    "write_results",
]
