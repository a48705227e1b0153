import numpy as np
import pytest
from detectron2.utils.visualizer import VisImage

from msrcnn.visualization.overlay import COLORS, MARGIN, Overlay, _move_inside, draw_overlays

NAMES = ["$x^$", "a\x1b[31m\n", "人", "مرحبا", "", "x" * 999, "{0} %s \\", "<b>", "👩‍🚀", "\ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_drawn(name):
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    overlay = Overlay(None, np.array([10, 10, 30, 30]), name, "0.98 | 0.77", COLORS[0])
    plain = overlay._replace(name="", scores="")
    drawn, without_label = (draw_overlays(pixels, 2.0, [each]) for each in (overlay, plain))
    assert drawn != without_label


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 60), (60, 2)])
def test_masks_of_tiny_images(size):
    mask = np.ones(size, dtype=bool)
    overlay = Overlay(mask, np.array([0, 0, size[1], size[0]]), "name", "0.98", COLORS[1])
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    picture = draw_overlays(pixels, 8.0, [overlay])
    assert picture.size == (8 * size[1], 8 * size[0])
    box = draw_overlays(pixels, 8.0, [overlay._replace(mask=None)])
    assert (picture != box) == (size != (1, 1))  # Detectron2 draws no mask of a single pixel


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1)])
def test_no_side_of_a_picture_disappears(size):
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    assert min(draw_overlays(pixels, 0.4, []).size) == 1


@pytest.mark.parametrize("position", [(95, 20), (-5, 20), (50, 59), (50, -9)])
@pytest.mark.parametrize("text", ["a label", "a label that is wider than the picture"])
def test_label_is_moved_inside(position, text):
    output = VisImage(np.zeros((60, 100, 3), dtype=np.uint8))
    label = output.ax.text(*position, text, size=8, verticalalignment="top")
    _move_inside(label, output)
    extent = label.get_window_extent(output.canvas.get_renderer())
    assert extent.x0 >= MARGIN - 1
    assert extent.y0 >= MARGIN - 1
    assert extent.x1 <= 100 - MARGIN + 1
    assert extent.y1 <= 60 - MARGIN + 1


def test_label_inside_stays():
    output = VisImage(np.zeros((60, 100, 3), dtype=np.uint8))
    label = output.ax.text(20, 20, "a", size=8, verticalalignment="top")
    _move_inside(label, output)
    assert label.get_position() == pytest.approx((20, 20))
