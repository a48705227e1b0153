import logging

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from msrcnn.visualization import fonts
from msrcnn.visualization.fonts import LONGEST, as_label, font_families


@pytest.fixture(autouse=True)
def only_matplotlib_fonts(monkeypatch):
    """Hides the fonts of the machine, and what other tests have found."""
    own = {"DejaVu Sans": frozenset(map(ord, "abcdefgx 0123456789\\_$…é\u200d"))}
    monkeypatch.setattr(fonts, "_fallbacks", [])
    monkeypatch.setattr(fonts, "_families", lambda: list(own))
    monkeypatch.setattr(fonts, "_characters", own.__getitem__)
    fonts._warn.cache_clear()
    return own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", "abc"),
        ("$x$", r"\$x\$"),
        (r"a\$", r"a\\$"),
        ("_a", " _a"),
        ("\x07", r"\x07"),
        ("a\ufe0f", "a"),
        ("人", r"\u4eba"),
        ("人" * 20, r"\u4eba" * 8 + "…"),
        ("a" * 999, "a" * LONGEST + "…"),
        ("", ""),
    ],
)
def test_label(text, expected):
    assert as_label(text) == expected


def test_font_is_found_for_a_script(only_matplotlib_fonts, caplog):
    only_matplotlib_fonts["Other Sans"] = frozenset(map(ord, "人"))
    assert as_label("人") == "人"
    assert font_families() == ["DejaVu Sans", "Other Sans"]
    assert not caplog.records


def test_one_warning_says_what_to_install(caplog):
    with caplog.at_level(logging.WARNING):
        as_label("人語")
        as_label("語")
    (record,) = caplog.records
    assert "fonts-noto-cjk" in record.message


def test_numbers_beside_a_name_from_right_to_left_keep_their_order(only_matplotlib_fonts):
    name = "مرحبا"
    only_matplotlib_fonts["DejaVu Sans"] |= frozenset(map(ord, name))
    assert as_label(name) == f"\u200e{name}\u200e"


@pytest.mark.parametrize("text", ["$x_2$", "$", r"\$a\$", r"$\frac{"])
def test_mathematics_is_drawn_as_text(text):
    figure = Figure()
    canvas = FigureCanvasAgg(figure)
    drawn = []
    for options in ({"s": as_label(text)}, {"s": text, "parse_math": False}):
        figure.clear()
        figure.text(0.1, 0.5, **options)
        canvas.draw()
        drawn.append(np.asarray(canvas.buffer_rgba()).copy())
    assert (drawn[0] == drawn[1]).all()
    assert drawn[0].min() < 10  # black
