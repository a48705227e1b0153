"""HTML from Python: elements whose text can only be text, whatever is in it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

Element = ElementTree.Element
Content = Element | str | None


def element(tag: str, *content: Content, **attributes: str) -> Element:
    """An HTML element.

    Args:
        tag: its name.
        *content: text and elements in their order; ``None`` is left out.
        **attributes: ``class_`` is written ``class``, ``aria_label`` ``aria-label``.
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    made = Element(tag, {names[name]: value for name, value in attributes.items()})
    last = None
    for part in content:
        if isinstance(part, str):
            if last is None:
                made.text = (made.text or "") + part
            else:
                last.tail = (last.tail or "") + part
        elif part is not None:
            made.append(part)
            last = part
    return made


def table(
    header: Sequence[Content], rows: Iterable[Sequence[Content] | Element], label: str
) -> Element:
    """A table that scrolls by itself where it is too wide for the page.

    Args:
        header: of each column.
        rows: cells, the first of each being the row's header, or a finished ``tr``.
        label: what the table is, for those who do not see it.
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
    """A row of a table."""
    head = element("th", header, scope="row")
    return element("tr", head, *(element("td", cell) for cell in cells), **attributes)


def image(content: bytes, media_type: str, alt: str, width: int, height: int) -> Element:
    """A picture that is part of the page.

    Args:
        content: of the picture's file.
        media_type: such as ``image/png``.
        alt: what it shows.
        width, height: in pixels; a browser keeps that much room, or less in proportion.
    """
    source = f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
    return element("img", src=source, alt=alt, width=str(width), height=str(height))


def page(title: str, style: str, body: Element) -> bytes:
    """A whole page in UTF-8, in need of no other file."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", style),
    )
    html = element("html", head, body, lang="en")
    # What UTF-8 cannot hold, half a surrogate pair in a file's name, is written as a number.
    return b"<!DOCTYPE html>\n" + ElementTree.tostring(html, encoding="utf-8", method="html")
