"""Builds HTML from Python; all text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from ..escaping import printable

Element = ElementTree.Element
Content = Element | str | None


def element(tag: str, *content: Content, **attributes: str) -> Element:
    """Creates an HTML element.

    Args:
        tag: name of the element.
        *content: text and child elements in order; ``None`` is skipped.
        **attributes: attributes of the element, where ``class_`` stands for ``class`` and
            ``aria_label`` for ``aria-label``.
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    parent = Element(tag, {names[name]: printable(value) for name, value in attributes.items()})
    last = None
    for part in content:
        if isinstance(part, str):
            part = printable(part)
            if last is None:
                parent.text = (parent.text or "") + part
            else:
                last.tail = (last.tail or "") + part
        elif part is not None:
            parent.append(part)
            last = part
    return parent


def table(
    header: Sequence[Content], rows: Iterable[Sequence[Content] | Element], label: str
) -> Element:
    """Creates a table that scrolls horizontally if it is wider than the page.

    Args:
        header: header of each column.
        rows: each row as a ``tr`` element, or as a list of cells that starts with the row's header.
        label: description of the table for screen readers.
    """
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *(element("th", h, scope="col") for h in header))),
            element("tbody", *(r if isinstance(r, Element) else row(*r) for r in rows)),
        ),
        class_="scroll",
        role="region",
        aria_label=label,
        tabindex="0",
    )


def row(header: Content, *cells: Content, **attributes: str) -> Element:
    """Creates a table row."""
    head = element("th", header, scope="row")
    return element("tr", head, *(element("td", cell) for cell in cells), **attributes)


def image(content: bytes, media_type: str, alt: str, width: int, height: int) -> Element:
    """Creates an image that is embedded in the page.

    Args:
        content: content of the image file.
        media_type: for example ``image/png``.
        alt: alternative text.
        width, height: size in pixels. Browsers reserve space in this aspect ratio.
    """
    source = f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
    return element("img", src=source, alt=alt, width=str(width), height=str(height))


def page(title: str, style: str, body: Element) -> bytes:
    """Creates a self-contained HTML page.

    Args:
        title: title of the page.
        style: CSS.
        body: the ``body`` element.

    Returns:
        The content of the HTML file, in UTF-8.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
    )
    ElementTree.SubElement(head, "style").text = style  # the only text with lines
    html = element("html", head, body, lang="en")
    return b"<!DOCTYPE html>\n" + ElementTree.tostring(html, encoding="utf-8", method="html")
