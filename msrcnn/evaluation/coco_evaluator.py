"""The evaluator: one pass over a dataset, boxes and masks under each ranking."""

import csv
import io
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools.coco import COCO

from ..atomic_file import write_file
from ..errors import UserError
from .coco_metrics import METRICS
from .detections import Detections
from .ground_truth import has_annotations, load_ground_truth
from .predictions_file import save_predictions
from .rankings import RANKINGS, Evaluation, add_interval, evaluate_detections, metrics_table

logger = logging.getLogger(__name__)

RECORDS = 10_000  # of a result file, made at a time


class MaskScoringEvaluator(DatasetEvaluator):
    """Evaluates boxes by box score, masks under every ranking that applies.

    Works for plain Mask R-CNN and for box detectors too; what they lack is left out.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str,
        *,
        num_classes: int | None = None,
        max_dets: int = 100,
        engine: str = "hotcoco",
        bootstrap: int = 1000,
        report: Callable[[Evaluation, Path], None] | None = None,
    ):
        """
        Args:
            dataset_name: a registered dataset with a COCO annotation file.
            output_dir: where :func:`evaluate_and_write` writes, and below ``inference/`` all
                detections (``predictions.npz``) and :func:`write_results`.
            num_classes: of the model, to be checked; ``None`` leaves it.
            max_dets, engine, bootstrap: see :func:`evaluate_detections`.
            report: called with the evaluation and the output folder, on the main process.

        Raises:
            UserError: if the dataset has no annotation file, or other classes than the model.
        """
        self._ground_truth = load_ground_truth(dataset_name)
        # Detectron2 numbers the classes in the order of the dataset's category ids.
        self._category_ids = np.array(sorted(self._ground_truth.getCatIds()), dtype=np.int64)
        if num_classes not in (None, len(self._category_ids)):
            raise UserError(
                f"dataset '{dataset_name}' has {len(self._category_ids)} categories, the model "
                f"{num_classes}: MODEL.ROI_HEADS.NUM_CLASSES"
            )
        self._output_dir = Path(output_dir)
        self._settings = {"max_dets": max_dets, "engine": engine, "bootstrap": bootstrap}
        self._report = report

    def reset(self) -> None:
        self._parts: list[Detections] = []
        self._start = time.perf_counter()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for image, output in zip(inputs, outputs):
            self._parts.append(
                Detections.from_instances(
                    output["instances"], image["image_id"], self._category_ids
                )
            )

    def evaluate(self) -> OrderedDict:
        """Gather all processes' detections, write the files and return the metrics.

        Returns:
            On the main process as :func:`evaluate_and_write`; empty on others.
        """
        inference = time.perf_counter() - self._start
        gathered = comm.gather(Detections.concatenate(self._parts) if self._parts else None)
        if not comm.is_main_process():
            return OrderedDict()
        detections = Detections.concatenate([part for part in gathered if part is not None])
        start = time.perf_counter()
        folder = self._output_dir / "inference"
        save_predictions(detections, folder / "predictions.npz")
        write_results(detections, folder)
        seconds = {"inference": inference, "results": time.perf_counter() - start}
        return evaluate_and_write(
            self._ground_truth,
            detections,
            self._output_dir,
            seconds=seconds,
            report=self._report,
            **self._settings,
        )


def write_results(detections: Detections, folder: Path) -> None:
    """Write COCO result files, which the test server takes.

    Args:
        detections: masks are ranked by mask score, if they have one.
        folder: made if missing; gets ``coco_results_bbox.json`` and, for detections with masks,
            ``coco_results_segm.json``.
    """
    scores = {"bbox": detections.score}
    if detections.segmentation is not None:
        has_mask_score = detections.mask_score is not None
        scores["segm"] = detections.mask_score if has_mask_score else detections.score
    for task, ranking in scores.items():
        # In parts, so that records of all detections are never in memory at once.
        parts = (
            json.dumps(detections.results(task, ranking, slice(start, start + RECORDS)))[1:-1]
            for start in range(0, len(detections), RECORDS)
        )
        write_file(folder / f"coco_results_{task}.json", f"[{', '.join(parts)}]")


def evaluate_and_write(
    ground_truth: COCO,
    detections: Detections,
    output_dir: Path,
    *,
    seconds: dict[str, float] | None = None,
    report: Callable[[Evaluation, Path], None] | None = None,
    max_dets: int = 100,
    engine: str = "hotcoco",
    bootstrap: int = 1000,
) -> OrderedDict:
    """Evaluate detections, write ``evaluation.json`` and ``per_class.csv``, log the table.

    Args:
        ground_truth: the dataset; of one without annotations, such as a test set, this is only
            said.
        detections: see :class:`Detections`.
        output_dir: made if missing.
        seconds: times already spent, by stage.
        report: called with the evaluation and the output folder.
        max_dets, engine, bootstrap: see :func:`evaluate_detections`.

    Returns:
        The metrics that apply, by task, without nulls; what Detectron2 logs and compares.

    Raises:
        UserError: if the detections are not of this dataset.
    """
    if not has_annotations(ground_truth):
        logger.info(
            *("The dataset has no annotations to evaluate with; for its server: %s",),
            output_dir / "inference" / "coco_results_*.json",
        )
        return OrderedDict()
    evaluation = evaluate_detections(
        ground_truth, detections, max_dets=max_dets, engine=engine, bootstrap=0
    )
    summary = evaluation.summary
    logger.info("%d images:\n%s", summary["images"], metrics_table(summary))
    if bootstrap:  # takes its time, the table need not wait for it
        add_interval(evaluation, max_dets=max_dets, bootstrap=bootstrap)
    summary["seconds"] = {**(seconds or {}), **summary["seconds"]}
    path = output_dir / "evaluation.json"
    write_file(path, json.dumps(summary, indent=2) + "\n")
    write_per_class(evaluation, output_dir / "per_class.csv")
    logger.info("%sResults in %s", _gain_line(summary["delta"]), path)
    if report is not None:
        report(evaluation, output_dir)
    return logged_metrics(summary)


def _gain_line(delta: dict) -> str:
    if delta["AP"] is None:
        return ""
    gain = f"The mask score gains {delta['AP']:+.2f} mask AP over the box score"
    if delta["ci95"] is not None:
        low, high = delta["ci95"]
        gain += f" (95% interval {low:+.2f} to {high:+.2f})"
    return f"{gain}. "


def logged_metrics(summary: dict) -> OrderedDict:
    """The numbers of ``evaluation.json`` that are worth a curve over training, by task."""
    tasks = ("bbox", *RANKINGS, "delta", "maskiou")
    found = OrderedDict()
    for task in tasks:
        numbers = {k: v for k, v in (summary[task] or {}).items() if isinstance(v, (int, float))}
        if numbers:
            found[task] = numbers
    return found


def write_per_class(evaluation: Evaluation, path: Path) -> None:
    """Write a table with a line for each ranking and category."""
    instances = dict.fromkeys(evaluation.ground_truth.cats, 0)
    for annotation in evaluation.ground_truth.dataset["annotations"]:
        if not annotation["iscrowd"]:
            instances[annotation["category_id"]] += 1
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["ranking", "category_id", "category", "instances", *METRICS])
    for ranking, precision in evaluation.precision.items():
        for index, category in enumerate(precision.categories):
            metrics = precision.of_category(index).values()
            writer.writerow(
                [ranking, category["id"], category["name"], instances[category["id"]]]
                + ["" if value is None else f"{value:.4f}" for value in metrics]
            )
    write_file(path, table.getvalue())
