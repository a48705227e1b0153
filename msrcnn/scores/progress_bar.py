"""The progress bar of a pass and of a fit."""

import sys

from tqdm import tqdm

LINE_SECONDS = 15.0  # between two updates if standard error is not a terminal


def progress_bar(*args, **kwargs) -> tqdm:
    """Creates a tqdm bar, which writes a line now and then where there is no terminal."""
    if sys.stderr.isatty():
        return tqdm(*args, mininterval=0.1, **kwargs)
    interval = LINE_SECONDS
    return tqdm(*args, mininterval=interval, maxinterval=interval, file=_Lines(), **kwargs)


class _Lines:
    """Standard error, with a new line where tqdm would overwrite the last one."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text.replace("\r", "\n") if text.strip() else text)

    def flush(self) -> None:
        sys.stderr.flush()
