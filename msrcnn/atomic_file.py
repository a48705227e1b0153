"""Files that are complete or not there."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import UserError

PART = re.compile(r"\..+\.\d+\.part")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write; it takes its name once it is whole on disk.

    Whatever happens before, be it the loss of power, a file of that name stays as it was.

    Args:
        path: a file there is replaced.

    Raises:
        OSError: if it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # on the same disk, to be renamed
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # it is not there, or its folder is not
            part.unlink()


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file at once, by :func:`atomic_file`; its folder is made if missing.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Put the new name on disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Remove what processes that were killed have left of files they were writing."""
    for path in folder.glob(".*.part"):
        if PART.fullmatch(path.name):
            path.unlink(missing_ok=True)
