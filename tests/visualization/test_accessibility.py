"""What can be said about the accessibility of the pages without a browser, and with one."""

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image
from report_page import Page, report

from msrcnn.data.coco_rules import check_coco
from msrcnn.visualization.check_report import check_report
from msrcnn.visualization.html import STYLE
from msrcnn.visualization.text import MINUS

SCHEMES = ("light", "dark")
# Text and background colors that meet, by their names in report.css.
ON_GROUND = ("ink", "soft")
ON_SHADE = ("ink", "soft")  # the row below the pointer, and the command
SHADES = tuple(f"{kind}{level}" for kind in ("right", "wrong") for level in range(1, 5))
PAIRS = [
    *((text, "ground") for text in ON_GROUND),
    *((text, "shade") for text in ON_SHADE),
    *(("ink", shade) for shade in SHADES),
]


@pytest.fixture(scope="module")
def check_page(tmp_path_factory) -> bytes:
    """The page of `msrcnn check --report` about an annotation outside its image."""
    folder = tmp_path_factory.mktemp("check")
    Image.new("RGB", (20, 10)).save(folder / "a.png")
    mask = {"segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]], "bbox": [1, 1, 8, 8]}
    annotations = [{"id": i, "image_id": 7, "category_id": 3, **mask} for i in range(1, 10)]
    annotations[0]["bbox"] = [12, 1, 3, 3]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": annotations,
    }
    return check_report("a.json", content, folder, check_coco(content, folder))


@pytest.fixture(scope="module")
def pages(evaluation, shapes_root, tmp_path_factory, check_page) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("accessible")
    summary = {**evaluation.summary, "provenance": {"software": {"a": "1"}, "command": ["b"]}}
    complete = type(evaluation)(**{**vars(evaluation), "summary": summary})
    return {
        "report": report(complete, folder, shapes_root / "train"),
        "check": Page(check_page),
    }


@pytest.mark.parametrize("name", ["report", "check"])
def test_structure(pages, name):
    elements = pages[name].elements
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(levels) > 1
    of = {tag: [each for t, each in elements if t == tag] for tag, _ in elements}
    assert of["html"] == [{"lang": "en"}]
    assert len(of["main"]) == 1
    assert of["img"]
    assert all(each["alt"].strip() for each in of["img"])
    assert all(each["scope"] in ("col", "row") for each in of.get("th", ()))
    # What scrolls can be reached with the keyboard, and has a name.
    for tag, each in elements:
        if each.get("class") == "scroll":
            assert each["tabindex"] == "0"
            assert each["role"] == "region"
            assert each["aria-label"]
        assert int(each.get("tabindex", 0)) <= 0, tag
    ids = [each["id"] for _, each in elements if "id" in each]
    assert len(ids) == len(set(ids))


def test_no_header_is_empty(pages):
    for rows in pages["report"].tables.values():
        assert all(rows[0][1:])
        assert all(cells[0] for cells in rows[1:])


def test_one_column_is_marked_as_sorted(pages):
    elements = pages["report"].elements
    assert [each["aria-sort"] for _, each in elements if "aria-sort" in each] == ["descending"]
    assert sum("data-sortable" in each for _, each in elements) == 1


def colors(scheme: str) -> dict[str, str]:
    """Returns the colors of report.css by name, in one scheme."""
    light, dark = STYLE.read_text().split("@media (prefers-color-scheme: dark)", 1)
    dark = dark[: dark.index("* {")]
    found = dict(re.findall(r"--(\w+): (#\w{6});", light))
    return (
        found if scheme == "light" else {**found, **dict(re.findall(r"--(\w+): (#\w{6});", dark))}
    )


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21."""

    def luminance(color: str) -> float:
        values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722)))

    darker, lighter = sorted(map(luminance, (first, second)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_contrast_of_text(scheme):
    found = colors(scheme)
    assert {"line", "focus"} | {name for pair in PAIRS for name in pair} == found.keys()
    for text, ground in PAIRS:
        assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["focus"], found["ground"]) >= 3  # of what is no text


def test_every_color_is_named():
    """Otherwise the test above does not see it; the plots have a white ground in both schemes."""
    rules = re.sub(r"--\w+: #\w{6};", "", STYLE.read_text())
    assert set(re.findall(r"#\w{3,8}\b", rules)) == {"#ffffff"}
    assert len(re.findall("#ffffff", rules)) == 1


def axe_script() -> Path | None:
    """Finds axe-core: in $AXE_CORE, the checkout, or the global packages of npm."""
    folders = [ROOT / "node_modules", Path("/usr/lib/node_modules")]
    folders.append(Path("/usr/local/lib/node_modules"))
    candidates = [folder / "axe-core" / "axe.min.js" for folder in folders]
    if os.getenv("AXE_CORE"):
        candidates.insert(0, Path(os.environ["AXE_CORE"]))
    return next((path for path in candidates if path.is_file()), None)


# Sorts the table by every column, twice, then runs axe, and sends both results to the outer page.
INSIDE = """
const table = document.querySelector("table[data-sortable]"), sorted = [];
if (table) {
  for (const header of table.tHead.rows[0].cells) {
    for (const turn of [0, 1]) {
      header.querySelector("button").click();
      const cells = [...table.tBodies[0].rows].map((row) => row.cells[header.cellIndex]);
      const column = cells.map((cell) => cell.textContent);
      sorted.push([header.textContent, header.getAttribute("aria-sort"), column]);
    }
  }
}
axe.run(document).then((found) => parent.postMessage({
  violations: found.violations.map((each) => each.id + ": " + each.nodes[0].html),
  passes: found.passes.length, width: innerWidth, sorted,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  overflow: document.documentElement.scrollWidth - innerWidth,
}, "*"));
"""
OUTSIDE = """<!DOCTYPE html><html><head><meta name="color-scheme" content="light dark"></head><body>
<iframe src="copy.html" width="360" height="900" style="border:0"></iframe>
<iframe src="copy.html" width="1280" height="900" style="border:0"></iframe><pre></pre>
<script>
const results = [];
onmessage = (event) => {
  results.push(event.data);
  if (results.length === 2) {
    document.querySelector("pre").textContent = btoa(encodeURIComponent(JSON.stringify(results)));
  }
};
</script></body></html>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Returns a function that runs axe on a page in Chromium; its results for both widths."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next(filter(None, map(shutil.which, names)), None)
    axe = axe_script()
    if browser is None or axe is None:
        pytest.skip("needs Chromium and axe-core (npm install axe-core, or $AXE_CORE)")
    folder = tmp_path_factory.mktemp("browser")

    def browse(page: Page, scheme: str) -> list[dict]:
        source = page.source.decode()
        # The policy would forbid axe.
        source = re.sub(r"<meta http-equiv=[^>]*>", "", source)
        scripts = f"<script>{axe.read_text()}</script><script>{INSIDE}</script>"
        (folder / "copy.html").write_text(source.replace("</body>", f"{scripts}</body>"))
        (folder / "outside.html").write_text(OUTSIDE)
        options = ["--headless", "--disable-gpu", "--no-sandbox", "--window-size=1400,2000"]
        options += [f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
        options += ["--virtual-time-budget=60000", "--dump-dom", f"--user-data-dir={folder}/user"]
        url = (folder / "outside.html").as_uri()
        done = subprocess.run(
            [browser, *options, url], capture_output=True, text=True, check=True, timeout=300
        )
        (content,) = re.findall(r"<pre>(.*)</pre>", done.stdout)
        return json.loads(urllib.parse.unquote(base64.b64decode(content).decode()))

    return browse


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["report", "check"])
def test_axe_finds_no_violations(browse, pages, name, scheme):
    results = browse(pages[name], scheme)
    assert sorted(each["width"] for each in results) == [360, 1280]
    for each in results:
        assert each["violations"] == []
        assert each["passes"] > 10
        assert each["dark"] == (scheme == "dark")
        assert each["overflow"] <= 0


@pytest.mark.slow
def test_table_of_classes_can_be_sorted(browse, pages):
    result = browse(pages["report"], "light")[0]
    header = pages["report"].tables["Average precision of each class"][0]
    assert [name for name, *_ in result["sorted"]] == [name for name in header for _ in range(2)]
    for number, (name, order, column) in enumerate(result["sorted"]):
        first = ("ascending", "descending") if name == "class" else ("descending", "ascending")
        assert order == first[number % 2]
        values = column if name == "class" else [float(v.replace(MINUS, "-")) for v in column]
        assert values == sorted(values, reverse=order == "descending")
