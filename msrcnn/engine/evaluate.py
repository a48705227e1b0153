"""Evaluation as a config asks for it: of a model's output, and of saved predictions."""

import json
import logging
from collections import OrderedDict
from functools import partial
from pathlib import Path

from detectron2.utils import comm

from ..atomic_file import write_file
from ..errors import UserError
from ..evaluation import (
    Detections,
    MaskScoringEvaluator,
    compare_detections,
    comparison_table,
    evaluate_and_write,
    load_ground_truth,
    load_predictions,
    write_results,
)
from ..evaluation.ground_truth import has_annotations
from .publish import report_evaluation

logger = logging.getLogger(__name__)


def evaluation_settings(cfg) -> dict:
    """The arguments of :func:`msrcnn.evaluation.evaluate_detections` that a config holds."""
    return {
        "max_dets": cfg.TEST.DETECTIONS_PER_IMAGE,
        "engine": cfg.TEST.COCO_ENGINE,
        "bootstrap": cfg.TEST.BOOTSTRAP,
    }


def build_evaluator(cfg, dataset_name: str) -> MaskScoringEvaluator:
    """The evaluator of one dataset; where there are several, each has a folder."""
    output_dir = Path(cfg.OUTPUT_DIR)
    if len(cfg.DATASETS.TEST) > 1:
        output_dir = output_dir / dataset_name
    return MaskScoringEvaluator(
        dataset_name,
        str(output_dir),
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        report=partial(report_evaluation, dataset_name=dataset_name),
        **evaluation_settings(cfg),
    )


def evaluate_predictions(cfg, paths: list[str]) -> OrderedDict:
    """Evaluate saved predictions, without a model; several files are compared.

    Args:
        cfg: names the dataset, the output folder and the settings of the evaluation.
        paths: files that :func:`msrcnn.evaluation.load_predictions` reads. Of one, everything is
            written that an evaluation writes; of several, ``comparison.json``.

    Returns:
        Of one file the metrics, as :class:`MaskScoringEvaluator` returns them.

    Raises:
        UserError: if a file is not of that kind or of another dataset, or the config names
            several datasets.
    """
    if len(cfg.DATASETS.TEST) != 1:
        raise UserError(
            f"--predictions are of one dataset; DATASETS.TEST names {len(cfg.DATASETS.TEST)}"
        )
    if not comm.is_main_process():
        return OrderedDict()
    dataset_name, output_dir = cfg.DATASETS.TEST[0], Path(cfg.OUTPUT_DIR)
    ground_truth = load_ground_truth(dataset_name)
    files = {path: load_predictions(Path(path)) for path in paths}
    if len(files) > 1 and not has_annotations(ground_truth):
        raise UserError(f"dataset '{dataset_name}' has no annotations to compare predictions with")
    if len(files) > 1:
        _compare(cfg, ground_truth, files, output_dir / "comparison.json")
        return OrderedDict()
    (detections,) = files.values()
    write_results(detections, output_dir / "inference")
    return evaluate_and_write(
        ground_truth,
        detections,
        output_dir,
        report=partial(report_evaluation, dataset_name=dataset_name),
        **evaluation_settings(cfg),
    )


def _compare(cfg, ground_truth, files: dict[str, Detections], output: Path) -> None:
    comparison = compare_detections(ground_truth, files, **evaluation_settings(cfg))
    write_file(output, json.dumps(comparison, indent=2) + "\n")
    logger.info("Results in %s\n%s", output, comparison_table(comparison))
