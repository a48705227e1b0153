"""From detections to every number: all rankings of the masks of one inference."""

import logging
import time
from dataclasses import dataclass, field

import numpy as np
from pycocotools.coco import COCO
from tabulate import tabulate

from ..errors import UserError
from .bootstrap import gain_interval
from .coco_metrics import ENGINES, METRICS, AveragePrecision, HotcocoEngine
from .detections import Detections
from .ground_truth import has_masks
from .mask_quality import TrueMaskIoU, quality_statistics, true_maskiou

logger = logging.getLogger(__name__)

# The rankings of masks, in the order of evaluation.json, with what a person calls them.
RANKINGS = {
    "segm_box_score": "mask AP by box score",
    "segm_mask_score": "mask AP by mask score",
    "segm_mask_confidence": "mask AP by mask confidence",
    "segm_oracle": "mask AP by true MaskIoU",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything known of detections on a dataset.

    Attributes:
        ground_truth: the dataset.
        detections: what was evaluated.
        precision: of boxes (``bbox``) and of masks under each ranking that applies.
        scores: of the detections under each ranking of masks that applies, of shape (N,).
        true_maskiou: of the detections, if they have masks.
        summary: what stands in ``evaluation.json``.
    """

    ground_truth: COCO
    detections: Detections
    precision: dict[str, AveragePrecision]
    scores: dict[str, np.ndarray]
    true_maskiou: TrueMaskIoU | None
    summary: dict = field(repr=False)


def evaluate_detections(
    ground_truth: COCO,
    detections: Detections,
    *,
    max_dets: int = 100,
    engine: str = "hotcoco",
    bootstrap: int = 1000,
) -> Evaluation:
    """Box AP, mask AP under every ranking that applies, and how good the scores are.

    Args:
        ground_truth: the dataset, with annotations.
        detections: see :class:`Detections`.
        max_dets: detections of an image that count, see :class:`~.coco_metrics.Engine`.
        engine: a key of ``ENGINES``.
        bootstrap: samples for the confidence interval of the gain; 0 leaves it out.

    Returns:
        Its summary has, in percent, ``bbox`` ranked by box score, the four ``RANKINGS`` of
        masks, ``delta``, what the mask score gains over the box score with its 95% confidence
        interval; ``maskiou``, ``box_score`` and ``mask_confidence``, how well each agrees with
        the true MaskIoU; ``images``, their number; ``seconds`` by stage. What does not apply is
        ``None``.

    Raises:
        UserError: if the detections are not of this dataset.
    """
    check_detections(ground_truth, detections)
    seconds = _Stopwatch()
    counter = ENGINES[engine](ground_truth)
    with_masks = detections.segmentation is not None and has_masks(ground_truth)
    if detections.segmentation is not None and not with_masks:
        logger.warning("Annotations without segmentation: masks are not evaluated.")
    true = true_maskiou(ground_truth, detections) if with_masks else None
    seconds.lap("true_maskiou")

    precision = {"bbox": counter.average_precision(detections, "bbox", detections.score, max_dets)}
    scores = _rankings(detections, true) if with_masks else {}
    for name, ranking in scores.items():
        precision[name] = counter.average_precision(detections, "segm", ranking, max_dets)
    seconds.lap("metrics")

    summary = {
        "bbox": precision["bbox"].metrics,
        **{name: precision[name].metrics if name in precision else None for name in RANKINGS},
        "delta": {"AP": _gain(precision), "ci95": None},
        "maskiou": _quality(detections.maskiou, true),
        "box_score": _quality(detections.score, true),
        "mask_confidence": _quality(detections.mask_confidence, true),
        "images": len(ground_truth.imgs if detections.images is None else detections.images),
        "seconds": seconds.laps,
    }
    evaluation = Evaluation(ground_truth, detections, precision, scores, true, summary)
    if bootstrap:
        add_interval(evaluation, max_dets=max_dets, bootstrap=bootstrap)
    return evaluation


def add_interval(evaluation: Evaluation, *, max_dets: int, bootstrap: int) -> None:
    """Add the confidence interval of what the mask score gains to an evaluation's summary.

    Args:
        evaluation: changed in place; if it has no gain, it is left as it is.
        max_dets, bootstrap: as of :func:`evaluate_detections`.
    """
    if evaluation.summary["delta"]["AP"] is None:
        return
    seconds = _Stopwatch()
    matcher = HotcocoEngine(evaluation.ground_truth)
    before, after = (
        matcher.evaluated(
            evaluation.detections, "segm", evaluation.scores[name], max_dets, all_areas=False
        )
        for name in ("segm_box_score", "segm_mask_score")
    )
    evaluation.summary["delta"]["ci95"] = gain_interval(before, after, bootstrap)
    seconds.lap("bootstrap")
    evaluation.summary["seconds"].update(seconds.laps)


def check_detections(ground_truth: COCO, detections: Detections) -> None:
    """Refuse detections of another dataset.

    Raises:
        UserError: naming the first image, category or mask that does not belong here.
    """
    for kind, ids, known in (
        ("image", detections.image_id, ground_truth.imgs),
        ("category", detections.category_id, ground_truth.cats),
    ):
        for value in np.unique(ids).tolist():
            if value not in known:
                raise UserError(
                    f"detections of {kind} {value}, which the annotations do not have: are they "
                    "of another dataset?"
                )
    for image_id, rle in zip(detections.image_id.tolist(), detections.segmentation or ()):
        image = ground_truth.imgs[image_id]
        if list(rle["size"]) != [image["height"], image["width"]]:
            raise UserError(
                f"a detection of image {image_id} has a mask of {rle['size']} (height, width), "
                f"the image has {[image['height'], image['width']]}"
            )


def _rankings(detections: Detections, true: TrueMaskIoU) -> dict[str, np.ndarray]:
    """Scores under each ranking that applies, in the order of ``RANKINGS``."""
    box_score = detections.score.astype(np.float64)
    scores = {"segm_box_score": box_score}
    if detections.mask_score is not None:
        scores["segm_mask_score"] = detections.mask_score.astype(np.float64)
    if detections.mask_confidence is not None:
        scores["segm_mask_confidence"] = box_score * detections.mask_confidence
    scores["segm_oracle"] = box_score * true.best
    return scores


def _gain(precision: dict[str, AveragePrecision]) -> float | None:
    if "segm_mask_score" not in precision:
        return None
    before = precision["segm_box_score"].metrics["AP"]
    after = precision["segm_mask_score"].metrics["AP"]
    return None if before is None else after - before


def _quality(score: np.ndarray | None, true: TrueMaskIoU | None) -> dict | None:
    return None if score is None or true is None else quality_statistics(score, true)


def metrics_table(summary: dict) -> str:
    """The rankings side by side, for a person.

    Args:
        summary: of an :class:`Evaluation`, or read from ``evaluation.json``.
    """
    rows = [(name, summary[key]) for key, name in {"bbox": "box AP", **RANKINGS}.items()]
    rows = [(name, metrics) for name, metrics in rows if metrics is not None]
    columns = list(rows[0][1]) if rows else METRICS
    cells = [
        [name, *("-" if metrics[c] is None else f"{metrics[c]:.2f}" for c in columns)]
        for name, metrics in rows
    ]
    # As text: "100.00" taken for a number would come out as 100.
    options = {"tablefmt": "simple", "stralign": "right", "disable_numparse": True}
    return tabulate(cells, headers=["", *columns], **options)


class _Stopwatch:
    """Seconds between laps, by name."""

    def __init__(self):
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
