"""Results for the record: an evaluation with the command and the hardware that made it."""

import json
import platform
from pathlib import Path

import torch


def hardware() -> str:
    """The processor that a run would use, as a reader names it."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} CPU cores ({platform.machine()})"


def record_result(evaluation: Path, command: str, output: Path) -> None:
    """Write an evaluation with its command, hardware and versions.

    Args:
        evaluation: an ``evaluation.json``.
        command: what was run.
        output: the file to write, below ``docs/results/``.
    """
    content = {
        "command": command,
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "evaluation": json.loads(evaluation.read_text()),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=2) + "\n")
