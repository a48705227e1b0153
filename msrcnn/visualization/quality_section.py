"""The section of the HTML report on the agreement of scores with the true MaskIoU."""

from __future__ import annotations

from ..evaluation import Evaluation
from ..evaluation.agreement import AGREEMENT, SCORES, Scope, compared_scopes, compared_scores
from .html import Content, element, row, table
from .plot_style import RANKING_OF_SCORE
from .report_parts import MATCHING, plot_figures, ranking_header
from .text import number

CAPTIONS = {
    "true_maskiou": (
        "True MaskIoU against each score, for detections that match an instance. The closer to "
        "the diagonal, the better the score predicts the quality of the mask."
    ),
    "calibration": (
        "Top: mean true MaskIoU of detections with a similar score; on the diagonal, the score is "
        "calibrated. Bottom: number of detections. Left: detections that match an instance. Right: "
        "all detections, where the true MaskIoU of one that matches no instance counts as 0."
    ),
    "true_maskiou_by_size": "True MaskIoU against each score, by size of the instance.",
}


def quality_section(evaluation: Evaluation, plots: dict[str, bytes]) -> list[Content]:
    """Builds the section on the agreement of scores with the true MaskIoU.

    Args:
        evaluation: the evaluation. Without masks, the section is empty.
        plots: the content of PNG files, by name.
    """
    summary = evaluation.summary
    keys = compared_scores(summary)
    if evaluation.true_maskiou is None:
        return []
    heading = element("h2", "Mask quality")
    if not keys:
        return [heading, element("p", "No detection matches an instance of its class.")]
    note = (
        f"Agreement of each score with the true MaskIoU. {MATCHING} Pearson and Spearman are "
        "correlation coefficients (1 is perfect correlation, 0 is none), MAE is the mean absolute "
        "error. "
        "Of the detections that match no instance, those on a crowd of their class are left out, "
        "and those of a class whose instances may not all be annotated."
    )
    return [
        heading,
        element("p", note, class_="note"),
        *(part for scope in compared_scopes(summary) for part in _scope(summary, keys, scope)),
        plot_figures(plots, CAPTIONS),
    ]


def _scope(summary: dict, keys: list[str], scope: Scope) -> list[Content]:
    """Creates the table of agreement for one scope, with its meaning."""
    rows = []
    for key in keys:
        header = ranking_header(RANKING_OF_SCORE[key], SCORES[key])
        rows.append(row(header, *_agreement(summary[key], scope.suffix)))
        if not scope.suffix:  # a detection that matches no instance has no size of an instance
            for size, statistics in summary[key]["by_size"].items():
                rows.append(row(size, *_agreement(statistics), class_="part"))
    trained_for = scope.trained_for(summary)
    return [
        element("h3", scope.label.capitalize()),
        element("p", scope.meaning, class_="note"),
        element("p", trained_for, class_="note") if trained_for else None,
        table(
            ["", "Pearson", "Spearman", "MAE", "detections"],
            rows,
            f"Agreement with MaskIoU, {scope.label}",
        ),
    ]


def _agreement(statistics: dict, suffix: str = "") -> list[str]:
    *values, n = (statistics[f"{name}{suffix}"] for name in AGREEMENT)
    return [*(number(value, 3) for value in values), f"{n:,}"]
