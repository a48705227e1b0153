"""Lets the documentation site follow the links that work on GitHub.

The pages link to files of the repository by relative path. The site has the Markdown files among
them as pages, and of every other linked file or folder outside ``docs`` a page that shows it, below
``source/``. The public address of the repository is not needed.
"""

import json
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
# Pages outside docs, and where the site has them.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "datasets/README.md": "datasets.md",
}
BY_PAGE = {page: path for path, page in OUTSIDE.items()}
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
HIDDEN = re.compile(r"(?:(?<=/)|^)\.")  # mkdocs leaves out files whose names start with a dot
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)  # of cog
NOT_FROM_SEARCH = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside ``docs``, and a page of each file or folder that a page links to."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    for page in list(files.documentation_pages()):
        for target in LINK.findall(page.content_string):
            path = repository_path(page.src_uri, target)
            uri = site_path(path)
            if files.get_file_from_path(uri) is None and (ROOT / path).exists():
                text = shown(path) if (ROOT / path).is_file() else listed(path)
                files.append(File.generated(config, uri, content=NOT_FROM_SEARCH + text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links to files of the repository, and drops the markers of generated tables."""

    def rewrite(match: re.Match) -> str:
        uri = site_path(repository_path(page.file.src_uri, match[0]))
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    if page.file.src_uri.startswith("source/"):
        return markdown
    return LINK.sub(rewrite, COMMENT.sub("", markdown))


def repository_path(page: str, target: str) -> str:
    """Returns the path in the repository that a link of a page leads to."""
    origin = BY_PAGE.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))


def site_path(path: str) -> str:
    """Returns where the site has a file or folder of the repository."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/") and not (ROOT / path).is_dir() and not path.endswith(".py"):
        return path.removeprefix("docs/")
    return f"source/{HIDDEN.sub('', path)}.md"


def shown(path: str) -> str:
    """Returns a page with the text of a file."""
    text = (ROOT / path).read_text()
    if path.endswith(".ipynb"):
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        return "\n\n".join(
            source if kind == "markdown" else f"```python\n{source}\n```" for kind, source in cells
        )
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    language = Path(path).suffix.removeprefix(".") or "text"
    return f"# {path}\n\n{fence}{language}\n{text}\n{fence}\n"


def listed(path: str) -> str:
    """Returns a page with the names of the files in a folder; those of ``docs`` are links."""
    lines = []
    for file in sorted((ROOT / path).rglob("*")):
        name = file.relative_to(ROOT / path).as_posix()
        if file.is_file() and "__pycache__" not in name:
            uri = site_path(file.relative_to(ROOT).as_posix())
            link = os.path.relpath(uri, posixpath.dirname(f"source/{path}"))
            lines.append(f"* {name}" if uri.startswith("source/") else f"* [{name}]({link})")
    return "\n".join([f"# {path}", "", *lines, ""])
