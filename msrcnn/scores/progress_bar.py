"""The progress bar of a pass and of a fit."""

import sys

from tqdm import tqdm

LINE_SECONDS = 15.0  # between two updates if standard error is not a terminal


def progress_bar(*args, **kwargs) -> tqdm:
    """Creates a tqdm bar that does not flood log files."""
    interval = 0.1 if sys.stderr.isatty() else LINE_SECONDS
    return tqdm(*args, mininterval=interval, maxinterval=max(interval, 10), **kwargs)
