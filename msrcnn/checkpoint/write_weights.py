"""Weights written to a file that is complete or not there."""

import io
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..atomic_file import write_file
from ..errors import UserError


def _pth(weights: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": weights}, buffer)
    return buffer.getvalue()


def _safetensors(weights: dict[str, Tensor]) -> bytes:
    return safetensors.torch.save(weights, metadata={"format": "pt"})


# In memory first: PyTorch does not say so when a disk is full, and safetensors makes files that
# their owner alone may read.
FORMATS = {".pth": _pth, ".safetensors": _safetensors}


def write_weights(path: str | Path, state_dict: Mapping[str, Tensor]) -> Path:
    """Write a model's weights, for :func:`load_checkpoint_file` and others to read.

    A file that is there already is replaced once the new one is whole on disk.

    Args:
        path: ends in ``.pth`` or ``.safetensors``, which says the format.
        state_dict: tensors by name, on any device. Those that share memory are written each.

    Returns:
        The path.

    Raises:
        UserError: for another ending, or if the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(f"weights '{path}': the name must end in {' or '.join(FORMATS)}")
    # Copies: safetensors takes neither shared nor strided memory, torch.save would write all of
    # what a view is a part of.
    weights = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in state_dict.items()
    }
    content = FORMATS[path.suffix](weights)
    write_file(path, content)
    return path
