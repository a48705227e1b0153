"""Waiting for other processes, for as long as a busy machine takes."""

import time

DEADLINE = 600.0  # seconds, only so that a broken test ends


def wait_for(condition):
    """Waits until a condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.05)


def written(path):
    """Whether a file exists and is not empty."""
    return path.exists() and path.read_text()
