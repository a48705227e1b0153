"""The evaluator: one pass over a dataset, boxes and masks under each ranking."""

import contextlib
import io
import itertools
import json
import logging
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from pycocotools.coco import COCO
from tabulate import tabulate

from ..errors import UserError
from .coco_metrics import METRICS, coco_metrics
from .mask_quality import maskiou_statistics, true_maskiou
from .records import (
    BOX_SCORE,
    MASK_SCORE,
    MASKIOU,
    box_results,
    instances_fields,
    instances_to_records,
    mask_results,
)

logger = logging.getLogger(__name__)


def load_ground_truth(dataset_name: str) -> COCO:
    """The COCO annotations of a registered dataset.

    Raises:
        UserError: if the dataset has none, or they cannot be read.
    """
    path = MetadataCatalog.get(dataset_name).get("json_file")
    if path is None:
        raise UserError(f"dataset '{dataset_name}' has no COCO annotation file to evaluate with")
    ground_truth = COCO()
    try:
        ground_truth.dataset = json.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"dataset '{dataset_name}': cannot read '{path}': {error}") from error
    # Optional in the format, but the reference implementation reads it.
    for annotation in ground_truth.dataset.setdefault("annotations", []):
        annotation.setdefault("iscrowd", 0)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        ground_truth.createIndex()
    for annotation in ground_truth.dataset["annotations"]:
        if "area" not in annotation:
            annotation["area"] = float(mask_util.area(ground_truth.annToRLE(annotation)))
    return ground_truth


def predicted_fields(records: list[dict]) -> set[str]:
    """Which fields all records have; without any record, those of mask scoring."""
    everything = {BOX_SCORE, MASKIOU, MASK_SCORE, "segmentation"}
    return everything.intersection(*(record.keys() for record in records))


def evaluate_records(
    ground_truth: COCO, records: list[dict], max_dets: int = 100, fields: set[str] | None = None
) -> dict:
    """Metrics of detections, as they stand in ``evaluation.json``.

    Args:
        ground_truth: the dataset.
        records: see :mod:`msrcnn.evaluation.records`.
        max_dets: detections of an image that count.
        fields: what the model predicts, of ``score``, ``maskiou``, ``mask_score`` and
            ``segmentation``; by default what all records have.

    Returns:
        ``bbox`` ranked by box score, ``segm_box_score`` and ``segm_mask_score``, each of
        ``METRICS`` in percent, ``segm_oracle``, ranked by box score times true MaskIoU, the
        paper's upper bound; ``delta``, what the mask score gains; ``maskiou``, how well predicted
        MaskIoU agrees with the true one. What does not apply, or is not measured, is ``None``.
    """
    fields = predicted_fields(records) if fields is None else fields

    def masks(ranking: str) -> dict | None:
        if not {ranking, "segmentation"} <= fields:
            return None
        return coco_metrics(ground_truth, mask_results(records, ranking), "segm", max_dets)

    by_box_score, by_mask_score = masks(BOX_SCORE), masks(MASK_SCORE)
    gain = None
    if by_box_score and by_mask_score and by_box_score["AP"] is not None:
        gain = by_mask_score["AP"] - by_box_score["AP"]
    oracle = maskiou = None
    if "segmentation" in fields:
        best, matched = true_maskiou(ground_truth, records)
        results = mask_results(records, BOX_SCORE)
        for result, value in zip(results, best.tolist()):
            result["score"] *= value
        oracle = coco_metrics(ground_truth, results, "segm", max_dets)
        if MASKIOU in fields:
            predicted = np.array([record[MASKIOU] for record in records])
            maskiou = maskiou_statistics(predicted, matched)
    return {
        "bbox": coco_metrics(ground_truth, box_results(records), "bbox", max_dets),
        "segm_box_score": by_box_score,
        "segm_mask_score": by_mask_score,
        "segm_mask_confidence": None,
        "segm_oracle": oracle,
        "delta": {"AP": gain, "ci95": None},
        "maskiou": maskiou,
    }


def metrics_table(evaluation: dict) -> str:
    """The rankings side by side, for a person."""
    rows = [
        ("box AP", evaluation["bbox"]),
        ("mask AP by box score", evaluation["segm_box_score"]),
        ("mask AP by mask score", evaluation["segm_mask_score"]),
        ("mask AP by true MaskIoU", evaluation["segm_oracle"]),
    ]
    cells = [
        [name, *("-" if row[metric] is None else f"{row[metric]:.2f}" for metric in METRICS)]
        for name, row in rows
        if row is not None
    ]
    return tabulate(cells, headers=["", *METRICS], tablefmt="simple", stralign="right")


class MaskScoringEvaluator(DatasetEvaluator):
    """Evaluates boxes by box score, masks by box score and by mask score.

    Works for plain Mask R-CNN and for box detectors too; what they lack is left out.
    """

    def __init__(self, dataset_name: str, output_dir: str, *, max_dets: int = 100):
        """
        Args:
            dataset_name: a registered dataset with a COCO annotation file.
            output_dir: where ``evaluation.json`` goes, and below ``inference/`` all detections
                (``predictions.json``) and the COCO result files (``coco_results_*.json``).
            max_dets: detections of an image that count.
        """
        self._ground_truth = load_ground_truth(dataset_name)
        # Detectron2 numbers the classes in the order of the dataset's category ids.
        self._category_ids = dict(enumerate(sorted(self._ground_truth.getCatIds())))
        self._output_dir = Path(output_dir)
        self._max_dets = max_dets

    def reset(self) -> None:
        self._predictions: dict[int, list[dict]] = {}
        self._fields: set[str] = set()
        self._start = time.perf_counter()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for image, output in zip(inputs, outputs):
            instances = output["instances"].to("cpu")
            self._fields = instances_fields(instances)
            self._predictions[image["image_id"]] = instances_to_records(
                instances, image["image_id"], self._category_ids
            )

    def evaluate(self) -> OrderedDict:
        """Gather all processes' detections, write the files and return the metrics.

        Returns:
            On the main process ``bbox``, ``segm_box_score``, ``segm_mask_score`` and ``delta``,
            as far as they apply; empty on others.
        """
        inference_seconds = time.perf_counter() - self._start
        gathered = comm.gather(self._predictions)
        fields = set().union(*comm.gather(self._fields))
        if not comm.is_main_process():
            return OrderedDict()
        # By image, so that an image two processes were given counts once.
        predictions = dict(itertools.chain.from_iterable(part.items() for part in gathered))
        records = [r for image_id in sorted(predictions) for r in predictions[image_id]]
        write_results(records, self._output_dir / "inference", fields)
        return evaluate_and_write(
            self._ground_truth,
            records,
            self._output_dir,
            max_dets=self._max_dets,
            fields=fields,
            seconds={"inference": inference_seconds},
            num_images=len(predictions),
        )


def write_results(records: list[dict], folder: Path, fields: set[str]) -> None:
    """Write all detections, and the COCO result files that the test server takes.

    Args:
        records: see :mod:`msrcnn.evaluation.records`.
        folder: made if missing.
        fields: what the model predicts, see :func:`evaluate_records`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"predictions": records, "coco_results_bbox": box_results(records)}
    if "segmentation" in fields:
        ranking = MASK_SCORE if MASK_SCORE in fields else BOX_SCORE
        files["coco_results_segm"] = mask_results(records, ranking)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def evaluate_and_write(
    ground_truth: COCO,
    records: list[dict],
    output_dir: Path,
    *,
    max_dets: int = 100,
    fields: set[str] | None = None,
    num_images: int | None = None,
    seconds: dict[str, float] | None = None,
) -> OrderedDict:
    """Evaluate detections, write ``evaluation.json``, log the table.

    Args:
        ground_truth: the dataset.
        records: see :mod:`msrcnn.evaluation.records`.
        output_dir: made if missing.
        max_dets: detections of an image that count.
        fields: what the model predicts, see :func:`evaluate_records`.
        num_images: images the detections were made on, all of the dataset by default.
        seconds: times already spent, by stage.

    Returns:
        The metrics that apply, by task, without nulls; what Detectron2 logs and compares.
    """
    start = time.perf_counter()
    evaluation = evaluate_records(ground_truth, records, max_dets, fields)
    evaluation["images"] = len(ground_truth.imgs) if num_images is None else num_images
    evaluation["seconds"] = {**(seconds or {}), "metrics": time.perf_counter() - start}
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / "evaluation.json"
    path.write_text(json.dumps(evaluation, indent=2) + "\n")
    logger.info(
        *("%d images, at most %d detections each; results in %s\n%s", evaluation["images"]),
        *(max_dets, path, metrics_table(evaluation)),
    )
    tasks = ("bbox", "segm_box_score", "segm_mask_score", "delta")
    found = OrderedDict(
        (task, {key: value for key, value in evaluation[task].items() if value is not None})
        for task in tasks
        if evaluation[task] is not None
    )
    return OrderedDict((task, metrics) for task, metrics in found.items() if metrics)
