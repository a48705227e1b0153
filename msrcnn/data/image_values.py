"""The values in images of more than 8 bits, and whether ``INPUT.VALUE_RANGE`` fits them."""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .finding import Finding
from .image_paths import image_path
from .pixels import DEEP, eight_bits, raw_mode

THREADS = 16  # that open images at a time
SAMPLED = 200  # images whose values are looked at, if not all are decoded
MAX_CLIPPED = 0.01  # share of the pixels beyond the range
MIN_USED = 1 / 8  # share of the range: with less, fewer than 32 levels of grey are left
FEW_LEVELS = 16  # of the 256; a single image may be fainter than a dataset
MOST = 0.8  # share of the images from which a problem is systematic


EIGHT_BITS = "8 bits"  # a kind of problem of a picture


class Values(NamedTuple):
    """The values in one or more images of more than 8 bits.

    Attributes:
        images: number of images.
        low: smallest value; not finite if a value is not.
        high: largest value.
        clipped: number of pixels beyond a range of values.
        pixels: number of pixels.
        whole: whether all values are whole numbers.
    """

    images: int
    low: float
    high: float
    clipped: int
    pixels: int
    whole: bool

    @property
    def clipped_share(self) -> float:
        """Share of the pixels that are beyond the range."""
        return self.clipped / self.pixels

    def __str__(self) -> str:
        images = "1 image has" if self.images == 1 else f"{self.images} images have"
        return f"{images} {self.span}"

    @property
    def span(self) -> str:
        """The values in words."""
        if self.low == self.high:
            return f"the value {self.low:g} only"
        return f"values from {self.low:g} to {self.high:g}"


def joined(values: Iterable[Values]) -> Values:
    """Returns the values of several images together; there is at least one."""
    images, low, high, clipped, pixels, whole = zip(*values)
    return Values(sum(images), min(low), max(high), sum(clipped), sum(pixels), all(whole))


def values_of(array: np.ndarray, value_range: Sequence[float] = ()) -> Values:
    """Returns the values of an image.

    Args:
        array: the image, as it is stored.
        value_range: the range for ``clipped``.
    """
    low, high = value_range or (-np.inf, np.inf)
    return Values(
        1,
        float(array.min()),
        float(array.max()),
        int(((array < low) | (array > high)).sum()),
        array.size,
        array.dtype.kind in "iu",
    )


def values_in(paths: Sequence[str]) -> Values | None:
    """Reads the values of at most ``SAMPLED`` images, evenly drawn from those of a list.

    Args:
        paths: the images; those of 8 bits, and those that cannot be read, do not count.

    Returns:
        ``None`` if no image has more than 8 bits.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        read = pool.map(lambda index: _look(paths[index], (), values=True).values, _drawn(paths))
        found = [values for values in read if values is not None]
    return joined(found) if found else None


def suggestion(values: Values) -> str:
    """Names a range that holds the values: that of the fewest bits, or 0 to 1 of fractions.

    Returns:
        ``""`` if there is none that is usual.
    """
    if not 0 <= values.low < values.high <= 65535:  # also if they are not finite
        return ""
    if values.high <= 1 and values.whole:  # as of masks
        return ""
    high = 1 if values.high <= 1 else 2 ** max(math.ceil(values.high).bit_length(), 8) - 1
    return (
        f'INPUT.VALUE_RANGE "(0, {high})" holds them all (`msrcnn check --value-range 0 {high}` '
        "checks it)"
    )


def range_findings(
    images: list[dict], folder: Path, value_range: Sequence[float], *, decode: bool = False
) -> list[Finding]:
    """Finds images that ``INPUT.VALUE_RANGE`` clips or flattens, and images that it does not scale.

    Args:
        images: records of a COCO-format file, whose files can be read.
        folder: the directory that ``file_name`` is relative to.
        value_range: ``INPUT.VALUE_RANGE``.
        decode: look at the values of all images, not only of ``SAMPLED``.
    """
    paths = [image_path(image, folder) for image in images]
    drawn = set(range(len(paths)) if decode else _drawn(paths))
    with ThreadPoolExecutor(THREADS) as pool:
        looks = list(
            pool.map(
                lambda index: _look(paths[index], value_range, values=index in drawn),
                range(len(paths)),
            )
        )
    names = [f"image {image['id']}: {path!r}" for image, path in zip(images, paths)]
    seen = {name: look.values for name, look in zip(names, looks) if look.values is not None}
    shown = f"INPUT.VALUE_RANGE ({value_range[0]:g}, {value_range[1]:g})"
    return [
        finding
        for finding in (
            Finding(True, list(_not_finite(seen))),
            *_misfits(seen, value_range, shown),
            Finding(False, list(_shallow(names, looks, shown))),
        )
        if finding.messages
    ]


def picture_problem(
    array: np.ndarray | None, value_range: Sequence[float]
) -> tuple[str, str] | None:
    """Returns in what an image is unlike those that the model was trained on.

    Args:
        array: the image, as it is stored; ``None`` if it has 8 bits.
        value_range: ``INPUT.VALUE_RANGE`` of the model.

    Returns:
        The kind of the problem, and the problem in words; ``None`` if there is none.
    """
    shown = f"the model's INPUT.VALUE_RANGE ({value_range[0]:g}, {value_range[1]:g})"
    if array is None:
        return EIGHT_BITS, (
            f"has 8 bits and is not scaled by {shown}: results are right only if 0 and 255 are its "
            "black and white"
        )
    values = values_of(array, value_range)
    darkest, brightest = levels(values, value_range)
    if darkest == brightest:
        return "flat", f"has {values.span}, of which {shown} leaves a single level of grey"
    if values.clipped_share > MAX_CLIPPED:
        return "clipped", (
            f"has {values.span}; {values.clipped_share:.0%} of its pixels are beyond {shown} and "
            "become black or white"
        )
    if brightest - darkest < FEW_LEVELS:
        return "faint", (
            f"has {values.span}, of which {shown} leaves {brightest - darkest + 1} of 256 levels "
            "of grey"
        )
    return None


class _Look(NamedTuple):
    deep: bool
    values: Values | None = None


def _look(path: str, value_range: Sequence[float], *, values: bool) -> _Look:
    """Returns whether an image has more than 8 bits, and with ``values`` also its values."""
    try:
        with Image.open(path) as image:
            if image.mode not in DEEP:
                return _Look(";16" in raw_mode(image))
            return _Look(True, values_of(np.asarray(image), value_range) if values else None)
    except Exception:  # depends on the format; reported where the image is needed
        return _Look(True)


def _drawn(items: Sequence) -> list[int]:
    return np.unique(np.linspace(0, len(items) - 1, min(SAMPLED, len(items))).astype(int)).tolist()


def levels(values: Values, value_range: Sequence[float]) -> tuple[int, int]:
    """Returns the darkest and the brightest of the 256 levels that are left of some values."""
    low, high = eight_bits(np.array([values.low, values.high]), value_range)
    return int(low), int(high)


def _not_finite(seen: dict[str, Values]) -> Iterable[str]:
    for name, values in seen.items():
        if not np.isfinite([values.low, values.high]).all():
            yield f"{name} has values that are NaN or infinite; replace them, or leave it out"


def _misfits(
    seen: dict[str, Values], value_range: Sequence[float], shown: str
) -> Iterable[Finding]:
    seen = {name: each for name, each in seen.items() if np.isfinite([each.low, each.high]).all()}
    if not seen:
        return
    every = joined(seen.values())
    flat = {}
    for name, each in seen.items():
        darkest, brightest = levels(each, value_range)
        if darkest == brightest:
            flat[name] = each, {0: "black", 255: "white"}.get(darkest, "one grey")
    lost = [name for name, (each, _) in flat.items() if each.low < each.high]
    hint = suggestion(every)
    hint = f"; {hint}" if hint else ""
    if len(lost) >= MOST * len(seen):
        colors = " or ".join(sorted({flat[name][1] for name in lost}))
        message = f"{every}; {shown} makes {len(lost)} of them completely {colors}{hint}"
        yield Finding(True, [message])
        return
    low, high = value_range
    if every.clipped_share > MAX_CLIPPED:
        yield Finding(
            False,
            [
                f"{every}; {every.clipped_share:.0%} of the pixels are beyond {shown} and become "
                f"black or white{hint}"
            ],
        )
    elif every.high - every.low < MIN_USED * (high - low):
        yield Finding(
            False, [f"{every}, a small part of {shown}: nearly all contrast is lost{hint}"]
        )
    yield Finding(
        False,
        [
            f"{name} is completely {color} to the model: it has {each.span}"
            + (f", and {shown} keeps nothing of them" if name in lost else "")
            for name, (each, color) in flat.items()
        ],
    )


def _shallow(names: list[str], looks: list[_Look], shown: str) -> Iterable[str]:
    shallow = [name for name, look in zip(names, looks) if not look.deep]
    if len(shallow) == len(looks):
        yield f"all {len(looks)} images have 8 bits, which {shown} does not change: is it needed?"
        return
    for name in shallow:
        yield (
            f"{name} has 8 bits, unlike {len(looks) - len(shallow)} other images, and {shown} does "
            "not change it; if that is a mistake, convert it again from its original"
        )
