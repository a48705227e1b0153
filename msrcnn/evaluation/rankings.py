"""Evaluates detections: box AP, and mask AP under every ranking of the same masks."""

import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from pycocotools.coco import COCO
from tabulate import tabulate

from .agreement import AGREEMENT, SCOPES, quality_statistics
from .bootstrap import gain_interval
from .coco_metrics import ENGINES, FREQUENCIES, METRICS, RECALL_THRESHOLDS, AveragePrecision
from .confusion import confusion
from .detection_rules import check_detections
from .detections import Detections
from .error_types import error_types
from .garbage import no_garbage_collection
from .ground_truth import without_mask
from .mask_quality import TrueMaskIoU, true_maskiou
from .matching import match_detections
from .settings import DEFAULT_SETTINGS, EvaluationSettings

logger = logging.getLogger(__name__)

# Rankings of masks and their labels, by key and in the order of evaluation.json.
RANKINGS = {
    "segm_box_score": "mask AP by box score",
    "segm_mask_score": "mask AP by mask score",
    "segm_mask_confidence": "mask AP by mask confidence",
    "segm_oracle_matched": "mask AP by true MaskIoU, matched",
    "segm_oracle": "mask AP by true MaskIoU",
}
# Rankings that use the ground truth. The second puts every false positive last. The first gives
# false positives the mean MaskIoU of the other detections: a perfect prediction of the MaskIoU with
# an instance says nothing about detections without one.
ORACLES = ("segm_oracle_matched", "segm_oracle")
# The two that the paper compares.
COMPARED = ("segm_box_score", "segm_mask_score")
# Everything that AP is reported for: the rows of tables. A score that also tells whether there is
# an object ranks boxes better, too.
AP_LABELS = {"bbox": "box AP", "bbox_mask_score": "box AP by mask score", **RANKINGS}


def number_names(
    tasks: Collection[str], scores: Iterable[str], agreement: Iterable[str] = AGREEMENT
) -> list[str]:
    """Returns the names of the numbers that an evaluation reports, such as ``bbox/AP``.

    Args:
        tasks: those of ``AP_LABELS`` that apply.
        scores: those of :data:`~.agreement.SCORES` that apply.
        agreement: the numbers of each of these scores.
    """
    names = [f"{task}/{metric}" for task in tasks for metric in (*METRICS, *FREQUENCIES)]
    if "segm_mask_score" in tasks:
        names.append("delta/AP")
    names += [
        f"{score}/{name}{scope.suffix}"
        for score in scores
        for scope in SCOPES
        for name in agreement
    ]
    return names


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of evaluating N detections on a dataset.

    Attributes:
        ground_truth: the dataset.
        detections: the detections.
        precision: precision of boxes (``bbox``) and of masks under each ranking that applies.
        scores: for each ranking of masks that applies, an array of shape (N,) to rank by.
        true_maskiou: true MaskIoU of the detections, or ``None`` if masks are not evaluated.
        summary: the content of ``evaluation.json``, see :func:`evaluate_detections`.
    """

    ground_truth: COCO
    detections: Detections
    precision: dict[str, AveragePrecision]
    scores: dict[str, np.ndarray]
    true_maskiou: TrueMaskIoU | None
    summary: dict = field(repr=False)


@no_garbage_collection()
def evaluate_detections(
    ground_truth: COCO,
    detections: Detections,
    settings: EvaluationSettings = DEFAULT_SETTINGS,
) -> Evaluation:
    """Computes box AP, mask AP under every ranking that applies, and the quality of scores.

    Args:
        ground_truth: the dataset, with annotations.
        detections: the detections to evaluate.
        settings: how to evaluate them.

    Returns:
        An evaluation whose ``summary`` is a dict with the following keys. An entry that does not
        apply is ``None``.

        * ``bbox``, ``bbox_mask_score``: box AP metrics in percent, ranked by box score and by mask
          score;
        * each of ``RANKINGS``: mask AP metrics in percent under this ranking;
        * ``delta``: ``AP``, mask AP by mask score minus mask AP by box score in percentage points,
          and ``ci95``, its 95% confidence interval (``None`` without bootstrap, or with too few
          images);
        * ``maskiou``, ``box_score``, ``mask_confidence``: agreement of each score with the true
          MaskIoU, see :func:`~.agreement.quality_statistics`;
        * ``by_iou``: for ``bbox`` and each ranking that applies, AP in percent at each of
          ``IOU_THRESHOLDS``;
        * ``precision_recall``: ``recall``, and for each of :func:`compared_rankings` the mean
          precision over categories at these recalls, see ``AveragePrecision.curves``;
        * ``tide``: for the same rankings, what each type of error costs, see
          :func:`~.error_types.error_types`;
        * ``confusion``: detections by class and class of their instance, see
          :func:`~.confusion.confusion`;
        * ``images``: number of images;
        * ``seconds``: time by stage.

    Raises:
        UserError: if the detections do not belong to this dataset.
    """
    check_detections(ground_truth, detections)
    if missing := images_without_prediction(ground_truth, detections):
        logger.warning(
            "%d of %d images, the first with id %d, were not predicted on: their instances count "
            "as missed.",
            len(missing),
            len(ground_truth.imgs),
            missing[0],
        )
    timer = _StageTimer()
    coco_engine = ENGINES[settings.engine](ground_truth)
    bare = without_mask(ground_truth)
    with_masks = detections.segmentation is not None and not bare
    if detections.segmentation is not None and bare:
        logger.warning(
            "%d of %d annotations, the first with id %d, have no segmentation: masks are not "
            "evaluated.",
            len(bare),
            len(ground_truth.anns),
            bare[0],
        )
    true = true_maskiou(ground_truth, detections) if with_masks else None
    quality = {
        "maskiou": _quality(detections.maskiou, true),
        "box_score": _quality(detections.score, true),
        "mask_confidence": _quality(detections.mask_confidence, true),
    }
    timer.end_stage("true_maskiou")

    scores = {} if true is None else _ranking_scores(detections, true, settings.confidence_exponent)
    ranked = {"bbox": ("bbox", detections.score)}
    if "segm_mask_score" in scores:
        ranked["bbox_mask_score"] = ("bbox", scores["segm_mask_score"])
    ranked.update({name: ("segm", ranking) for name, ranking in scores.items()})
    compared = compared_rankings(ranked)
    precision = {
        name: coco_engine.average_precision(detections, iou_type, ranking, settings.max_dets)
        for name, (iou_type, ranking) in ranked.items()
    }
    timer.end_stage("metrics")

    tide = {
        name: error_types(ground_truth, detections, *ranked[name], settings.max_dets)
        for name in compared
    }
    confusions = confusion(ground_truth, detections, true)
    timer.end_stage("errors")

    summary = {
        **{name: precision[name].metrics if name in precision else None for name in AP_LABELS},
        "delta": {"AP": _gain(precision), "ci95": None},
        **quality,
        "by_iou": {name: each.by_iou for name, each in precision.items()},
        "precision_recall": {
            "recall": RECALL_THRESHOLDS.tolist(),
            **{name: precision[name].curves for name in compared},
        },
        "tide": tide,
        "confusion": confusions,
        "images": len(ground_truth.imgs if detections.images is None else detections.images),
        "seconds": timer.seconds,
    }
    evaluation = Evaluation(ground_truth, detections, precision, scores, true, summary)
    if settings.bootstrap:
        add_interval(evaluation, settings)
    return evaluation


def add_interval(evaluation: Evaluation, settings: EvaluationSettings) -> None:
    """Adds the confidence interval of the mask score's gain to the summary of an evaluation.

    Args:
        evaluation: modified in place, unless its gain is ``None``.
        settings: those of the evaluation.
    """
    if evaluation.summary["delta"]["AP"] is None:
        return
    timer = _StageTimer()
    before, after = (
        match_detections(
            evaluation.ground_truth,
            evaluation.detections,
            "segm",
            evaluation.scores[name],
            settings.max_dets,
        )
        for name in ("segm_box_score", "segm_mask_score")
    )
    evaluation.summary["delta"]["ci95"] = gain_interval(before, after, settings.bootstrap)
    timer.end_stage("bootstrap")
    evaluation.summary["seconds"].update(timer.seconds)


def compared_rankings(names: Collection[str]) -> list[str]:
    """Returns the rankings to compare in detail: those of masks in ``COMPARED``, or else boxes.

    Args:
        names: the rankings of an evaluation.
    """
    return [name for name in COMPARED if name in names] or ["bbox"]


def images_without_prediction(ground_truth: COCO, detections: Detections) -> list[int]:
    """Returns the ids of the images that the model was not run on, as far as that is known."""
    if detections.images is None:
        return []
    return sorted(set(ground_truth.imgs) - set(detections.images.tolist()))


def _ranking_scores(
    detections: Detections, true: TrueMaskIoU, confidence_exponent: float
) -> dict[str, np.ndarray]:
    """Returns the scores of each ranking that applies, in the order of ``RANKINGS``."""
    box_score = detections.score.astype(np.float64)
    scores = {"segm_box_score": box_score}
    if detections.mask_score is not None:
        scores["segm_mask_score"] = detections.mask_score.astype(np.float64)
    if detections.mask_confidence is not None:
        confidence = detections.mask_confidence.astype(np.float64)
        scores["segm_mask_confidence"] = box_score * confidence**confidence_exponent
    matched = ~np.isnan(true.matched)
    mean = true.matched[matched].mean() if matched.any() else 0.0
    scores["segm_oracle_matched"] = box_score * np.where(matched, true.matched, mean)
    scores["segm_oracle"] = box_score * true.best
    return scores


def _gain(precision: dict[str, AveragePrecision]) -> float | None:
    if "segm_mask_score" not in precision:
        return None
    before = precision["segm_box_score"].metrics["AP"]
    after = precision["segm_mask_score"].metrics["AP"]
    return None if before is None or after is None else after - before


def _quality(score: np.ndarray | None, true: TrueMaskIoU | None) -> dict | None:
    return None if score is None or true is None else quality_statistics(score, true)


def metrics_table(summary: dict) -> str:
    """Formats AP metrics as a text table with a row for boxes and for each ranking of masks.

    Args:
        summary: the summary of an :class:`Evaluation`, or the content of ``evaluation.json``.
    """
    found = [(label, summary.get(key)) for key, label in AP_LABELS.items()]
    rows = [(label, metrics) for label, metrics in found if metrics is not None]
    columns = list(rows[0][1]) if rows else METRICS
    cells = [
        [label, *("-" if metrics[c] is None else f"{metrics[c]:.2f}" for c in columns)]
        for label, metrics in rows
    ]
    # Otherwise tabulate parses "100.00" as a number and prints 100.
    options = {"tablefmt": "simple", "stralign": "right", "disable_numparse": True}
    return tabulate(cells, headers=["", *columns], **options)


class _StageTimer:
    """Measures the seconds of successive stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def end_stage(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._start = now - self._start, now
