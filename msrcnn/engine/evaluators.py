"""Builds evaluators from a config."""

from functools import partial
from pathlib import Path

from ..evaluation import MaskScoringEvaluator
from .publish import publish_evaluation


def evaluation_settings(cfg) -> dict:
    """Returns the arguments of ``evaluate_detections`` that a config sets."""
    return {
        "max_dets": cfg.TEST.DETECTIONS_PER_IMAGE,
        "engine": cfg.TEST.COCO_ENGINE,
        "bootstrap": cfg.TEST.BOOTSTRAP,
        "confidence_exponent": cfg.TEST.CONFIDENCE_EXPONENT,
    }


def build_evaluator(cfg, dataset_name: str) -> MaskScoringEvaluator:
    """Builds the evaluator of a dataset; with several datasets, each has its own folder."""
    output_dir = Path(cfg.OUTPUT_DIR)
    if len(cfg.DATASETS.TEST) > 1:
        output_dir = output_dir / dataset_name
    return MaskScoringEvaluator(
        dataset_name,
        str(output_dir),
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        report=partial(publish_evaluation, dataset_name=dataset_name),
        **evaluation_settings(cfg),
    )
