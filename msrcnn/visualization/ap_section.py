"""The section of the HTML report with average precision under each ranking."""

from __future__ import annotations

from ..evaluation import METRICS, ORACLES, Evaluation
from ..evaluation.rankings import AP_LABELS, RANKINGS
from .html import Content, element, row, table
from .plot_style import LABELS
from .report_parts import plot_figures, ranking_header
from .text import number

CAPTIONS = {
    "ap_over_iou": "AP at each IoU threshold, from 0.50 to 0.95.",
    "gain_over_iou": (
        "AP of each ranking of masks minus AP of the ranking by box score, at each IoU threshold."
    ),
    "precision_recall": (
        "Precision at each recall, averaged over classes, at IoU thresholds 0.50 and 0.75, and "
        "averaged over 0.50 to 0.95. The area below a curve is the AP at its thresholds."
    ),
}


def ap_section(evaluation: Evaluation, plots: dict[str, bytes]) -> list[Content]:
    """Builds the section with AP under each ranking.

    Args:
        evaluation: the evaluation.
        plots: the content of PNG files, by name.
    """
    summary = evaluation.summary
    shown = [name for name in AP_LABELS if summary[name] is not None]
    metrics = list(summary["bbox"])
    mask_rankings = [name for name in RANKINGS if name in shown and name not in ORACLES]
    rows = []
    for name in shown:
        cells = [number(summary[name][metric]) for metric in metrics]
        if name in mask_rankings:
            best = (_best([summary[r][metric] for r in mask_rankings]) for metric in metrics)
            cells = [element("strong", c) if c == b else c for c, b in zip(cells, best)]
        attributes = {"class_": "bound"} if name in ORACLES else {}
        rows.append(row(ranking_header(name, LABELS[name]), *cells, **attributes))
    note = (
        "In percent. AP is the mean over IoU thresholds 0.50 to 0.95; AP50 and AP75 are AP at IoU "
        "0.50 and 0.75; APs, APm and APl are AP of small (area < 32² pixels), medium (< 96²) and "
        "large instances."
    )
    if set(metrics) - set(METRICS):
        note += " APr, APc and APf are AP of rare, common and frequent classes."
    if len(mask_rankings) > 1:
        note += " Bold: the best ranking of masks."
    if "segm_oracle" in shown:
        note += (
            " Ranking by true MaskIoU uses the ground truth. With the true MaskIoU of matched "
            "detections and their mean for all others, it shows what a perfect prediction of "
            "MaskIoU would reach; the last row also puts every false positive last."
        )
    return [
        element("h2", "Average precision"),
        table(["", *metrics], rows, "Average precision under each ranking"),
        element("p", note, class_="note"),
        plot_figures(plots, CAPTIONS),
    ]


def _best(values: list[float | None]) -> str | None:
    """Formats the largest of several values; ``None`` if all of them look the same."""
    values = [value for value in values if value is not None]
    differ = len({number(value) for value in values}) > 1
    return number(max(values)) if differ else None
