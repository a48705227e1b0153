"""Figures of an evaluation: AP over IoU thresholds, and scores beside the true MaskIoU."""

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
from ..evaluation.coco_metrics import IOU_THRESHOLDS
from ..evaluation.mask_quality import SIZES

# Okabe and Ito's, to be told apart by colour-blind readers too.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY = "#7f7f7f"
# Of each ranking everywhere.
COLORS = {
    "bbox": GREY,
    "segm_box_score": PALETTE[1],
    "segm_mask_score": PALETTE[0],
    "segm_mask_confidence": PALETTE[2],
    "segm_oracle": PALETTE[3],
}
LABELS = {
    "bbox": "boxes by box score",
    **{name: text.replace("mask AP", "masks") for name, text in RANKINGS.items()},
}
# What is compared with the true MaskIoU, by its key in evaluation.json: what a person calls it,
# and the ranking that it makes.
SCORES = {
    "maskiou": ("predicted MaskIoU", "segm_mask_score"),
    "box_score": ("box score", "segm_box_score"),
    "mask_confidence": ("mask confidence", "segm_mask_confidence"),
}
_MARKERS = {
    "bbox": ("x", ":"),
    "segm_box_score": ("o", "-"),
    "segm_mask_score": ("s", "-"),
    "segm_mask_confidence": ("^", "-"),
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
WIDTH = 4.6  # inches, of every figure: letters stay legible at the width of a phone
DPI = 200
DENSITY_BINS = 32  # along each side


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in our style whatever the user's own is, and leave that as it was."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with matplotlib.style.context(["default", _STYLE]):
            return draw(*args, **kwargs)

    return drawn


def draw_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """All figures that apply, by name.

    A box detector has no masks to judge, and where nothing was found there is nothing to draw.
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


def compared_scores(summary: dict) -> list[str]:
    """The keys of ``SCORES`` that were compared with the true MaskIoU of some detection.

    Args:
        summary: of an :class:`Evaluation`.
    """
    return [key for key in SCORES if summary[key] is not None and summary[key]["n"]]


@styled
def draw_ap_over_iou(precision: dict[str, AveragePrecision]) -> Figure:
    """AP at each IoU threshold, of boxes and of masks under each ranking.

    Args:
        precision: of an :class:`Evaluation`.
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
    """What each ranking of masks gains over the box score at each IoU threshold.

    Args:
        precision: of an :class:`Evaluation` with masks.
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
    """True MaskIoU over predicted MaskIoU, and over the box score (the paper's figures 2 and 5).

    Args:
        evaluation: with at least one detection on an instance, see :func:`compared_scores`.
    """
    everything = np.ones(len(evaluation.detections), dtype=bool)
    return _draw_densities(evaluation, {None: everything})


@styled
def draw_true_maskiou_by_size(evaluation: Evaluation) -> Figure:
    """:func:`draw_true_maskiou` of small, medium and large instances, those found, in rows.

    Args:
        evaluation: see :func:`draw_true_maskiou`.
    """
    area = evaluation.true_maskiou.area
    of_size = {size: (area >= low) & (area < high) for size, (low, high) in SIZES.items()}
    found = {size: chosen for size, chosen in of_size.items() if chosen.any()}
    return _draw_densities(evaluation, found)


@styled
def draw_calibration(summary: dict) -> Figure:
    """Mean true MaskIoU over each score, in intervals of the score; below how many each holds.

    Args:
        summary: of an :class:`Evaluation`, or read from ``evaluation.json``.
    """
    figure = new_figure(5.0)
    axes, count_axes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    for key in compared_scores(summary):
        label, ranking = SCORES[key]
        bins = summary[key]["calibration"]
        score = [b["predicted"] for b in bins]
        axes.plot(score, [b["true"] for b in bins], **{**_line(ranking), "label": label})
        count_axes.plot(score, [b["n"] for b in bins], **_line(ranking))
    axes.set_ylabel("true MaskIoU, mean")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _add_legend(figure, axes)
    count_axes.set_yscale("log")
    count_axes.set_ylim(bottom=0.8)  # so that there is a 1 to read the scale by
    count_axes.yaxis.set_major_locator(LogLocator(numticks=12))
    count_axes.yaxis.set_major_formatter("{x:,.0f}")
    count_axes.yaxis.set_minor_formatter(NullFormatter())
    count_axes.set_ylabel("detections")
    count_axes.set_xlabel("score, mean of each tenth")
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.style.context("default"):  # of saving, too
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def new_figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)  # so that it can be drawn and its pixels be had
    return figure


def _iou_axes() -> tuple[Figure, Axes]:
    figure = new_figure(3.7)
    axes = figure.subplots()
    axes.set_xlabel("IoU threshold")
    axes.set_xticks(IOU_THRESHOLDS[::2])
    return figure, axes


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, where it hides no line."""
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
    """How many detections have which score and which true MaskIoU.

    Histograms, for half a million points would hide one another.

    Args:
        evaluation: see :func:`draw_true_maskiou`.
        rows: the detections in each row, of shape (N,), by the size of their instances.
    """
    # The two of the paper's figure.
    detections = evaluation.detections
    columns = {"maskiou": detections.maskiou, "box_score": detections.score}
    keys = [key for key in compared_scores(evaluation.summary) if key in columns]
    true = evaluation.true_maskiou.matched
    edges = np.linspace(0, 1, DENSITY_BINS + 1)
    counts = {
        (size, key): np.histogram2d(columns[key][counted], true[counted], bins=(edges, edges))[0]
        for size, chosen in rows.items()
        for counted in [chosen & ~np.isnan(true)]
        for key in keys
    }
    most = int(max(cells.max() for cells in counts.values()))

    figure = new_figure(0.65 + 2.1 * len(rows))
    grid = figure.subplots(len(rows), len(keys), sharex="col", sharey=True, squeeze=False)
    for axes, ((size, key), cells) in zip(grid.flat, counts.items()):
        statistics = evaluation.summary[key]
        if size is not None:
            statistics = statistics["by_size"][size]
        ranking = SCORES[key][1]
        _draw_cells(axes, edges, cells, COLORS[ranking], most)
        axes.set_title(", ".join(filter(None, [size, _pearson(statistics)])))
    for axes, key in zip(grid[-1], keys):
        axes.set_xlabel(SCORES[key][0])
    figure.supylabel("true MaskIoU", fontsize=9)
    figure.suptitle(f"darker: more detections, up to {most:,} in a cell", fontsize=8)
    return figure


def _draw_cells(axes: Axes, edges: np.ndarray, cells: np.ndarray, color: str, most: int) -> None:
    shades = LinearSegmentedColormap.from_list(color, [_tint(color), color, "#101010"])
    filled = np.ma.masked_equal(cells.T, 0)
    axes.pcolormesh(edges, edges, filled, cmap=shades, norm=LogNorm(1, max(most, 2)))
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    axes.set_aspect("equal")
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])


def _tint(color: str) -> tuple[float, ...]:
    """Mostly white."""
    return tuple(1 - 0.25 * (1 - value) for value in to_rgb(color))


def _pearson(statistics: dict) -> str:
    value = statistics["pearson"]
    return "no correlation defined" if value is None else f"Pearson {value:.2f}"
