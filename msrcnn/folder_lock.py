"""One process at a time writes its results to a folder."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def alone_in(folder: Path, flag: str) -> Iterator[None]:
    """Keeps other processes from writing their results to a folder, which is created if missing.

    On a file system without locks, it has no effect.

    Args:
        folder: the folder.
        flag: the argument that names it, for messages.

    Raises:
        UserError: if another process writes to it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("ab")
    except OSError as error:
        raise UserError(f"cannot write '{folder}': {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process writes its results to '{folder}': wait for it, or choose "
                f"another {flag}"
            ) from error
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                # Closing is not enough: processes that were forked meanwhile have the file, too.
                fcntl.flock(file, fcntl.LOCK_UN)
