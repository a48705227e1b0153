import pytest
from matplotlib.figure import Figure

from msrcnn.visualization.ablation_plot import COLORS, draw_cost, draw_sweep, draw_variants
from msrcnn.visualization.plots import to_png


@pytest.fixture
def results():
    """Of a sweep with more variants than colours."""

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
        }

    return {
        "title": "Made",
        "protocol": {"name": "full", "head_only": False, "seeds": [1, 2, 3]},
        "columns": {"AP": "segm_mask_score/AP", "cost": "cost/multiply_adds"},
        "baseline": "0",
        "comparable": True,
        "detector": None,
        "variants": {str(index): variant(index) for index in range(len(COLORS) + 2)},
    }


def markers(figure):
    return [line.get_marker() for line in figure.axes[0].lines]


def test_every_variant_with_its_seeds(results):
    figure = draw_variants(results)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"variant {index}" for index in range(8)]
    seeds = [line for line in axes.lines if line.get_marker() == "|" and len(line.get_xdata()) == 2]
    assert [list(line.get_xdata()) for line in seeds[:1]] == [[30.05, 30.1]]
    assert "2 seeds" in axes.get_xlabel()  # those that there are


def test_published_numbers_where_they_compare(results):
    assert markers(draw_variants(results)).count("D") == 1
    results["comparable"] = False
    assert markers(draw_variants(results)).count("D") == 0


def test_the_detector_of_head_only_sweeps_is_a_line(results):
    before = len(draw_variants(results).axes[0].lines)
    results["detector"] = {"segm_box_score": {"AP": 29.0}}
    assert len(draw_variants(results).axes[0].lines) == before + 1


def test_cost_of_more_variants_than_colours(results):
    legend = draw_cost(results).axes[0].get_legend()
    assert len(legend.get_texts()) == len(results["variants"])


def test_what_applies_is_drawn(results):
    assert set(draw_sweep(results)) == {"plot", "cost"}
    del results["columns"]["cost"]
    figures = draw_sweep(results)
    assert set(figures) == {"plot"}
    assert isinstance(figures["plot"], Figure)
    assert to_png(figures["plot"]).startswith(b"\x89PNG")
    for variant in results["variants"].values():
        variant["mean"]["AP"] = None
    assert draw_sweep(results) == {}
