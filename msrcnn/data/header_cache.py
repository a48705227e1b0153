"""A cache of image headers on disk, so that the runs of a sweep do not open every image again."""

import hashlib
import json
import logging
import os
import time
from pathlib import Path

import PIL

from ..atomic_file import write_file
from ..errors import UserError
from ..version import __version__

logger = logging.getLogger(__name__)

CACHED_FROM = 500  # images; fewer are opened in no time
SETTLED = 2.0  # seconds, after which a file that is written again has another modification time


class HeaderCache:
    """Sizes of the sound images of a folder, valid while size and modification time are the same.

    It is kept in ``$XDG_CACHE_HOME/msrcnn`` (``~/.cache/msrcnn``), one file for each folder of
    images. A cache that cannot be read or written is not used.
    """

    def __init__(self, folder: Path, images: int, *, trusted: bool = True):
        """
        Args:
            folder: of the images.
            images: number of images to look up; nothing is kept of small datasets.
            trusted: whether to believe what is in the cache; it is renewed in any case.
        """
        self._path = _path(folder) if images >= CACHED_FROM else None
        self._sizes = _read(self._path) if self._path and trusted else {}
        self._changed = False

    def size(self, path: str, status: os.stat_result) -> tuple[int, int] | None:
        """Returns width and height of an image as shown, if the file is known and unchanged."""
        known = self._sizes.get(os.path.abspath(path))
        if known is None or known[:2] != [status.st_size, status.st_mtime_ns]:
            return None
        return known[2], known[3]

    def add(self, path: str, status: os.stat_result, size: tuple[int, int]) -> None:
        """Adds a sound image of the given width and height, unless it was written just now."""
        if self._path is None or abs(time.time() - status.st_mtime) < SETTLED:
            return
        self._sizes[os.path.abspath(path)] = [status.st_size, status.st_mtime_ns, *size]
        self._changed = True

    def save(self) -> None:
        """Writes the cache, if something was added."""
        if not self._changed:
            return
        try:
            write_file(self._path, json.dumps({"made_with": _made_with(), "sizes": self._sizes}))
        except (UserError, UnicodeEncodeError) as error:
            logger.debug("Image headers are not kept: %s", error)


def _path(folder: Path) -> Path | None:
    root = os.getenv("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:32]
    return Path(root) / "msrcnn" / "image_headers" / f"{name}.json"


def _made_with() -> list[str]:
    return [__version__, PIL.__version__]  # another one may accept other images


def _read(path: Path) -> dict[str, list[int]]:
    try:
        content = json.loads(path.read_text())
        sizes = content["sizes"]
        sound = all(
            len(entry) == 4 and all(type(value) is int for value in entry)
            for entry in sizes.values()
        )
        if sound and content["made_with"] == _made_with():
            return sizes
    except FileNotFoundError:
        pass
    except Exception as error:  # whatever is in the file: it is written again
        logger.debug("The cache of image headers in '%s' is not used: %s", path, error)
    return {}
