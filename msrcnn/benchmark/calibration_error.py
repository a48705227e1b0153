"""Calibration of a fitted model on validation data: do scores equal the share of correct masks?"""

import argparse
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ..engine import prepare_config
from ..errors import UserError
from ..evaluation.ground_truth import load_ground_truth
from ..evaluation.predictions_file import load_predictions
from ..modeling.mask_score import mask_probability
from ..provenance import file_record
from ..scores.calibration import calibration_error, right_masks

LIMIT = 0.5  # the threshold that people try first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    parser.add_argument(
        "--config-file", required=True, metavar="F", help="model_fitted.yaml of a fit"
    )
    parser.add_argument(
        "--predictions",
        required=True,
        type=Path,
        metavar="P.npz",
        help="its validation predictions",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="override config keys")


def measure(args: argparse.Namespace) -> dict:
    """Compares box score, mask score and calibrated mask score with the share of correct masks.

    Returns:
        ``dataset``, ``calibration``, ``predictions``, numbers of ``masks`` and ``right`` masks, and
        for each score ``calibration_error``, and ``shown`` masks with at least 0.5, ``shown_right``
        of which are right.

    Raises:
        UserError: if the model has no calibration, the config no dataset, or the predictions no
            mask scores.
    """
    cfg = prepare_config(args.config_file, args.opts, splits=("TEST",))
    calibration = cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION
    if not calibration:
        raise UserError(
            f"'{args.config_file}' has no MODEL.ROI_MASKIOU_HEAD.CALIBRATION: fit again"
        )
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: give the dataset of the predictions")
    ground_truth = load_ground_truth(cfg.DATASETS.TEST[0])
    found = load_predictions(args.predictions, ground_truth)
    if found.mask_score is None or found.segmentation is None:
        raise UserError(f"'{args.predictions}' has no masks with mask scores")
    right = right_masks(ground_truth, found, found.mask_score)
    scores = {
        "box score": found.score,
        "mask score": found.mask_score,
        "calibrated mask score": mask_probability(found.mask_score, *calibration),
    }
    return {
        "dataset": cfg.DATASETS.TEST[0],
        "calibration": list(calibration),
        "predictions": file_record(args.predictions),
        "masks": int((~np.isnan(right)).sum()),
        "right": int(np.nansum(right)),
        "scores": {name: _measured(score, right) for name, score in scores.items()},
    }


def _measured(score: np.ndarray, right: np.ndarray) -> dict:
    shown = (score >= LIMIT) & ~np.isnan(right)
    return {
        "calibration_error": calibration_error(score, right),
        "shown": int(shown.sum()),
        "shown_right": int(right[shown].sum()),
    }


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    rows = []
    for name, each in result["scores"].items():
        share = f"{each['shown_right'] / each['shown']:.0%}" if each["shown"] else "-"
        found = f"{each['shown_right'] / max(result['right'], 1):.0%}"
        rows.append((name, f"{each['calibration_error']:.3f}", each["shown"], share, found))
    headers = ("score", "calibration error", f"masks with at least {LIMIT}")
    return tabulate(
        rows,
        (*headers, "of these, right", "of all right masks"),
        tablefmt="pipe",
        disable_numparse=True,
    )
