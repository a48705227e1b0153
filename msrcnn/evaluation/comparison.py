"""Compares several sets of detections on one dataset."""

from pycocotools.coco import COCO
from tabulate import tabulate

from ..errors import UserError
from .bootstrap import gain_interval, interval_text
from .coco_metrics import METRICS
from .detections import Detections
from .matching import match_detections
from .rankings import (
    AP_LABELS,
    Evaluation,
    evaluate_detections,
    images_without_prediction,
)
from .settings import DEFAULT_SETTINGS, EvaluationSettings


def compare_detections(
    ground_truth: COCO,
    detections: dict[str, Detections],
    settings: EvaluationSettings = DEFAULT_SETTINGS,
) -> dict:
    """Evaluates sets of detections and computes what each gains in AP over the first.

    A gain compares mask AP if both sets have masks, else box AP. Masks are ranked by mask score if
    the set has one, else by box score.

    Args:
        ground_truth: the dataset, with annotations.
        detections: two or more sets of detections, by name.
        settings: how to evaluate them.

    Returns:
        A dict with

        * ``evaluations``: for each name, the content of ``evaluation.json``;
        * ``baseline``: the name of the first set;
        * ``gains``: for each other name, ``rankings`` (the rankings of the first and of this set),
          ``AP`` (the gain in percentage points) and ``ci95`` (its 95% confidence interval, or
          ``None`` without bootstrap, or with too few images).

    Raises:
        UserError: if detections do not belong to this dataset, or lack some of its images.
    """
    for name, each in detections.items():
        if missing := images_without_prediction(ground_truth, each):
            raise UserError(
                f"{name} has no predictions for {len(missing)} of {len(ground_truth.imgs)} images, "
                f"the first with id {missing[0]}: predict on all of them, or compare on a dataset "
                "with the others only"
            )
    evaluations = {
        name: evaluate_detections(ground_truth, each, settings) for name, each in detections.items()
    }
    first, *others = evaluations
    gains = {name: _gain(evaluations[first], evaluations[name], settings) for name in others}
    return {
        "evaluations": {name: each.summary for name, each in evaluations.items()},
        "baseline": first,
        "gains": gains,
    }


def _gain(first: Evaluation, other: Evaluation, settings: EvaluationSettings) -> dict:
    both = (first, other)
    with_masks = all(each.scores for each in both)
    rankings = [_mask_ranking(each) if with_masks else "bbox" for each in both]
    before, after = (e.precision[ranking].metrics["AP"] for e, ranking in zip(both, rankings))
    interval = None
    if settings.bootstrap and before is not None:
        iou_type = "segm" if with_masks else "bbox"
        before_matches, after_matches = (
            match_detections(
                each.ground_truth,
                each.detections,
                iou_type,
                each.scores.get(ranking, each.detections.score),
                settings.max_dets,
            )
            for each, ranking in zip(both, rankings)
        )
        interval = gain_interval(before_matches, after_matches, settings.bootstrap)
    gain = None if before is None or after is None else after - before
    return {"rankings": rankings, "AP": gain, "ci95": interval}


def _mask_ranking(evaluation: Evaluation) -> str:
    name = "segm_mask_score"
    return name if name in evaluation.scores else "segm_box_score"


def comparison_table(comparison: dict) -> str:
    """Formats a result of :func:`compare_detections` as text.

    The table has a row for each set of detections and ranking; below it, a line for each gain.
    """
    cells = []
    for name, summary in comparison["evaluations"].items():
        for key, label in AP_LABELS.items():
            if summary[key] is not None:
                values = (summary[key][metric] for metric in METRICS)
                cells.append([name, label, *("-" if v is None else f"{v:.2f}" for v in values)])
                name = ""
    alignment = ("left", "left", *("right" for _ in METRICS))
    table = tabulate(
        cells,
        headers=["", "", *METRICS],
        tablefmt="simple",
        disable_numparse=True,
        colalign=alignment,
    )
    lines = [
        f"{name}: {gain['AP']:+.2f} AP over {comparison['baseline']}"
        f"{interval_text(gain['ci95'], comparison['evaluations'][name]['images'])}: "
        f"{' vs. '.join(dict.fromkeys(AP_LABELS[r] for r in reversed(gain['rankings'])))}"
        for name, gain in comparison["gains"].items()
        if gain["AP"] is not None
    ]
    return "\n".join([table, *lines])
