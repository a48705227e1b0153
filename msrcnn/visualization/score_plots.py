"""Figures of scores against the true MaskIoU."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..evaluation import Evaluation
from ..evaluation.agreement import SCORES, SIZES, compared_scopes, compared_scores
from .plot_style import COLORS, RANKING_OF_SCORE, add_legend, line_style, new_figure, styled

DENSITY_BINS = 32  # along each axis


@styled
def draw_true_maskiou(evaluation: Evaluation) -> Figure:
    """Draws true MaskIoU against predicted MaskIoU and box score (figures 2 and 5 of the paper).

    Args:
        evaluation: evaluation with at least one detection that matches an instance, see
            :func:`~msrcnn.evaluation.agreement.compared_scores`.
    """
    all_detections = np.ones(len(evaluation.detections), dtype=bool)
    return _draw_densities(evaluation, {None: all_detections})


@styled
def draw_true_maskiou_by_size(evaluation: Evaluation) -> Figure:
    """Draws :func:`draw_true_maskiou` with a row for each size of instance that was detected.

    Args:
        evaluation: see :func:`draw_true_maskiou`.
    """
    area = evaluation.true_maskiou.area
    by_size = {size: (area >= low) & (area < high) for size, (low, high) in SIZES.items()}
    detected = {size: selected for size, selected in by_size.items() if selected.any()}
    return _draw_densities(evaluation, detected)


@styled
def draw_calibration(summary: dict) -> Figure:
    """Draws calibration curves: mean true MaskIoU and number of detections by interval of a score.

    There is a column of axes for each scope, see ``SCOPES``.

    Args:
        summary: the summary of an :class:`Evaluation`, or the content of ``evaluation.json``.
    """
    scopes = compared_scopes(summary)
    figure = new_figure(4.2)
    grid = figure.subplots(
        2, len(scopes), sharex=True, sharey="row", height_ratios=[2, 1], squeeze=False
    )
    for scope, (axes, count_axes) in zip(scopes, grid.T):
        axes.set_title(scope.label)
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
        for key in compared_scores(summary):
            line = {**line_style(RANKING_OF_SCORE[key]), "label": SCORES[key], "clip_on": False}
            bins = summary[key][f"calibration{scope.suffix}"]
            score = [b["predicted"] for b in bins]
            axes.plot(score, [b["true"] for b in bins], **line)
            count_axes.plot(score, [b["n"] for b in bins], **line)
    axes, count_axes = grid[:, 0]
    axes.set_ylabel("mean true MaskIoU")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.set_ylim(0, 1)
    add_legend(figure, axes)
    count_axes.set_yscale("log")
    count_axes.set_ylim(bottom=0.8)  # so that the axis has a label at 1
    count_axes.yaxis.set_major_locator(LogLocator(numticks=12))
    count_axes.yaxis.set_major_formatter("{x:,.0f}")
    count_axes.yaxis.set_minor_formatter(NullFormatter())
    count_axes.set_ylabel("detections")
    figure.supxlabel("mean score in each of 10 intervals", fontsize=9)
    return figure


def _draw_densities(evaluation: Evaluation, rows: dict[str | None, np.ndarray]) -> Figure:
    """Draws 2D histograms of true MaskIoU against predicted MaskIoU and box score.

    In scatter plots of large datasets, points would hide each other.

    Args:
        evaluation: see :func:`draw_true_maskiou`.
        rows: for each row of the figure, its label and a bool array of shape (N,) that selects the
            detections.
    """
    # The same scores as in the paper's figures.
    detections = evaluation.detections
    columns = {"maskiou": detections.maskiou, "box_score": detections.score}
    keys = [key for key in compared_scores(evaluation.summary) if key in columns]
    true = evaluation.true_maskiou.matched
    edges = np.linspace(0, 1, DENSITY_BINS + 1)
    counts = {
        (size, key): np.histogram2d(columns[key][drawn], true[drawn], bins=(edges, edges))[0]
        for size, selected in rows.items()
        for drawn in [selected & ~np.isnan(true)]
        for key in keys
    }
    most = int(max(cells.max() for cells in counts.values()))

    figure = new_figure(0.65 + 2.1 * len(rows))
    grid = figure.subplots(len(rows), len(keys), sharex="col", sharey=True, squeeze=False)
    for axes, ((size, key), cells) in zip(grid.flat, counts.items()):
        statistics = evaluation.summary[key]
        if size is not None:
            statistics = statistics["by_size"][size]
        _draw_cells(axes, edges, cells, COLORS[RANKING_OF_SCORE[key]], most)
        axes.set_title(", ".join(filter(None, [size, _pearson(statistics)])))
    for axes, key in zip(grid[-1], keys):
        axes.set_xlabel(SCORES[key])
    figure.supylabel("true MaskIoU", fontsize=9)
    figure.suptitle(f"darker: more detections (at most {most:,} per cell)", fontsize=8)
    return figure


def _draw_cells(axes: Axes, edges: np.ndarray, cells: np.ndarray, color: str, most: int) -> None:
    shades = LinearSegmentedColormap.from_list(color, [_tint(color), color, "#101010"])
    visible = np.ma.masked_equal(cells.T, 0)
    axes.pcolormesh(edges, edges, visible, cmap=shades, norm=LogNorm(1, max(most, 2)))
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    axes.set_aspect("equal")
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])


def _tint(color: str) -> tuple[float, ...]:
    """Returns a light tint of a color."""
    return tuple(1 - 0.25 * (1 - value) for value in to_rgb(color))


def _pearson(statistics: dict) -> str:
    value = statistics["pearson"]
    return "correlation undefined" if value is None else f"Pearson {value:.2f}"
