"""Parses the HTML pages that reports consist of."""

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser

from PIL import Image

from msrcnn.visualization import write_report
from msrcnn.visualization.html import element, page

VOID = {"img", "meta"}
PERMITTED = {
    *("html", "head", "meta", "title", "style", "script", "body", "main", "h1", "h2", "h3", "p"),
    *("div", "span", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"),
    *("figure", "figcaption", "img", "details", "summary", "dl", "dt", "dd", "pre", "code"),
}


class Page(HTMLParser):
    """Parses a report; fails on tags that are not permitted or not nested correctly.

    Attributes:
        tags: number of occurrences of each tag.
        attributes: (tag, name, value) of all attributes.
        tables: for each table, by label, the rows as lists of cell texts.
        bold: texts of bold table cells.
        elements: (tag, attributes) of every element, in order.
        sections: text of each section, by its heading.
        script: the content of script elements.
        text: all visible text.
    """

    def __init__(self, source: bytes):
        super().__init__(convert_charrefs=True)
        self.source, self.elements, self.sections, self.script = source, [], {}, ""
        self.tags, self.attributes, self.tables = Counter(), [], {}
        self.bold, self.text, self._open = [], "", []
        self.feed(self.source.decode("utf-8"))
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_decl(self, decl):
        assert decl == "DOCTYPE html"
        assert not self.tags  # must come first

    def handle_starttag(self, tag, attrs):
        assert tag in PERMITTED, tag
        self.tags[tag] += 1
        assert len({name for name, _ in attrs}) == len(attrs)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.elements.append((tag, dict(attrs)))
        if tag == "h2":
            self._heading = len(self.text)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "div" and ("class", "scroll") in attrs:
            self._rows = self.tables.setdefault(dict(attrs)["aria-label"], [])
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "h2":
            self._section = self.text[self._heading :]
            self.sections[self._section] = ""

    def handle_data(self, data):
        if "style" in self._open:
            return
        if "script" in self._open:
            self.script += data
            return
        self.text += data
        if self.sections and "h2" not in self._open:
            self.sections[self._section] += data
        if {"th", "td"} & set(self._open):
            self._rows[-1][-1] += data
        if "strong" in self._open and "td" in self._open:
            self.bold.append(data)

    def pictures(self):
        """Yields type and content of each image, which must be embedded in the page."""
        sources = [value for tag, name, value in self.attributes if (tag, name) == ("img", "src")]
        for source in sources:
            kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", source).groups()
            content = base64.b64decode(content, validate=True)
            Image.open(io.BytesIO(content)).verify()
            assert Image.open(io.BytesIO(content)).format.lower() == kind
            yield kind, content


def report(evaluation, folder, *args) -> Page:
    """Writes and parses a report; the arguments are those of ``write_report``."""
    write_report(evaluation, folder, *args)
    return Page((folder / "report.html").read_bytes())


def page_of(section) -> Page:
    """Parses a page with one section of a report."""
    return Page(page("title", element("body", element("main", *section))))
