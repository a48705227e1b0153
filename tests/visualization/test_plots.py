import copy
import dataclasses
import io
import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT
from matplotlib.collections import QuadMesh
from PIL import Image

from msrcnn.evaluation.agreement import SIZES
from msrcnn.visualization import draw_figures
from msrcnn.visualization.ap_plots import (
    draw_ap_over_iou,
    draw_gain_over_iou,
    draw_precision_recall,
)
from msrcnn.visualization.plot_style import COLORS, DPI, LABELS, WIDTH, to_png
from msrcnn.visualization.score_plots import (
    DENSITY_BINS,
    draw_calibration,
    draw_true_maskiou,
    draw_true_maskiou_by_size,
)


def lines(axes):
    """Points and color of each labeled line, by label."""
    return {
        line.get_label(): (line.get_xydata(), line.get_color())
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def cells(axes) -> np.ndarray:
    """Number of detections in each cell of a 2D histogram, rows by true MaskIoU."""
    (mesh,) = (artist for artist in axes.collections if isinstance(artist, QuadMesh))
    return mesh.get_array().filled(0).reshape(DENSITY_BINS, DENSITY_BINS)


def test_ap_over_iou(evaluation):
    found = lines(draw_ap_over_iou(evaluation.precision).axes[0])
    assert list(found) == [LABELS[name] for name in evaluation.precision]
    for name, precision in evaluation.precision.items():
        points, color = found[LABELS[name]]
        np.testing.assert_allclose(points[:, 0], np.arange(50, 100, 5) / 100)
        np.testing.assert_allclose(points[:, 1], precision.by_iou)
        assert color == COLORS[name]


def test_gain_over_iou(evaluation):
    found = lines(draw_gain_over_iou(evaluation.precision).axes[0])
    assert len(found) == 5
    before = np.array(evaluation.precision["segm_box_score"].by_iou)
    after = np.array(evaluation.precision["segm_mask_score"].by_iou)
    assert np.abs(after - before).max() > 0.5
    np.testing.assert_allclose(found[LABELS["segm_mask_score"]][0][:, 1], after - before)
    assert not found[LABELS["segm_box_score"]][0][:, 1].any()


def test_precision_recall(evaluation):
    found = lines(draw_precision_recall(evaluation.summary).axes[0])
    assert len(found) == 6
    for name in ("segm_box_score", "segm_mask_score"):
        precision = evaluation.precision[name].precision[..., 0]  # no class is without instances
        for iou, part in (("0.50", [0]), ("0.75", [5]), ("0.50:0.95", range(10))):
            points, color = found[f"{LABELS[name]}, {iou}"]
            assert color == COLORS[name]
            np.testing.assert_allclose(points[:, 0], np.arange(101) / 100)
            expected = 100 * precision[list(part)].mean(axis=(0, 2))
            np.testing.assert_allclose(points[:, 1], expected)


def histogram(scores, true) -> np.ndarray:
    """The 2D histogram of a figure, computed with plain Python."""
    expected = np.zeros((DENSITY_BINS, DENSITY_BINS))
    for x, y in zip(scores, true):
        if not np.isnan(y):
            column, row = (min(int(value * DENSITY_BINS), DENSITY_BINS - 1) for value in (x, y))
            expected[row, column] += 1
    return expected


def test_true_maskiou_over_scores(evaluation):
    predicted, box = draw_true_maskiou(evaluation).axes
    true = evaluation.true_maskiou.matched
    np.testing.assert_array_equal(cells(predicted), histogram(evaluation.detections.maskiou, true))
    np.testing.assert_array_equal(cells(box), histogram(evaluation.detections.score, true))
    assert predicted.get_title() == f"Pearson {evaluation.summary['maskiou']['pearson']:.2f}"
    assert box.get_title() == f"Pearson {evaluation.summary['box_score']['pearson']:.2f}"
    assert (predicted.get_xlabel(), box.get_xlabel()) == ("predicted MaskIoU", "box score")


def test_true_maskiou_by_size(evaluation):
    by_size = evaluation.summary["maskiou"]["by_size"]
    found = [size for size in SIZES if by_size[size]["n"]]
    assert found == ["small", "medium"]  # no large instances, so no row for them
    axes = draw_true_maskiou_by_size(evaluation).axes
    assert len(axes) == 4
    for size, (predicted, box) in zip(found, (axes[:2], axes[2:])):
        assert cells(predicted).sum() == cells(box).sum() == by_size[size]["n"]
        assert predicted.get_title() == f"{size}, Pearson {by_size[size]['pearson']:.2f}"


def test_calibration(evaluation):
    summary = copy.deepcopy(evaluation.summary)
    for key in ("maskiou", "box_score", "mask_confidence"):
        for each in summary[key]["calibration_all"]:  # to differ from matched detections
            each.update(true=each["true"] / 2, n=each["n"] + 1)
    grid = draw_calibration(summary).axes
    ranking = {
        "maskiou": "segm_mask_score",
        "box_score": "segm_box_score",
        "mask_confidence": "segm_mask_confidence",
    }
    titles = ("matched detections", "all detections")
    for suffix, title, axes, counts in zip(("", "_all"), titles, grid[:2], grid[2:], strict=True):
        assert axes.get_title() == title
        by_color = {color: points for points, color in lines(axes).values()}
        counts_by_color = {color: points for points, color in lines(counts).values()}
        for key, name in ranking.items():
            bins = summary[key][f"calibration{suffix}"]
            expected = [(b["predicted"], b["true"]) for b in bins]
            np.testing.assert_allclose(by_color[COLORS[name]], expected)
            assert counts_by_color[COLORS[name]][:, 1].tolist() == [b["n"] for b in bins]


def test_calibration_of_an_older_file():
    """Its scores were compared over matched detections only."""
    summary = json.loads((ROOT / "docs" / "results" / "nuclei_maskiou_head.json").read_text())[
        "evaluation"
    ]
    axes, _ = draw_calibration(summary).axes
    assert axes.get_title() == "matched detections"
    points, _ = lines(axes)["predicted MaskIoU"]
    bins = summary["maskiou"]["calibration"]
    np.testing.assert_allclose(points, [(b["predicted"], b["true"]) for b in bins])


def test_rankings_differ_in_color_and_marker(evaluation):
    drawn = draw_ap_over_iou(evaluation.precision).axes[0].get_lines()
    assert len({line.get_color() for line in drawn}) == len(drawn) == 7
    assert len({line.get_marker() for line in drawn}) == len(drawn)


def test_figures_that_do_not_apply_are_left_out(any_evaluation):
    figures = draw_figures(any_evaluation)
    has_instances = any_evaluation.summary["bbox"]["AP"] is not None
    something = has_instances and len(any_evaluation.detections) > 0
    assert ("ap_over_iou" in figures) == something
    has_masks = any_evaluation.true_maskiou is not None
    assert ("gain_over_iou" in figures) == (something and has_masks)
    on_instances = has_masks and not np.isnan(any_evaluation.true_maskiou.matched).all()
    for name in ("true_maskiou", "true_maskiou_by_size", "calibration"):
        assert (name in figures) == on_instances
    if on_instances:
        panels = 1 + (any_evaluation.detections.maskiou is not None)
        assert len(figures["true_maskiou"].axes) == panels


def test_png_files_are_reproducible(evaluation):
    first, second = (
        {name: to_png(figure) for name, figure in draw_figures(evaluation).items()}
        for _ in range(2)
    )
    assert first == second
    assert len(first) == 6
    for content in first.values():
        picture = Image.open(io.BytesIO(content))
        assert abs(picture.width - WIDTH * DPI) <= 1  # matplotlib rounds up or down
        assert len(np.unique(picture.convert("L"))) > 10  # not blank


def test_rcparams_are_neither_used_nor_changed(evaluation):
    expected = to_png(draw_true_maskiou(evaluation))
    with matplotlib.rc_context():
        plt.style.use("dark_background")
        matplotlib.rcParams["font.size"] = 30
        matplotlib.rcParams["savefig.transparent"] = True
        before = dict(matplotlib.rcParams)
        assert to_png(draw_true_maskiou(evaluation)) == expected
        assert dict(matplotlib.rcParams) == before
    assert not plt.get_fignums()  # pyplot keeps no figure


def test_figures_have_a_canvas(evaluation):
    """TensorBoard's ``add_figure`` reads the pixels of a figure from its canvas."""
    figure = draw_calibration(evaluation.summary)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    assert pixels.shape[2] == 4
    assert pixels.std() > 1


def test_half_a_million_detections(large_evaluation, evaluation):
    times = len(large_evaluation.detections) // len(evaluation.detections)
    assert len(large_evaluation.detections) >= 500_000
    one, many = (cells(draw_true_maskiou(e).axes[0]) for e in (evaluation, large_evaluation))
    np.testing.assert_array_equal(many, one * times)


@pytest.mark.parametrize("key", ["maskiou", "box_score"])
def test_undefined_correlation(evaluation, key):
    summary = copy.deepcopy(evaluation.summary)
    summary[key]["pearson"] = None
    figure = draw_true_maskiou(dataclasses.replace(evaluation, summary=summary))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[["maskiou", "box_score"].index(key)] == "correlation undefined"
