"""The files that an evaluation writes: metrics, and detections in COCO result format."""

import csv
import io
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import orjson
from pycocotools.coco import COCO

from ..atomic_file import write_file
from ..escaping import for_csv
from ..provenance import command, software
from .agreement import agreement_table
from .bootstrap import interval_text, too_few_images
from .coco_metrics import METRICS
from .detections import Detections
from .garbage import no_garbage_collection
from .ground_truth import has_annotations, instances_by_category
from .rankings import AP_LABELS, Evaluation, add_interval, evaluate_detections, metrics_table
from .settings import DEFAULT_SETTINGS, EvaluationSettings

logger = logging.getLogger(__name__)

EVALUATION = "evaluation.json"
PER_CLASS = "per_class.csv"
DETECTIONS = "inference"  # folder of the detections
PREDICTIONS = f"{DETECTIONS}/predictions.npz"
CHUNK_SIZE = 10_000  # detections converted to JSON at a time


def made_by(settings: EvaluationSettings, inputs: dict) -> dict:
    """Returns what made a result: software, command, inputs and settings."""
    return {"software": software(), "command": command(), **inputs, **asdict(settings)}


@no_garbage_collection()
def write_results(detections: Detections, folder: Path) -> None:
    """Writes detections as COCO result files, which the COCO test server accepts.

    Args:
        detections: masks are scored by mask score if available, else by box score.
        folder: created if missing. Receives ``coco_results_bbox.json`` and, for detections with
            masks, ``coco_results_segm.json``.
    """
    scores = {"bbox": detections.score}
    if detections.segmentation is not None:
        mask_score = detections.mask_score
        scores["segm"] = detections.score if mask_score is None else mask_score
    for task, ranking in scores.items():
        write_file(folder / f"coco_results_{task}.json", _result_parts(detections, task, ranking))


def _result_parts(detections: Detections, task: str, scores: np.ndarray) -> Iterator[bytes]:
    """Yields the JSON of result records: as Python objects, all would need far more memory."""
    yield b"["
    for start in range(0, len(detections), CHUNK_SIZE):
        rows = np.arange(start, min(start + CHUNK_SIZE, len(detections)))
        records = detections.results(task, scores, rows)
        yield (b",\n" if start else b"") + orjson.dumps(records)[1:-1]
    yield b"]"


def evaluate_and_write(
    ground_truth: COCO,
    detections: Detections,
    output_dir: Path,
    settings: EvaluationSettings = DEFAULT_SETTINGS,
    *,
    seconds: dict[str, float] | None = None,
    provenance: dict | None = None,
    report: Callable[[Evaluation, Path], None] | None = None,
    false_positives: str | None = None,
) -> OrderedDict:
    """Evaluates detections, logs tables and writes ``evaluation.json`` and ``per_class.csv``.

    Args:
        ground_truth: the dataset. If it has no annotations (a test set), nothing is evaluated or
            written, and a log message says so.
        detections: the detections to evaluate.
        output_dir: created if missing.
        settings: how to evaluate them.
        seconds: time already spent, by stage; included in ``evaluation.json``.
        provenance: what the detections come from; included in ``evaluation.json`` with the
            software and the settings.
        report: called with the evaluation and the output folder.
        false_positives: what the MaskIoU head was trained for, as the value of
            ``MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES``, for ``maskiou/false_positives`` of
            ``evaluation.json``; ``None`` if unknown.

    Returns:
        The metrics that apply, as ``{task: {metric: value}}`` without ``None``, in the format
        that Detectron2 logs and compares.

    Raises:
        UserError: if the detections do not belong to this dataset.
    """
    if not has_annotations(ground_truth):
        logger.info(
            "The dataset has no annotations, so its metrics cannot be computed here. Submit %s "
            "to the evaluation server of the dataset.",
            output_dir / DETECTIONS / "coco_results_*.json",
        )
        return OrderedDict()
    evaluation = evaluate_detections(ground_truth, detections, replace(settings, bootstrap=0))
    summary = evaluation.summary
    if summary["maskiou"] is not None:
        summary["maskiou"]["false_positives"] = false_positives
    tables = "\n\n".join(filter(None, [metrics_table(summary), agreement_table(summary)]))
    logger.info("Evaluation results on %d images:\n%s", summary["images"], tables)
    if settings.bootstrap:  # slow, so it follows the table
        if summary["delta"]["AP"] is not None and not too_few_images(summary["images"]):
            logger.info(
                "Computing the confidence interval from %d bootstrap samples.", settings.bootstrap
            )
        add_interval(evaluation, settings)
    summary["seconds"] = {**(seconds or {}), **summary["seconds"]}
    summary["provenance"] = made_by(settings, provenance or {})
    path = output_dir / EVALUATION
    write_file(path, json.dumps(summary, indent=2) + "\n")
    write_per_class(evaluation, output_dir / PER_CLASS)
    logger.info("%sResults saved to %s", _gain_line(summary), path)
    if report is not None:
        report(evaluation, output_dir)
    return logged_metrics(summary)


def _gain_line(summary: dict) -> str:
    delta = summary["delta"]
    if delta["AP"] is None:
        return ""
    interval = interval_text(delta["ci95"], summary["images"])
    return f"Mask score over box score: {delta['AP']:+.2f} mask AP{interval}. "


def logged_metrics(summary: dict) -> OrderedDict:
    """Selects the numbers of ``evaluation.json`` to plot over training, as Detectron2 logs them.

    Args:
        summary: the summary of an :class:`Evaluation`.

    Returns:
        ``{task: {metric: value}}`` with numbers only; tasks without a number are left out.
    """
    metrics = OrderedDict()
    for task in (*AP_LABELS, "delta", "maskiou"):
        numbers = {k: v for k, v in (summary[task] or {}).items() if isinstance(v, (int, float))}
        if numbers:
            metrics[task] = numbers
    return metrics


def write_per_class(evaluation: Evaluation, path: Path) -> None:
    """Writes a CSV file with the AP of each category under each ranking.

    The columns are ``ranking``, ``category_id``, ``category``, ``instances`` (crowds excluded)
    and, in percent, ``METRICS``; a metric that is not defined is left empty.

    Args:
        evaluation: the evaluation.
        path: the file to write; its folder is created if missing.
    """
    instances = instances_by_category(evaluation.ground_truth)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["ranking", "category_id", "category", "instances", *METRICS])
    for ranking, precision in evaluation.precision.items():
        for index, category in enumerate(precision.categories):
            metrics = precision.of_category(index).values()
            writer.writerow(
                [ranking, category["id"], for_csv(str(category["name"])), instances[category["id"]]]
                + ["" if value is None else f"{value:.4f}" for value in metrics]
            )
    write_file(path, table.getvalue())
