"""Reads checkpoints of other libraries, and writes configs for Detectron2."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from torch import Tensor

from ...atomic_file import write_file
from ..safe_load import read_safely


@dataclass(frozen=True)
class CheckpointFile:
    """The content of another library's checkpoint.

    Attributes:
        parameters: tensors by the library's names.
        config_text: the library's config, or an empty string if the file has none.
    """

    parameters: dict[str, Tensor]
    config_text: str


def read_checkpoint(path: Path, *, trusted: bool = False) -> CheckpointFile:
    """Reads a checkpoint of any of the supported libraries.

    Args:
        path: the file.
        trusted: also load a file that contains more than data, and run the code in it.

    Raises:
        UserError: if the file does not exist, is damaged, contains no named tensors, or contains
            more than data.
    """
    return read_safely(path, _parse, trusted=trusted)


def _parse(content) -> CheckpointFile:
    if not isinstance(content, dict):
        raise TypeError(f"it contains a {type(content).__name__}, not a dict of weights")
    # maskrcnn-benchmark: {"model": ...}; mmdetection: {"meta": ..., "state_dict": ...};
    # torchvision: the weights themselves.
    parameters = content.get("model", content.get("state_dict", content))
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError("it contains no dict of weights")
    not_tensors = [name for name, value in parameters.items() if not isinstance(value, Tensor)]
    if not_tensors:
        raise TypeError(f"its entry '{not_tensors[0]}' is not a tensor")
    if all(name.startswith("module.") for name in parameters):  # saved from DataParallel
        parameters = {name.removeprefix("module."): value for name, value in parameters.items()}
    return CheckpointFile(parameters, _config_text(content.get("meta")))


def _config_text(meta) -> str:
    """Returns the config in an mmdetection file's ``meta``: ``config`` in 2.x, ``cfg`` in 3.x."""
    meta = meta if isinstance(meta, dict) else {}
    return str(meta.get("cfg", meta.get("config", "")))


def write_config(path: Path, config: dict, comment: str) -> None:
    """Writes a config file without ``_BASE_``.

    Args:
        path: the file.
        config: nested dict, as in YAML.
        comment: lines to write at the top of the file.

    Raises:
        UserError: if the file cannot be written.
    """
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    write_file(path, lines + yaml.safe_dump(config, sort_keys=False, default_flow_style=None))
