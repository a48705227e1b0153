import itertools

import pytest
from matplotlib.figure import Figure

from msrcnn.visualization.ablation_plot import (
    draw_cost,
    draw_learning_curves,
    draw_sweep,
    draw_variants,
)
from msrcnn.visualization.plot_style import PALETTE, to_png


@pytest.fixture
def results():
    """Results of a sweep with more variants than colors."""

    def interval(index):  # one variant has none
        return [index / 10 - 0.2, index / 10 + 0.3] if index > 1 else None

    def variant(index):
        return {
            "label": f"variant {index}",
            "published": {"AP": 29.3} if index == 0 else {},
            "runs": [
                {"seed": seed, "values": {"AP": 30 + index / 10 + seed / 20, "cost": 1e6 * index}}
                for seed in (1, 2)
            ],
            "mean": {"AP": 30 + index / 10, "cost": 1e6 * index},
            "std": {"AP": 0.05 if index else None, "cost": 0.0},
            "difference": {"mean": index / 10, "ci95": interval(index)} if index else None,
        }

    return {
        "title": "Sample",
        "protocol": {"label": "full protocol"},
        "columns": {"AP": "segm_mask_score/AP", "cost": "cost/multiply_adds"},
        "baseline": "0",
        "comparable": True,
        "detector": None,
        "learning_curves": {},
        "variants": {str(index): variant(index) for index in range(len(PALETTE) + 2)},
    }


def markers(figure):
    return [line.get_marker() for line in figure.axes[0].lines]


def test_every_variant_with_its_seeds(results):
    figure = draw_variants(results)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"variant {index}" for index in range(8)]
    seeds = [line for line in axes.lines if line.get_marker() == "." and len(line.get_xdata()) == 2]
    assert [list(line.get_xdata()) for line in seeds[:1]] == [[30.05, 30.1]]
    assert "2 seeds" in axes.get_xlabel()  # the finished ones


def test_differences_from_the_baseline_with_their_intervals(results):
    _, differences = draw_variants(results).axes
    labels = [label.get_text() for label in differences.get_yticklabels()]
    assert labels == [f"variant {index}" for index in range(1, 8)]  # not the baseline itself
    assert [line.get_xdata()[0] for line in differences.lines if line.get_marker() == "o"] == (
        pytest.approx([index / 10 for index in range(1, 8)])
    )
    (ends,) = differences.containers[1].lines[2][0].get_segments()
    assert list(ends[:, 0]) == pytest.approx([0.0, 0.5])
    for variant in results["variants"].values():
        variant["difference"] = None
    assert len(draw_variants(results).axes) == 1


def test_text_fits_into_the_figure(results):
    results["title"] = "A title as long as the title of a sweep may be"
    results["variants"]["1"]["label"] = "a label that is too long for one line of the figure"
    figure = draw_variants(results)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in (axes.xaxis.label, axes.title, *axes.get_yticklabels()):
            box = text.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1


def test_published_numbers_only_if_they_are_comparable(results):
    assert markers(draw_variants(results)).count("D") == 1
    results["comparable"] = False
    assert markers(draw_variants(results)).count("D") == 0


def test_the_detector_of_head_only_sweeps_is_a_line(results):
    before = len(draw_variants(results).axes[0].lines)
    results["detector"] = {"segm_box_score": {"AP": 29.0}}
    assert len(draw_variants(results).axes[0].lines) == before + 1
    results["detector"] = {"segm_box_score": None}
    assert len(draw_variants(results).axes[0].lines) == before


def test_cost_of_more_variants_than_colors(results):
    (legend,) = draw_cost(results).legends
    assert len(legend.get_texts()) == len(results["variants"])


def test_ticks_of_the_cost_do_not_overlap(results):
    for index, variant in enumerate(results["variants"].values()):
        variant["mean"]["cost"] = [0.0, 1.2e4, 2.4e7][index % 3]
    figure = draw_cost(results)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert list(axes.get_xticks()) == pytest.approx([0, 0.1, 1, 10])
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0


def test_figures_that_apply_are_drawn(results):
    assert set(draw_sweep(results)) == {"plot", "cost"}
    del results["columns"]["cost"]
    figures = draw_sweep(results)
    assert set(figures) == {"plot"}
    assert isinstance(figures["plot"], Figure)
    assert to_png(figures["plot"]).startswith(b"\x89PNG")
    for variant in results["variants"].values():
        variant["mean"]["AP"] = None
    assert draw_sweep(results) == {}


def test_learning_curves_of_joint_and_plain_detectors(results):
    joint = [{"segm_box_score": 20.0 + i, "segm_mask_score": 21.0 + i} for i in range(3)]
    plain = [{"segm_box_score": 30.0 + i} for i in range(2)]
    results["learning_curves"] = {
        str(seed): [{"iteration": 10 * (i + 1), "bbox": 50.0, **p} for i, p in enumerate(points)]
        for seed, points in ((1, joint), (2, plain))
    }
    assert "learning_curve" in draw_sweep(results)
    (axes,) = draw_learning_curves(results).axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert ([10, 20, 30], [20, 21, 22]) in lines
    assert ([10, 20, 30], [21, 22, 23]) in lines
    assert ([10, 20], [30, 31]) in lines
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["by box score", "by mask score, joint head"]


def test_a_single_evaluation_is_no_learning_curve(results):
    results["learning_curves"] = {"1": [{"iteration": 10, "segm_box_score": 20.0}]}
    assert "learning_curve" not in draw_sweep(results)
