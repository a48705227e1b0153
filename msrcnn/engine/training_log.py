"""Reads the log of a training run."""

import json
import os
from pathlib import Path


def read_training_log(path: Path, *, last_bytes: int | None = None) -> list[dict]:
    """The lines of Detectron2's training log that are of steps, not of evaluations.

    Args:
        path: a ``metrics.json``; where there is none, there are no lines. A line that is being
            written, or that a process was killed in, is left out.
        last_bytes: read only the end of the file.
    """
    try:
        with path.open("rb") as log:
            if last_bytes is not None:
                log.seek(max(os.fstat(log.fileno()).st_size - last_bytes, 0))
            lines = log.read().splitlines()
    except FileNotFoundError:
        return []
    return [line for line in map(_parsed, lines) if "total_loss" in line]


def _parsed(line: bytes) -> dict:
    try:
        return json.loads(line)
    except ValueError:
        return {}
