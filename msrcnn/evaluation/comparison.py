"""Several sets of predictions on one dataset, side by side."""

from pycocotools.coco import COCO
from tabulate import tabulate

from .bootstrap import gain_interval
from .coco_metrics import METRICS, HotcocoEngine
from .detections import Detections
from .rankings import RANKINGS, Evaluation, evaluate_detections

ROWS = {"bbox": "box AP", **RANKINGS}


def compare_detections(
    ground_truth: COCO,
    detections: dict[str, Detections],
    *,
    max_dets: int = 100,
    engine: str = "hotcoco",
    bootstrap: int = 1000,
) -> dict:
    """Evaluate sets of detections, and what each gains over the first.

    Args:
        ground_truth: the dataset, with annotations.
        detections: by name; two or more.
        max_dets, engine, bootstrap: see :func:`evaluate_detections`.

    Returns:
        ``evaluations``, by name what stands in ``evaluation.json``; ``gains``, for each name but
        the first the AP gained over it (``AP``, percentage points) with its 95% confidence
        interval (``ci95``, ``None`` without bootstrap), each under its own ranking (``rankings``):
        the mask score where there is one, else the box score, of masks where both have them.

    Raises:
        UserError: if detections are not of this dataset.
    """
    settings = {"max_dets": max_dets, "engine": engine, "bootstrap": bootstrap}
    evaluations = {
        name: evaluate_detections(ground_truth, each, **settings)
        for name, each in detections.items()
    }
    first, *others = evaluations
    matcher = HotcocoEngine(ground_truth)
    gains = {
        name: _gain(matcher, evaluations[first], evaluations[name], max_dets, bootstrap)
        for name in others
    }
    return {
        "evaluations": {name: each.summary for name, each in evaluations.items()},
        "baseline": first,
        "gains": gains,
    }


def _gain(
    matcher: HotcocoEngine, first: Evaluation, other: Evaluation, max_dets: int, bootstrap: int
) -> dict:
    both = (first, other)
    with_masks = all(each.scores for each in both)
    rankings = [_own_ranking(each) if with_masks else "bbox" for each in both]
    before, after = (e.precision[ranking].metrics["AP"] for e, ranking in zip(both, rankings))
    interval = None
    if bootstrap and before is not None:
        iou_type = "segm" if with_masks else "bbox"
        matched = [
            matcher.evaluated(
                each.detections,
                iou_type,
                each.scores.get(ranking, each.detections.score),
                max_dets,
                all_areas=False,
            )
            for each, ranking in zip(both, rankings)
        ]
        interval = gain_interval(*matched, bootstrap)
    gain = None if before is None else after - before
    return {"rankings": rankings, "AP": gain, "ci95": interval}


def _own_ranking(evaluation: Evaluation) -> str:
    name = "segm_mask_score"
    return name if name in evaluation.scores else "segm_box_score"


def comparison_table(comparison: dict) -> str:
    """What :func:`compare_detections` found, for a person."""
    cells = []
    for file, summary in comparison["evaluations"].items():
        for key, name in ROWS.items():
            if summary[key] is not None:
                values = (summary[key][metric] for metric in METRICS)
                cells.append([file, name, *("-" if v is None else f"{v:.2f}" for v in values)])
                file = ""
    alignment = ("left", "left", *("right" for _ in METRICS))
    table = tabulate(
        cells,
        headers=["", "", *METRICS],
        tablefmt="simple",
        disable_numparse=True,
        colalign=alignment,
    )
    lines = [
        f"{file}: {_signed(gain['AP'])} AP over {comparison['baseline']}{_interval(gain['ci95'])}, "
        f"by {' and '.join(dict.fromkeys(ROWS[r] for r in reversed(gain['rankings'])))}"
        for file, gain in comparison["gains"].items()
        if gain["AP"] is not None
    ]
    return "\n".join([table, *lines])


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _interval(interval: list[float] | None) -> str:
    return "" if interval is None else f" (95% interval {' to '.join(map(_signed, interval))})"
