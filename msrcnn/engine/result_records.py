"""Records of results: what was measured, with the command and the hardware."""

import json
import os
import platform
import re
import statistics
from pathlib import Path
from typing import Any

import torch

from ..atomic_file import write_file
from ..data.custom import SEPARATOR
from ..json_file import read_json_object
from ..provenance import software
from .training_log import LOG, read_training_log


def hardware() -> str:
    """Returns the name of the hardware that a run uses."""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        model = re.sub(r" \d+GB( HBM\w*)?", "", torch.cuda.get_device_name())  # without its memory
        return f"{'one' if count == 1 else f'{count} x'} {model}"
    cores = torch.get_num_threads()
    return f"{cores} CPU core{'s' if cores > 1 else ''} ({platform.machine()})"


def write_result(output: Path, command: str, **content: object) -> None:
    """Writes a result with its command, hardware and versions.

    Args:
        output: the JSON file; ``docs/results/`` has those that the documentation cites.
        command: the command that produced the result.
        **content: the result, JSON-serializable; also ``hardware`` and ``versions`` if it was
            produced on another machine.
    """
    result = {
        "command": command,
        "hardware": hardware(),
        "versions": software(),
        **content,
    }
    write_file(output, json.dumps(result, indent=2) + "\n")


def record_result(evaluation: Path, command: str, output: Path) -> None:
    """Writes an evaluation with its command, hardware and versions.

    If there is a training log beside it, also records the number of steps and the median time of
    a step. Absolute paths become file names: they mean nothing on other machines.

    Args:
        evaluation: an ``evaluation.json``.
        command: the command that produced it.
        output: the JSON file.

    Raises:
        UserError: if the evaluation cannot be read, or the result cannot be written.
    """
    found = read_json_object(evaluation, "evaluate again")
    content = {"evaluation": _without_folders(found)}
    steps = read_training_log(evaluation.with_name(LOG))
    if steps:
        times = [line["time"] for line in steps if "time" in line]  # the first steps have none
        content["training"] = {
            "steps": max(line["iteration"] for line in steps) + 1,
            "seconds_per_step": statistics.median(times) if times else None,
        }
    write_result(output, command, **content)


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if isinstance(value, str) and value.startswith(os.sep):
        # The name of a custom dataset has two paths.
        return SEPARATOR.join(Path(path).name for path in value.split(SEPARATOR))
    return value
