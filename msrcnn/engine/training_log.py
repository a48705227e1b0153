"""Reads the log of a training run."""

import json
import os
from pathlib import Path

LOG = "metrics.json"  # in the output folder of a run


def read_training_log(path: Path, *, last_bytes: int | None = None) -> list[dict]:
    """Returns the records of training steps in Detectron2's log, without those of evaluations.

    Args:
        path: a ``LOG``. If it does not exist, there are no records. An incomplete line,
            which is being written or was interrupted, is skipped.
        last_bytes: read only this many bytes at the end of the file.
    """
    try:
        with path.open("rb") as log:
            if last_bytes is not None:
                log.seek(max(os.fstat(log.fileno()).st_size - last_bytes, 0))
            lines = log.read().splitlines()
    except FileNotFoundError:
        return []
    return [line for line in map(_parsed, lines) if "total_loss" in line]


def read_evaluations(path: Path) -> list[dict]:
    """Returns the records of evaluations in Detectron2's log, one for each iteration.

    Args:
        path: a ``LOG``. If it does not exist, there are no records.
    """
    lines = map(_parsed, path.read_bytes().splitlines() if path.is_file() else [])
    # Several datasets have names in front.
    found = {
        line["iteration"]: line for line in lines if any(key.endswith("bbox/AP") for key in line)
    }
    return [found[iteration] for iteration in sorted(found)]


def _parsed(line: bytes) -> dict:
    """Returns the record in a line; empty if the line is incomplete or not a record."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
