"""``make docs`` builds the documentation site, which needs no network."""

import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT

for package in ("material", "mkdocstrings"):
    pytest.importorskip(package, reason="make docs installs what builds the site")

pytestmark = pytest.mark.slow
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


def build(*arguments):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


class Links(HTMLParser):
    """The links of a page, what it loads, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name")}
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if tag in LOADS and LOADS[tag] in attrs:
            self.loaded.append(attrs[LOADS[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the site by path."""
    folder = tmp_path_factory.mktemp("site")
    done = build("--site-dir", folder)
    assert done.returncode == 0, done.stderr
    return {path: Links(path) for path in folder.rglob("*.html")}


def test_pages_need_no_network(site):
    for path, page in site.items():
        for target in page.loaded:
            assert not urlsplit(target).netloc, (path.name, target)


def test_every_link_resolves_in_local_files(site):
    checked = 0
    for path, page in site.items():
        if path.name == "404.html":  # for servers
            continue
        for target in (*page.links, *page.loaded):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            assert file.is_file(), (path.name, target)
            if file.suffix == ".html":
                assert unquote(parts.fragment) in site[file].anchors, (path.name, target)
            checked += 1
    assert checked > 1000


def test_files_outside_docs_are_pages(site):
    names = {path.name for path in site}
    assert {"index.html", "datasets.html", "contributing.html", "changelog.html"} <= names
    (source,) = [path for path in site if path.name == "maskiou_loss.py.html"]
    assert "MASKIOU_LOSS_REGISTRY" in source.read_text()


def test_api_reference_has_docstrings(site):
    (path,) = [path for path in site if path.name == "api.html"]
    text = path.read_text()
    for part in ("A trained model that takes images of any size", "Registry for MaskIoU heads"):
        assert part in text, part
    assert ":class:" not in text
    assert "``" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("::: msrcnn.Missing", "msrcnn.Missing could not be found"),
        ("[page](missing.md)", "a link 'missing.md'"),
        ("[anchor](#missing)", "a link '#missing'"),
    ],
)
def test_build_fails_for_what_is_missing(text, message, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "griffe_docstrings.py").symlink_to(ROOT / "docs" / "griffe_docstrings.py")
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: []\nnav: [index.md]\nextra_css: []\n"
        f"extra: {{polyfills: [iframe-worker.js]}}\nsite_dir: {tmp_path / 'site'}\n"
    )
    done = build("--config-file", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert message in done.stderr
