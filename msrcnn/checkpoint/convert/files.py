"""Reads checkpoints of other libraries, and writes configs for Detectron2."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from torch import Tensor

from ...atomic_file import write_file
from ..safe_load import read_safely

# Where the libraries have their weights: maskrcnn-benchmark, mmdetection, torchvision.
USUAL = ("model", "state_dict", "")
DEPTH = 3  # of dicts in a file
# What all names begin with if a model is saved inside of another one: of DataParallel,
# torch.compile, Lightning.
WRAPPERS = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class CheckpointFile:
    """The content of another library's checkpoint.

    Attributes:
        parameters: tensors by the library's names.
        config_text: the library's config, or an empty string if the file has none.
        note: a sentence about other weights in the file.
    """

    parameters: dict[str, Tensor]
    config_text: str
    note: str = ""


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
    found = dict(_weights(content))
    key = next((each for each in USUAL if each in found), next(iter(found), None))
    if key not in USUAL and len(found) > 1:
        raise ValueError(
            f"it has several sets of weights, {_quoted(found)}: save one of them in a file of its "
            "own"
        )
    if key is None:
        raise _no_weights(content)
    parameters, others = found.pop(key), found
    parameters.pop("n_averaged", None)  # of PyTorch's AveragedModel
    for prefix in WRAPPERS * 2:  # in any order
        if all(name.startswith(prefix) for name in parameters):
            parameters = {name.removeprefix(prefix): each for name, each in parameters.items()}
    note = "" if key in USUAL else f"These are the weights under '{key}'."
    if others:
        note = f"These are the weights under '{key}'; those under {_quoted(others)} were left out."
    return CheckpointFile(parameters, _config_text(content.get("meta")), note)


def _weights(content: dict, path: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yields the dicts of named tensors in a file, by their keys: ``model``, ``ema/state_dict``."""
    names = [name for name in content if isinstance(name, str)]
    # Those of an optimizer have no dots in their names.
    tensors = all(isinstance(value, Tensor) for value in content.values())
    if tensors and len(names) == len(content) and any("." in name for name in names):
        yield path, dict(content)
        return
    for name in names if path.count("/") < DEPTH else ():
        if isinstance(content[name], dict):
            yield from _weights(content[name], f"{path}/{name}" if path else name)


def _no_weights(content: dict) -> Exception:
    """Returns what is wrong with a file that has no dict of tensors."""
    parameters = next((content[key] for key in USUAL if key in content), content)
    if not isinstance(parameters, dict) or not parameters:
        return ValueError("it contains no dict of weights")
    for name, value in parameters.items():
        if not isinstance(value, Tensor):
            return TypeError(f"its entry '{name}' is not a tensor")
    return ValueError(f"its entries, such as '{next(iter(parameters))}', are not those of a model")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


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
