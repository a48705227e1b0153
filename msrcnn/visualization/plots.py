"""Figures of an evaluation: AP over IoU thresholds, and scores against true MaskIoU."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..evaluation import RANKINGS, AveragePrecision, Evaluation
from ..evaluation.agreement import SCORES, SIZES, compared_scopes, compared_scores
from ..evaluation.coco_metrics import IOU_THRESHOLDS
from .fonts import font_families

# Okabe and Ito's colors, distinguishable for color-blind readers.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY = "#7f7f7f"
# Colors of the rankings in all figures and in the report.
COLORS = {
    "bbox": GREY,
    "bbox_mask_score": PALETTE[5],
    "segm_box_score": PALETTE[1],
    "segm_mask_score": PALETTE[0],
    "segm_mask_confidence": PALETTE[2],
    "segm_oracle_matched": PALETTE[4],
    "segm_oracle": PALETTE[3],
}
LABELS = {
    "bbox": "boxes by box score",
    "bbox_mask_score": "boxes by mask score",
    **{name: text.replace("mask AP", "masks") for name, text in RANKINGS.items()},
}
# The ranking whose color a score has.
RANKING_OF_SCORE = {
    "maskiou": "segm_mask_score",
    "box_score": "segm_box_score",
    "mask_confidence": "segm_mask_confidence",
}
_MARKERS = {
    "bbox": ("x", ":"),
    "bbox_mask_score": ("+", ":"),
    "segm_box_score": ("o", "-"),
    "segm_mask_score": ("s", "-"),
    "segm_mask_confidence": ("^", "-"),
    "segm_oracle_matched": ("d", "--"),
    "segm_oracle": ("D", "--"),
}
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}
WIDTH = 4.6  # inches; text stays legible if the figure is scaled to the width of a phone
DPI = 200
DENSITY_BINS = 32  # along each axis


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Makes a function draw in this module's style, without changing the user's rcParams."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with matplotlib.style.context(["default", _STYLE, {"font.family": font_families()}]):
            return draw(*args, **kwargs)

    return drawn


def draw_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Draws all figures that apply, by name.

    Without masks, only AP of boxes is drawn. Without detections or instances there are no figures.

    Args:
        evaluation: the evaluation.
    """
    figures = {}
    has_instances = any(value is not None for value in evaluation.precision["bbox"].by_iou)
    if has_instances and len(evaluation.detections):
        figures["ap_over_iou"] = draw_ap_over_iou(evaluation.precision)
        if "segm_box_score" in evaluation.precision:
            figures["gain_over_iou"] = draw_gain_over_iou(evaluation.precision)
    if compared_scores(evaluation.summary):
        figures["true_maskiou"] = draw_true_maskiou(evaluation)
        figures["true_maskiou_by_size"] = draw_true_maskiou_by_size(evaluation)
        figures["calibration"] = draw_calibration(evaluation.summary)
    return figures


@styled
def draw_ap_over_iou(precision: dict[str, AveragePrecision]) -> Figure:
    """Draws AP at each IoU threshold, for boxes and for masks under each ranking.

    Args:
        precision: the precision of an :class:`Evaluation`.
    """
    figure, axes = _iou_axes()
    for name, average_precision in precision.items():
        axes.plot(IOU_THRESHOLDS, _as_array(average_precision.by_iou), **_line(name))
    axes.set_ylabel("AP (%)")
    axes.set_ylim(bottom=0)
    _add_legend(figure, axes)
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
            axes.plot(IOU_THRESHOLDS, gain, **_line(name))
    axes.set_ylabel("gain in AP over box score (points)")
    _add_legend(figure, axes)
    return figure


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
        *(2, len(scopes)), sharex=True, sharey="row", height_ratios=[2, 1], squeeze=False
    )
    for scope, (axes, count_axes) in zip(scopes, grid.T):
        axes.set_title(scope.label)
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
        for key in compared_scores(summary):
            line = {**_line(RANKING_OF_SCORE[key]), "label": SCORES[key], "clip_on": False}
            bins = summary[key][f"calibration{scope.suffix}"]
            score = [b["predicted"] for b in bins]
            axes.plot(score, [b["true"] for b in bins], **line)
            count_axes.plot(score, [b["n"] for b in bins], **line)
    axes, count_axes = grid[:, 0]
    axes.set_ylabel("mean true MaskIoU")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1])
    axes.set_ylim(0, 1)
    _add_legend(figure, axes)
    count_axes.set_yscale("log")
    count_axes.set_ylim(bottom=0.8)  # so that the axis has a label at 1
    count_axes.yaxis.set_major_locator(LogLocator(numticks=12))
    count_axes.yaxis.set_major_formatter("{x:,.0f}")
    count_axes.yaxis.set_minor_formatter(NullFormatter())
    count_axes.set_ylabel("detections")
    figure.supxlabel("mean score in each of 10 intervals", fontsize=9)
    return figure


def to_png(figure: Figure) -> bytes:
    """Renders a figure as PNG. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    with matplotlib.style.context("default"):  # savefig reads rcParams, too
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def new_figure(height: float) -> Figure:
    """Creates a figure that pyplot does not keep in memory.

    Args:
        height: height in inches.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)  # lets callers draw the figure and read its pixels
    return figure


def _iou_axes() -> tuple[Figure, Axes]:
    figure = new_figure(3.7)
    axes = figure.subplots()
    axes.set_xlabel("IoU threshold")
    axes.set_xticks(IOU_THRESHOLDS[::2])
    return figure, axes


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Adds a legend above the axes, where it hides no lines."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def _line(ranking: str) -> dict:
    marker, linestyle = _MARKERS[ranking]
    return {
        "color": COLORS[ranking],
        "marker": marker,
        "linestyle": linestyle,
        "label": LABELS[ranking],
    }


def _as_array(values: list[float | None]) -> np.ndarray:
    return np.array(values, dtype=float)  # None becomes NaN


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
