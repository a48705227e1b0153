"""Reading another library's checkpoint, writing one for Detectron2 and its config."""

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from ...atomic_file import atomic_file
from ..safe_load import read_safely


@dataclass(frozen=True)
class CheckpointFile:
    """What a file holds of a model."""

    parameters: dict[str, Tensor]
    config_text: str  # the library's own config, empty if the file does not hold it


def read_checkpoint(path: Path, *, trusted: bool = False) -> CheckpointFile:
    """Read the file of a model, whichever of the libraries wrote it.

    Args:
        path: of the file.
        trusted: also load what is not plain data, and run the code in it.

    Raises:
        UserError: if it is no file of tensors by name, or holds more than data.
    """
    return read_safely(path, _parse, trusted=trusted)


def _parse(content) -> CheckpointFile:
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}, not weights by name")
    # maskrcnn-benchmark: {"model": ...}; mmdetection: {"meta": ..., "state_dict": ...};
    # torchvision: the weights themselves.
    parameters = content.get("model", content.get("state_dict", content))
    if not isinstance(parameters, dict) or not parameters:
        raise ValueError("it holds no weights by name")
    strange = [name for name, value in parameters.items() if not isinstance(value, Tensor)]
    if strange:
        raise TypeError(f"'{strange[0]}' is no tensor; is it a file of weights?")
    if all(name.startswith("module.") for name in parameters):  # saved with its data-parallel shell
        parameters = {name.removeprefix("module."): value for name, value in parameters.items()}
    return CheckpointFile(parameters, _config_text(content.get("meta")))


def _config_text(meta) -> str:
    """The config in the ``meta`` of an mmdetection file: ``config`` in 2.x, ``cfg`` in 3.x."""
    meta = meta if isinstance(meta, dict) else {}
    return str(meta.get("cfg", meta.get("config", "")))


def write_checkpoint(path: Path, parameters: dict[str, Tensor], author: str) -> None:
    """Write weights as Detectron2's checkpointer reads them, without matching of names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        torch.save({"model": parameters, "__author__": author}, file)


def write_config(path: Path, config: dict, comment: str) -> None:
    """Write a config that stands alone, but for the defaults of Detectron2 and msrcnn.

    Args:
        path: of the file.
        config: nested, as in YAML.
        comment: its first lines.
    """
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    path.write_text(lines + yaml.safe_dump(config, sort_keys=False, default_flow_style=None))
