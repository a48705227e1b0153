"""Builds HTML from Python; all text is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..escaping import printable

Element = ElementTree.Element
Content = Element | str | None

STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")


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
    header: Sequence[Content],
    rows: Iterable[Sequence[Content] | Element],
    label: str,
    class_: str = "",
    sorted_by: int | None = None,
) -> Element:
    """Creates a table that scrolls horizontally if it is wider than the page.

    Args:
        header: header of each column.
        rows: each row as a ``tr`` element, or as a list of cells that starts with the row's header.
        label: description of the table for screen readers.
        class_: class of the table.
        sorted_by: index of the column that the rows are sorted by, in descending order. The page's
            script lets readers sort such a table by any column.
    """
    headers = [_column_header(content) for content in header]
    attributes = {"class_": class_} if class_ else {}
    if sorted_by is not None:
        headers[sorted_by].set("aria-sort", "descending")
        attributes["data_sortable"] = ""
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *headers)),
            element("tbody", *(r if isinstance(r, Element) else row(*r) for r in rows)),
            **attributes,
        ),
        class_="scroll",
        role="region",
        aria_label=label,
        tabindex="0",
    )


def _column_header(content: Content) -> Element:
    # A corner above the headers of rows is empty, and no header of anything.
    return element("td") if content == "" else element("th", content, scope="col")


def row(header: Content, *cells: Content, **attributes: str) -> Element:
    """Creates a table row; cells may be ``td`` elements."""
    head = element("th", header, scope="row")
    return element("tr", head, *(_cell(cell) for cell in cells), **attributes)


def _cell(content: Content) -> Element:
    is_cell = isinstance(content, Element) and content.tag == "td"
    return content if is_cell else element("td", content)


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


def page(title: str, body: Element) -> bytes:
    """Creates a self-contained HTML page, with the style and the script of this package.

    Args:
        title: title of the page.
        body: the ``body`` element.

    Returns:
        The content of the HTML file, in UTF-8.
    """
    style, script = (file.read_text(encoding="utf-8") for file in (STYLE, SCRIPT))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
    )
    # The only texts with lines. The script sorts tables; without one, none is needed.
    ElementTree.SubElement(head, "style").text = style
    if any("data-sortable" in each.attrib for each in body.iter("table")):
        ElementTree.SubElement(body, "script").text = script
    html = element("html", head, body, lang="en")
    return b"<!DOCTYPE html>\n" + ElementTree.tostring(html, encoding="utf-8", method="html")


def _policy(script: str) -> str:
    """Forbids everything that is not in the page: names in the data cannot load or run anything."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
