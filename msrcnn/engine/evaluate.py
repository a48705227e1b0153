"""Evaluates a model's weights, or saved predictions, with the settings of a config."""

import json
import logging
from collections import OrderedDict
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from pycocotools.coco import COCO

from ..atomic_file import write_file
from ..checkpoint.checkpoint_files import load_latest
from ..config_by_key import changed
from ..errors import UserError
from ..evaluation import (
    Detections,
    compare_detections,
    comparison_table,
    evaluate_and_write,
    load_ground_truth,
    load_predictions,
    write_results,
)
from ..evaluation.ground_truth import dataset_record, has_annotations
from ..evaluation.result_files import DETECTIONS, made_by
from ..provenance import file_record
from .evaluators import evaluation_settings
from .load_model import load_model
from .publish import publish_evaluation
from .trainer import Trainer

logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, resume: bool = False, *, trust_weights: bool = False) -> OrderedDict:
    """Evaluates the weights of a config on its test datasets.

    Args:
        cfg: a config from :func:`~.start.start_run`.
        resume: use the last checkpoint of the output folder instead of ``MODEL.WEIGHTS``.
        trust_weights: load weights that are not plain data, and run the code in them.

    Returns:
        The metrics that :class:`MaskScoringEvaluator` returns, by dataset if there are several.

    Raises:
        UserError: if there is no dataset to evaluate on, or the weights cannot be loaded or do not
            fit the model.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: give --val-data, or name a dataset to evaluate on")
    model = load_model(cfg, resume=resume, trust_weights=trust_weights)
    if resume and (found := load_latest(Path(cfg.OUTPUT_DIR), str)):  # what was loaded
        cfg = changed(cfg, {"MODEL.WEIGHTS": found})
    results = Trainer.test(cfg, model)
    if cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
        verify_results(cfg, results)  # exits with status 1 if they differ
    return results


def evaluate_predictions(cfg: CfgNode, paths: list[str]) -> OrderedDict:
    """Evaluates saved predictions without a model, or compares several files.

    Args:
        cfg: config with the dataset, the output folder and the settings of the evaluation.
        paths: files for :func:`msrcnn.evaluation.load_predictions`. For one file, writes
            everything that an evaluation writes; for several, ``comparison.json``.

    Returns:
        For one file, the metrics as :class:`MaskScoringEvaluator` returns them.

    Raises:
        UserError: if a file is malformed or of another dataset, or the config names several
            datasets.
    """
    if len(cfg.DATASETS.TEST) != 1:
        raise UserError(
            f"--predictions belong to one dataset; DATASETS.TEST names {len(cfg.DATASETS.TEST)}"
        )
    if not comm.is_main_process():
        return OrderedDict()
    dataset_name, output_dir = cfg.DATASETS.TEST[0], Path(cfg.OUTPUT_DIR)
    ground_truth = load_ground_truth(dataset_name)
    files = {path: load_predictions(Path(path), ground_truth) for path in paths}
    provenance = {
        "dataset": dataset_record(dataset_name),
        "predictions": [file_record(path) for path in paths],
    }
    if len(files) > 1 and not has_annotations(ground_truth):
        raise UserError(f"dataset '{dataset_name}' has no annotations to compare predictions with")
    if len(files) > 1:
        _compare(cfg, ground_truth, files, output_dir / "comparison.json", provenance)
        return OrderedDict()
    (detections,) = files.values()
    write_results(detections, output_dir / DETECTIONS)
    return evaluate_and_write(
        ground_truth,
        detections,
        output_dir,
        evaluation_settings(cfg),
        provenance=provenance,
        report=partial(publish_evaluation, dataset_name=dataset_name),
    )


def _compare(
    cfg: CfgNode, ground_truth: COCO, files: dict[str, Detections], output: Path, provenance: dict
) -> None:
    settings = evaluation_settings(cfg)
    comparison = compare_detections(ground_truth, files, settings)
    comparison["provenance"] = made_by(settings, provenance)
    write_file(output, json.dumps(comparison, indent=2) + "\n")
    logger.info("Results in %s\n%s", output, comparison_table(comparison))
