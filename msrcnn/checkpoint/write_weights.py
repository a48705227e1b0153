"""Writes weights atomically, as ``.pth`` or ``.safetensors``."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..atomic_file import write_file
from ..errors import UserError
from .safe_load import CLASS_NAMES


def _pth(weights: dict[str, Tensor], class_names: list[str]) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": weights, CLASS_NAMES: class_names}, buffer)
    return buffer.getvalue()


def _safetensors(weights: dict[str, Tensor], class_names: list[str]) -> bytes:
    metadata = {"format": "pt", CLASS_NAMES: json.dumps(class_names)}
    return safetensors.torch.save(weights, metadata=metadata)


# Serialized in memory first: on a full disk, PyTorch's error does not mention the reason, and the
# files that safetensors creates are readable only by their owner.
FORMATS = {".pth": _pth, ".safetensors": _safetensors}


def check_weights_name(path: Path) -> None:
    """Rejects a file name whose extension is not one of ``FORMATS``.

    Raises:
        UserError: naming the extensions.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"weights '{path}': the file name must end in {' or '.join(FORMATS)}")


def write_weights(
    path: str | Path, state_dict: Mapping[str, Tensor], class_names: Sequence[str] = ()
) -> Path:
    """Writes weights to a file that Detectron2 and :func:`load_checkpoint_file` can load.

    An existing file is replaced only once the new one is completely on disk.

    Args:
        path: the file; its extension, ``.pth`` or ``.safetensors``, selects the format.
        state_dict: tensors by name, on any device. Tensors that share memory are written
            separately.
        class_names: names of the model's classes by index; empty if unknown.

    Returns:
        The path.

    Raises:
        UserError: if the extension is not supported, or the file cannot be written.
    """
    path = Path(path)
    check_weights_name(path)
    # Copy: safetensors supports neither shared nor non-contiguous memory, and torch.save would
    # write the whole storage of a view.
    weights = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in state_dict.items()
    }
    content = FORMATS[path.suffix](weights, list(class_names))
    write_file(path, content)
    return path
