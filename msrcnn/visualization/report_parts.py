"""Parts that several sections of the HTML report have."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ..evaluation import Evaluation
from ..modeling.detection_samples import MIN_BOX_IOU
from .html import Content, Element, element, image
from .plot_style import COLORS
from .text import number

JPEG_QUALITY = 80
MATCHING = (
    "A detection matches an instance of its class if their boxes have an IoU of "
    f"{MIN_BOX_IOU} or more."
)


def class_name(evaluation: Evaluation, category_id: int) -> str:
    """Returns the name of a category, as text."""
    return str(evaluation.ground_truth.cats[int(category_id)]["name"])


def plot_figures(plots: dict[str, bytes], captions: dict[str, str]) -> Element | None:
    """Returns those of the plots that have a caption here, or ``None`` if there are none.

    Args:
        plots: the content of PNG files, by name.
        captions: the caption of each plot, by name.
    """
    figures = []
    for name, caption in captions.items():
        if name in plots:
            width, height = Image.open(io.BytesIO(plots[name])).size
            picture = image(plots[name], "image/png", caption, width, height)
            figures.append(
                element(
                    "figure",
                    element("div", picture, class_="plot"),
                    element("figcaption", caption),
                )
            )
    return element("div", *figures, class_="plots") if figures else None


def ranking_header(ranking: str, label: str) -> Element:
    """Returns the header of a row about a ranking, with its color."""
    key = element("span", class_="key", style=f"background: {COLORS[ranking]}")
    return element("span", key, label)


def photo(picture: Image.Image, alt: str) -> Element:
    """Returns a picture as an element."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return image(buffer.getvalue(), "image/jpeg", alt, *picture.size)


def mask_figure(
    picture: Image.Image,
    what: str,
    name: str,
    values: dict[str, str | None],
    file_name: str,
    remark: str = "",
) -> Element:
    """Returns a picture of a mask with a caption.

    Args:
        picture: the picture.
        what: what it shows, for its description.
        name: name of the class.
        values: see :func:`terms`.
        file_name: file name of the image.
        remark: a further line of the caption.
    """
    caption = element(
        "figcaption",
        element("strong", name),
        terms(values),
        element("p", remark) if remark else None,
        element("p", file_name),
    )
    return element("figure", photo(picture, f"{name} in {file_name}: {what}"), caption)


def gallery(heading: str, note: str, figures: list[Element]) -> list[Content]:
    """Returns figures side by side, under a heading and a note; or says that there are none."""
    return [
        element("h3", heading),
        element("p", note if figures else "There are none.", class_="note"),
        element("div", *figures, class_="gallery") if figures else None,
    ]


def plain_background_note(missing: int) -> str:
    """Says how many pictures show no image; empty if there are none."""
    if not missing:
        return ""
    return (
        f" {missing} of the pictures have a plain background, because their images are "
        "missing, unreadable, outside of the image folder or of a different size than "
        "annotated."
    )


def number_at(column: np.ndarray | None, index: int) -> str | None:
    """Formats a value of a column of detections; ``None`` if there is no such column."""
    return None if column is None else number(column[index])


def terms(values: dict[str, str | None]) -> Element:
    """Returns a list of names with values; values that are ``None`` are left out."""
    given = ((name, value) for name, value in values.items() if value is not None)
    return element(
        "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in given)
    )
