"""Builds evaluators from a config."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode

from ..checkpoint.checkpoint_files import FINAL_WEIGHTS
from ..data.custom import custom_annotations
from ..evaluation import EvaluationSettings, MaskScoringEvaluator
from ..modeling.maskiou_head import has_training
from ..provenance import file_record
from .main_settings import main_settings
from .publish import publish_evaluation, training_storage


def evaluation_settings(cfg: CfgNode) -> EvaluationSettings:
    """Returns the settings of a config's evaluations."""
    return EvaluationSettings(
        max_dets=cfg.TEST.DETECTIONS_PER_IMAGE,
        engine=cfg.TEST.COCO_ENGINE,
        bootstrap=cfg.TEST.BOOTSTRAP,
        confidence_exponent=cfg.TEST.CONFIDENCE_EXPONENT,
    )


def build_evaluator(cfg: CfgNode, dataset_name: str) -> MaskScoringEvaluator:
    """Builds the evaluator of a dataset; with several datasets, each has its own folder."""
    settings = evaluation_settings(cfg)
    if _is_periodic(cfg):  # an interval is slow, and only the final result needs it
        settings = replace(settings, bootstrap=0)
    return MaskScoringEvaluator(
        dataset_name,
        str(Path(cfg.OUTPUT_DIR) / output_folder(dataset_name, cfg.DATASETS.TEST)),
        settings,
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        class_names=cfg.DATASETS.CLASS_NAMES,
        false_positives=_false_positives(cfg),
        provenance=_provenance(cfg),
        report=partial(publish_evaluation, dataset_name=dataset_name),
    )


def output_folder(dataset_name: str, dataset_names: Sequence[str]) -> str:
    """Returns the folder of a dataset's evaluation within the output folder; empty if it is alone.

    Its name is that of the dataset, or of the annotation file if it is custom data, numbered if
    there are several of the same name.
    """
    if len(dataset_names) == 1:
        return ""
    files = {each: custom_annotations(each) for each in dataset_names}
    names = {each: file.stem if file else each for each, file in files.items()}
    same = [each for each, name in names.items() if name == names[dataset_name]]
    number = f"-{same.index(dataset_name) + 1}" if len(same) > 1 else ""
    return f"{names[dataset_name]}{number}"


def _provenance(cfg: CfgNode) -> dict:
    """Returns weights, seed and settings of the model; in a training, also the iteration."""
    storage, weights = training_storage(), cfg.MODEL.WEIGHTS
    if storage is not None:  # only the final weights are in a file
        weights = "" if _is_periodic(cfg) else Path(cfg.OUTPUT_DIR) / FINAL_WEIGHTS
    return {
        "weights": file_record(weights),
        "iteration": None if storage is None else storage.iter,
        "seed": cfg.SEED,
        "config": main_settings(cfg),
    }


def _is_periodic(cfg: CfgNode) -> bool:
    """Whether this is an evaluation within a training (``TEST.EVAL_PERIOD``), not at its end."""
    storage = training_storage()
    return storage is not None and storage.iter + 1 < cfg.SOLVER.MAX_ITER


def _false_positives(cfg: CfgNode) -> str | None:
    """Returns ``FALSE_POSITIVES`` if it tells what a model's MaskIoU head was trained to predict.

    It does not for a head without training, nor for the target ``all_classes``: the outputs of
    wrong classes are then trained towards 0, but no proposals without an instance are.
    """
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    if not cfg.MODEL.MASKIOU_ON or head.TARGET == "all_classes":
        return None
    return head.FALSE_POSITIVES if has_training(head.NAME) else None
