"""Figures of a sweep: AP by variant, and AP against the cost of the head if it is reported."""

import itertools
import math
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .fonts import as_label
from .plot_style import GREY, PALETTE, new_figure, styled

BASELINE_COLOR, VARIANT_COLOR, PUBLISHED_COLOR = GREY, PALETTE[0], PALETTE[1]
COST = "cost/multiply_adds"
CURVES = {"segm_box_score": "by box score", "segm_mask_score": "by mask score, joint head"}
ROW_HEIGHT = 0.42  # inches
SEEDS_BELOW = 0.2  # rows between a variant and the dots of its seeds
LABEL_WIDTH = 24  # characters
LONGEST_TITLE = 200


@styled
def draw_variants(results: dict) -> Figure:
    """Draws the first column by variant, and below it the difference from the baseline.

    The upper plot has mean and standard deviation, a dot per seed, and published numbers if they
    are comparable; the lower one the difference with its 95% interval.

    Args:
        results: see :func:`msrcnn.ablation.collect.collect`; at least one run is finished.
    """
    column = next(iter(results["columns"]))
    variants = _finished(results, column)
    compared = {name: each for name, each in variants.items() if each["difference"]}
    rows = [len(variants), *([len(compared)] if compared else [])]
    figure = new_figure(sum(1.0 + ROW_HEIGHT * count for count in rows))
    axes = figure.subplots(len(rows), squeeze=False, height_ratios=[count + 0.8 for count in rows])
    _draw_means(axes[0, 0], results, variants)
    axes[0, 0].set_title(_title(results), loc="left")
    if compared:
        _draw_differences(axes[1, 0], results, compared)
    return figure


def _draw_means(axes: Axes, results: dict, variants: dict[str, dict]) -> None:
    column = next(iter(results["columns"]))
    for row, (name, variant) in enumerate(variants.items()):
        color = BASELINE_COLOR if name == results["baseline"] else VARIANT_COLOR
        seeds = [run["values"][column] for run in variant["runs"]]
        below = [row + SEEDS_BELOW] * len(seeds)
        axes.plot(seeds, below, ".", color=color, markersize=4, alpha=0.7)
        mean, std = variant["mean"][column], variant["std"][column]
        axes.errorbar(mean, row, xerr=std, fmt="o", color=color, capsize=3)
        if results["comparable"] and column in variant["published"]:
            published = variant["published"][column]
            axes.plot(published, row, "D", color=PUBLISHED_COLOR, fillstyle="none")
    baseline = variants.get(results["baseline"])
    if baseline:
        axes.axvline(baseline["mean"][column], color=BASELINE_COLOR, linewidth=0.8, linestyle=":")
    box_score = (results["detector"] or {}).get("segm_box_score")
    if box_score and results["columns"][column] == "segm_mask_score/AP":
        by_box = box_score["AP"]
        axes.axvline(by_box, color=PUBLISHED_COLOR, linewidth=0.8, linestyle="--")
        axes.annotate(
            "by box score",
            (by_box, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, -8),
            textcoords="offset points",
            fontsize=7,
        )
    published = "\ndiamonds: published" if results["comparable"] else ""
    axes.set_xlabel(f"{column}, {_spread(results)}{published}")
    _label_rows(axes, variants)


def _draw_differences(axes: Axes, results: dict, variants: dict[str, dict]) -> None:
    for row, variant in enumerate(variants.values()):
        mean, interval = variant["difference"]["mean"], variant["difference"]["ci95"]
        reach = [[mean - interval[0]], [interval[1] - mean]] if interval else None
        axes.errorbar(mean, row, xerr=reach, fmt="o", color=VARIANT_COLOR, capsize=3)
    axes.axvline(0, color=BASELINE_COLOR, linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"{next(iter(results['columns']))} over baseline, 95% interval")
    _label_rows(axes, variants)


def _label_rows(axes: Axes, variants: dict[str, dict]) -> None:
    labels = [_wrapped(variant["label"]) for variant in variants.values()]
    axes.set_yticks(range(len(variants)), labels)
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


@styled
def draw_cost(results: dict) -> Figure:
    """Draws the first column, mean and standard deviation, against the head's multiply-adds.

    Args:
        results: see :func:`draw_variants`; the sweep reports the cost.
    """
    column = next(iter(results["columns"]))
    cost_column = next(c for c, key in results["columns"].items() if key == COST)
    variants = _finished(results, column)
    figure = new_figure(2.4 + 0.2 * len(variants))
    axes = figure.subplots()
    costs = []
    for variant, color in zip(variants.values(), itertools.cycle(PALETTE)):
        costs.append((variant["mean"][cost_column] or 0) / 1e6)
        mean, std = variant["mean"][column], variant["std"][column]
        axes.errorbar(
            costs[-1], mean, yerr=std, fmt="o", color=color, capsize=3, label=variant["label"]
        )
    # Some heads cost nothing, and a logarithmic axis has no 0.
    linear = min((cost for cost in costs if cost > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_xlim(-linear / 2, 3 * max(*costs, linear))
    decades = range(math.ceil(math.log10(linear)), math.ceil(math.log10(3 * max(*costs, linear))))
    axes.set_xticks([0.0, *(10.0**decade for decade in decades)])
    axes.minorticks_off()
    axes.margins(y=0.2)
    axes.set_xlabel("multiply-adds of the MaskIoU head for a proposal (millions)")
    axes.set_ylabel(column)
    figure.legend(loc="outside lower center")
    axes.set_title(_title(results), loc="left")
    return figure


@styled
def draw_learning_curves(results: dict) -> Figure:
    """Draws the mask AP of the detectors over their training, by box score and by mask score.

    Args:
        results: see :func:`draw_variants`; a detector was evaluated during its training.
    """
    figure = new_figure(2.8)
    axes = figure.subplots()
    for (ranking, label), color in zip(CURVES.items(), (BASELINE_COLOR, VARIANT_COLOR)):
        for curve in results["learning_curves"].values():
            points = [point for point in curve if ranking in point]
            if not points:  # a detector without a head of its own
                continue
            iterations = [point["iteration"] for point in points]
            aps = [point[ranking] for point in points]
            axes.plot(iterations, aps, "o-", color=color, markersize=3, label=label)
            label = None  # once in the legend
    axes.set_xlabel("iteration, a line per seed")
    axes.set_ylabel("mask AP of the detector")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    axes.set_title(_title(results), loc="left")
    return figure


FIGURES = {"plot": draw_variants, "cost": draw_cost, "learning_curve": draw_learning_curves}


def draw_sweep(results: dict) -> dict[str, Figure]:
    """Draws all figures that apply; none if no run is finished.

    Returns:
        The figures by the name of their file.
    """
    results = _with_labels(results)
    column = next(iter(results["columns"]))
    if not _finished(results, column):
        return {}
    applying = ["plot"]
    if COST in results["columns"].values():
        applying.append("cost")
    if any(len(curve) > 1 for curve in results["learning_curves"].values()):
        applying.append("learning_curve")
    return {name: FIGURES[name](results) for name in applying}


def _with_labels(content: Any) -> Any:
    """Returns a copy in which all text, also of keys, can be drawn."""
    if isinstance(content, dict):
        return {_with_labels(key): _with_labels(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_labels(value) for value in content]
    return as_label(content, LONGEST_TITLE) if isinstance(content, str) else content


def _finished(results: dict, column: str) -> dict[str, dict]:
    return {
        name: variant
        for name, variant in results["variants"].items()
        if variant["mean"][column] is not None
    }


def _wrapped(label: str) -> str:
    return textwrap.fill(label, LABEL_WIDTH, break_on_hyphens=False)


def _spread(results: dict) -> str:
    seeds = max(len(variant["runs"]) for variant in results["variants"].values())
    return f"mean ± std of {seeds} seeds (dots)" if seeds > 1 else "one seed"


def _title(results: dict) -> str:
    return f"{results['title']}\n{results['protocol']['label']}"
