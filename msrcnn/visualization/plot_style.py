"""The style of the figures: colors and names of rankings, size, legend, PNG."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evaluation import RANKINGS
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


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Makes a function draw in this module's style, without changing the user's rcParams."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with matplotlib.style.context(["default", _STYLE, {"font.family": font_families()}]):
            return draw(*args, **kwargs)

    return drawn


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


def add_legend(figure: Figure, axes: Axes) -> None:
    """Adds a legend above the axes, where it hides no lines."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)


def line_style(ranking: str) -> dict:
    """Returns the color, marker, line and label of a ranking, for ``Axes.plot``."""
    marker, linestyle = _MARKERS[ranking]
    return {
        "color": COLORS[ranking],
        "marker": marker,
        "linestyle": linestyle,
        "label": LABELS[ranking],
    }
