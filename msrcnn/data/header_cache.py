"""A cache of image headers on disk, so that the runs of a sweep do not open every image again."""

import os
import time
from pathlib import Path

from .user_cache import read_cache, write_cache

KIND = "image_headers"
CACHED_FROM = 500  # images; fewer are opened in no time
SETTLED = 2.0  # seconds, after which a file that is written again has another modification time


class HeaderCache:
    """Sizes of the sound images of a folder, valid while size and modification time are the same.

    There is one file for each folder of images. A cache that cannot be read or written is not used.
    """

    def __init__(self, folder: Path, images: int, *, trusted: bool = True):
        """
        Args:
            folder: folder of the images.
            images: number of images to look up; nothing is kept of small datasets.
            trusted: whether to believe what is in the cache; it is renewed in any case.
        """
        self._key = os.path.abspath(folder) if images >= CACHED_FROM else None
        self._sizes = (read_cache(KIND, self._key) or {}) if self._key and trusted else {}
        self._changed = False

    def size(self, path: str, status: os.stat_result) -> tuple[int, int] | None:
        """Returns width and height of an image as shown, if the file is known and unchanged."""
        match self._sizes.get(os.path.abspath(path)):
            case [status.st_size, status.st_mtime_ns, width, height]:
                return width, height
        return None

    def add(self, path: str, status: os.stat_result, size: tuple[int, int]) -> None:
        """Adds a sound image of the given width and height, unless it was written just now."""
        if self._key and abs(time.time() - status.st_mtime) > SETTLED:
            self._sizes[os.path.abspath(path)] = [status.st_size, status.st_mtime_ns, *size]
            self._changed = True

    def save(self) -> None:
        """Writes the cache, if something was added."""
        if self._changed:
            write_cache(KIND, self._key, self._sizes)
