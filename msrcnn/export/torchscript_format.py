"""TorchScript: runs in Python and C++ with PyTorch and torchvision, without Detectron2."""

import io
import json
import warnings

import torch
from torch import Tensor

from .same_outputs import Run
from .single_image import SingleImage, traceable

METADATA_FILE = "metadata.json"


def to_torchscript(model: SingleImage, image: Tensor, metadata: dict) -> bytes:
    """Converts a model.

    Args:
        model: the model.
        image: an image to trace it with; the result takes images of any size.
        metadata: JSON values by name, which become the file's ``metadata.json``.

    Returns:
        The content of a file for ``torch.jit.load``.
    """
    with traceable(), torch.no_grad(), warnings.catch_warnings():
        # The tracer warns about every Python number; the result is compared with the model.
        warnings.simplefilter("ignore")
        # Not strict: the outputs are a dict.
        traced = torch.jit.trace(model, image, strict=False, check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer, {METADATA_FILE: json.dumps(metadata)})
    return buffer.getvalue()


def torchscript_runner(content: bytes) -> Run:
    """Returns a function that runs a file's content on an image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(io.BytesIO(content))
    return model
