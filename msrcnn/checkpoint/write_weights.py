"""Writes weights atomically, as ``.pth`` or ``.safetensors``."""

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


# Serialized in memory first: on a full disk, PyTorch's error does not mention the reason, and the
# files that safetensors creates are readable only by their owner.
FORMATS = {".pth": _pth, ".safetensors": _safetensors}


def write_weights(path: str | Path, state_dict: Mapping[str, Tensor]) -> Path:
    """Writes weights to a file that Detectron2 and :func:`load_checkpoint_file` can load.

    An existing file is replaced only once the new one is completely on disk.

    Args:
        path: the file; its extension, ``.pth`` or ``.safetensors``, selects the format.
        state_dict: tensors by name, on any device. Tensors that share memory are written
            separately.

    Returns:
        The path.

    Raises:
        UserError: if the extension is not supported, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(f"weights '{path}': the file name must end in {' or '.join(FORMATS)}")
    # Copy: safetensors supports neither shared nor non-contiguous memory, and torch.save would
    # write the whole storage of a view.
    weights = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in state_dict.items()
    }
    content = FORMATS[path.suffix](weights)
    write_file(path, content)
    return path
