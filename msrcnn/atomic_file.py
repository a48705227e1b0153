"""Atomic writing of files: a file is either complete or does not exist."""

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from .errors import UserError

# Temporary files name the machine and the process that write them: machines can share a folder.
PART = re.compile(r"\..+\.(?P<machine>[^.]+)\.(?P<process>\d+)\.[0-9a-f]{8}\.part")
MACHINE = socket.gethostname().replace(".", "-") or "unknown"
NAME_BYTES = 255  # of the longest file name
OLD_SECONDS = 24 * 60 * 60  # after which no other machine is still writing a file


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a temporary file for writing, and renames it to ``path`` once it is on disk.

    If writing fails or the power is lost before that, an existing file is left unchanged.

    Args:
        path: the file to write; an existing file is replaced.

    Yields:
        The temporary file, open in binary mode.

    Raises:
        OSError: if the file cannot be written.
    """
    part = path.with_name(_part_name(path.name))  # same disk, for rename
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # already renamed, or no such folder
            part.unlink()


def _part_name(name: str) -> str:
    """Returns the name of a temporary file, with as much of the file's name as has room."""
    unique = f".{MACHINE}.{os.getpid()}.{secrets.token_hex(4)}.part"
    room = NAME_BYTES - len(os.fsencode(f".{unique}"))
    return f".{os.fsdecode(os.fsencode(name)[:room])}{unique}"


def write_file(path: Path, content: str | bytes | memoryview | Iterable[str | bytes]) -> None:
    """Writes a file with :func:`atomic_file`, and creates its folder if needed.

    Args:
        path: the file to write; an existing file is replaced.
        content: all of it, or parts that need not be in memory at the same time.

    Raises:
        UserError: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            for part in [content] if isinstance(content, str | bytes | memoryview) else content:
                file.write(part.encode() if isinstance(part, str) else part)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Flushes a folder to disk, so that a renamed file survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Removes the temporary files of :func:`atomic_file` that killed processes left behind.

    Those of other running processes stay; whether a process of another machine runs is not known,
    so that its files stay for a day.

    Raises:
        OSError: if a file cannot be removed.
    """
    for path in folder.glob(".*.part"):
        if (part := PART.fullmatch(path.name)) and not _may_be_written(path, part):
            path.unlink(missing_ok=True)


def _may_be_written(path: Path, part: re.Match) -> bool:
    if part["machine"] != MACHINE:
        try:
            return time.time() - path.stat().st_mtime < OLD_SECONDS
        except FileNotFoundError:
            return False
    process = int(part["process"])
    if process == os.getpid():  # an earlier process with this number: this one is here
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True
