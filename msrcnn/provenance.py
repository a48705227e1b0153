"""What made a result: versions of the software, and hashes of the files that it depends on."""

import functools
import hashlib
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import detectron2

from .version import __version__

LIBRARIES = ("torch", "torchvision", "hotcoco", "pycocotools", "numpy")
ROOT = Path(__file__).parent.parent  # of the repository, if msrcnn runs from one


@functools.cache
def software() -> dict[str, str | bool | None]:
    """Returns the versions of msrcnn and of the libraries that results depend on.

    ``commit`` is the Git commit of msrcnn, and ``dirty`` whether files differ from it; both are
    ``None`` if msrcnn does not run from a Git repository.
    """
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "-uno")
    return {
        "msrcnn": __version__,
        "commit": commit,
        "dirty": None if commit is None or changes is None else bool(changes),
        "python": platform.python_version(),
        "detectron2": detectron2.__version__,
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def command() -> list[str]:
    """Returns the command of this process: the name of the program, and its arguments."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _git(*arguments: str) -> str | None:
    if not (ROOT / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def file_record(path: str | Path) -> dict[str, str | None] | None:
    """Returns the ``path`` and the ``sha256`` of a file.

    Args:
        path: the file. If it is empty, the result is ``None``; if it is not a local file, such as a
            URL, the hash is ``None``.
    """
    if not str(path):
        return None
    file = Path(path)
    if not file.is_file():
        return {"path": str(path), "sha256": None}
    state = file.stat()
    return {"path": str(path), "sha256": _sha256(file.resolve(), state.st_size, state.st_mtime_ns)}


@functools.cache
def _sha256(path: Path, size: int, modified: int) -> str:
    """Hashes a file; called again only after it was changed."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
