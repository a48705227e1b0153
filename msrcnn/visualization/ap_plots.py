"""Figures of AP over IoU thresholds, and of precision over recall."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation import RANKINGS, AveragePrecision
from ..evaluation.coco_metrics import IOU_THRESHOLDS
from .plot_style import COLORS, LABELS, add_legend, line_style, new_figure, styled

CURVE_STYLES = {"0.50": "-", "0.75": "--", "0.50:0.95": ":"}  # by IoU threshold


@styled
def draw_ap_over_iou(precision: dict[str, AveragePrecision]) -> Figure:
    """Draws AP at each IoU threshold, for boxes and for masks under each ranking.

    Args:
        precision: the precision of an :class:`Evaluation`.
    """
    figure, axes = _iou_axes()
    for name, average_precision in precision.items():
        axes.plot(IOU_THRESHOLDS, _as_array(average_precision.by_iou), **line_style(name))
    axes.set_ylabel("AP (%)")
    axes.set_ylim(bottom=0)
    add_legend(figure, axes)
    return figure


@styled
def draw_gain_over_iou(precision: dict[str, AveragePrecision]) -> Figure:
    """Draws the gain in AP of each ranking of masks over the box score, at each IoU threshold.

    Args:
        precision: the precision of an :class:`Evaluation` with masks.
    """
    figure, axes = _iou_axes()
    before = _as_array(precision["segm_box_score"].by_iou)
    for name in RANKINGS:
        if name in precision:
            gain = _as_array(precision[name].by_iou) - before
            axes.plot(IOU_THRESHOLDS, gain, **line_style(name))
    axes.set_ylabel("gain in AP over box score (points)")
    add_legend(figure, axes)
    return figure


@styled
def draw_precision_recall(summary: dict) -> Figure:
    """Draws precision over recall, averaged over classes, at IoU 0.5, 0.75 and 0.5 to 0.95.

    Args:
        summary: the summary of an :class:`Evaluation`, or the content of ``evaluation.json``.
    """
    figure = new_figure(3.7)
    axes = figure.subplots()
    recall, *_ = curves = list(summary["precision_recall"].values())
    for name, of_ranking in zip(list(summary["precision_recall"])[1:], curves[1:]):
        for iou, precision in of_ranking.items():
            axes.plot(
                recall,
                _as_array(precision),
                color=COLORS[name],
                linestyle=CURVE_STYLES[iou],
                label=f"{LABELS[name]}, {iou}",
            )
    axes.set_xlabel("recall")
    axes.set_ylabel("precision (%)")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 100)
    add_legend(figure, axes)
    return figure


def _iou_axes() -> tuple[Figure, Axes]:
    figure = new_figure(3.7)
    axes = figure.subplots()
    axes.set_xlabel("IoU threshold")
    axes.set_xticks(IOU_THRESHOLDS[::2])
    return figure, axes


def _as_array(values: list[float | None]) -> np.ndarray:
    return np.array(values, dtype=float)  # None becomes NaN
