"""Text of any script in figures: fonts that have its characters, and no mathematical markup."""

from __future__ import annotations

import functools
import logging
import unicodedata

from matplotlib import font_manager
from matplotlib.font_manager import fontManager

from ..escaping import JOINERS, printable

logger = logging.getLogger(__name__)

BASE = "DejaVu Sans"  # matplotlib's own
# Fonts with shapes for typesetting mathematics, and one with a box for every character.
UNFIT = ("Last Resort", "STIXNon", "STIXSiz", "cm")
LONGEST = 48  # characters of a label
RIGHT_TO_LEFT = ("R", "AL")
LEFT_TO_RIGHT = "\N{LEFT-TO-RIGHT MARK}"
VARIANTS = range(0xFE00, 0xFE10)  # select a variant of the character before them

_fallbacks: list[str] = []  # families that labels of this process need


def as_label(text: str, longest: int = LONGEST) -> str:
    """Returns text as matplotlib is to draw it, with the fonts of :func:`font_families`.

    Control characters are escaped, dollar signs do not start a formula, long text is cut off.
    Characters that no installed font has are written as their code, with one warning.
    """
    drawable = ""
    for part in map(_drawable, printable(text[: longest + 1])):
        if len(drawable) + len(part) > longest:
            drawable += "\N{HORIZONTAL ELLIPSIS}"
            break
        drawable += part
    if any(unicodedata.bidirectional(char) in RIGHT_TO_LEFT for char in drawable):
        # So that numbers beside the name keep their order.
        drawable = f"{LEFT_TO_RIGHT}{drawable}{LEFT_TO_RIGHT}"
    if drawable.startswith("_"):  # matplotlib would leave it out of a legend
        drawable = f" {drawable}"
    return drawable.replace("$", r"\$")


def font_families() -> list[str]:
    """Returns the font families for all labels so far, for matplotlib to fall back through."""
    return [BASE, *_fallbacks]


def _drawable(char: str) -> str:
    if any(ord(char) in _characters(family) for family in font_families()):
        return char
    if char in JOINERS or ord(char) in VARIANTS:
        return ""
    family = next((name for name in _families() if ord(char) in _characters(name)), None)
    if family is None:
        _warn()
        return ascii(char)[1:-1]
    _fallbacks.append(family)
    return char


@functools.cache
def _families() -> list[str]:
    """Returns the installed families in the order of preference."""
    known = {font.fname for font in fontManager.ttflist}
    for path in sorted({*font_manager.findSystemFonts()} - known):
        try:  # installed since matplotlib has listed the fonts
            fontManager.addfont(path)
        except Exception as error:  # depends on the font
            logger.debug("Font %s cannot be used: %s", path, error)
    names = {
        font.name
        for font in fontManager.ttflist
        if font.style == "normal" and not font.name.startswith(UNFIT)
    }
    return sorted(names, key=lambda name: ("Sans" not in name, "Mono" in name, name))


@functools.cache
def _characters(family: str) -> frozenset[int]:
    """Returns the characters of a family; none if matplotlib cannot draw it."""
    try:
        fonts = [font for font in fontManager.ttflist if font.name == family]
        font = font_manager.get_font(min(fonts, key=_oddness).fname)
        if not font.scalable:  # made of pictures, as of emoji
            return frozenset()
        return frozenset(font.get_charmap())
    except Exception as error:  # depends on the font
        logger.debug("Font %s cannot be used: %s", family, error)
        return frozenset()


def _oddness(font: font_manager.FontEntry) -> tuple:
    return font.style != "normal", font.stretch != "normal", font.fname


@functools.cache
def _warn() -> None:
    logger.warning(
        "No installed font has some characters of the names in pictures; they are drawn as their "
        "codes. Install fonts-noto-cjk (Chinese, Japanese, Korean), fonts-noto-core (other "
        "scripts) or fonts-symbola (emoji)."
    )
