"""Results for the record: what was measured, with the command and the hardware that made it."""

import json
import platform
import statistics
from pathlib import Path

import detectron2
import torch

from ..atomic_file import write_file
from .training_log import read_training_log


def hardware() -> str:
    """The processor that a run would use, as a reader names it."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    cores = torch.get_num_threads()
    return f"{cores} CPU core{'s' if cores > 1 else ''} ({platform.machine()})"


def write_result(output: Path, command: str, **content) -> None:
    """Write a result with the command that made it, hardware and versions.

    Args:
        output: the file to write, below ``docs/results/`` if it is to be kept.
        command: what was run.
        **content: what was measured, ready for JSON; ``hardware`` and ``versions`` too, if it was
            measured elsewhere.
    """
    result = {
        "command": command,
        "hardware": hardware(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "detectron2": detectron2.__version__,
        },
        **content,
    }
    write_file(output, json.dumps(result, indent=2) + "\n")


def record_result(evaluation: Path, command: str, output: Path) -> None:
    """Write an evaluation with its command, hardware and versions.

    Where a training log lies beside it, the number of steps and the median time of one too.

    Args:
        evaluation: an ``evaluation.json``.
        command: what was run.
        output: the file to write, below ``docs/results/``.
    """
    content = {"evaluation": json.loads(evaluation.read_text())}
    steps = read_training_log(evaluation.with_name("metrics.json"))
    if steps:
        times = [line["time"] for line in steps if "time" in line]  # not of the first steps
        content["training"] = {
            "steps": max(line["iteration"] for line in steps) + 1,
            "seconds_per_step": statistics.median(times) if times else None,
        }
    write_result(output, command, **content)
