"""ONNX: runs in ONNX Runtime, without PyTorch."""

import contextlib
import inspect
import io
import json
import warnings
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from .same_outputs import Run
from .single_image import SingleImage, traceable

OPSET = 17  # the first with LayerNormalization; RoiAlign is right since 16
INPUT = "image"


class _Tuple(nn.Module):
    """Returns the outputs as a tuple, in the order of their names."""

    def __init__(self, model: SingleImage):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(image).values())


def require_onnx() -> None:
    """Checks that the packages are installed.

    Raises:
        UserError: if they are not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--format onnx needs a package that is missing ({error}): pip install onnx onnxruntime"
        ) from error


def to_onnx(model: SingleImage, image: Tensor, metadata: dict) -> bytes:
    """Converts a model.

    Args:
        model: the model.
        image: an image to trace it with; the result takes images of any size and of its type.
        metadata: values by name, which become the file's ``metadata_props``, as JSON.

    Returns:
        The content of an ONNX file. Its outputs have the names of those of the model.

    Raises:
        UserError: if ONNX has no operator for a part of the model.
    """
    import onnx

    with torch.no_grad():
        outputs = list(model(image))
    buffer = io.BytesIO()
    with (
        traceable(),
        mock.patch.object(nn.GroupNorm, "forward", _group_norm),
        torch.no_grad(),
        warnings.catch_warnings(),
        # Where it fails, the exporter prints the whole graph.
        contextlib.redirect_stdout(None),
    ):
        # The tracer warns about every Python number; the result is compared with the model.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Tuple(model).eval(),  # the exporter restores the mode of the whole model
                (image,),
                buffer,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=outputs,
                dynamic_axes={INPUT: {1: "height", 2: "width"}}
                | {name: {0: "detections"} for name in outputs},
                **_TRACING,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"a part of the model cannot be exported as ONNX: {reason}") from error
    converted = onnx.load_from_string(buffer.getvalue())
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    onnx.helper.set_model_props(converted, texts)
    return converted.SerializeToString()


# The exporter by torch.export, the default since PyTorch 2.9, does not accept Detectron2's models:
# they branch on values of tensors.
_TRACING = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


def _group_norm(self: nn.GroupNorm, x: Tensor) -> Tensor:
    """Computes ``nn.GroupNorm`` of (N, C, H, W) without a reshape, also if N is 0.

    PyTorch exports a reshape to (N, groups, -1), where -1 is unknown without detections; ONNX
    Runtime replaces any other shape of three by it.
    """
    size = self.num_channels // self.num_groups
    # Channels by groups; from NumPy, which the tracer takes as a constant.
    member = torch.tensor(np.repeat(np.eye(self.num_groups), size, axis=0), dtype=x.dtype)

    def group_mean(x: Tensor) -> Tensor:
        return (x.mean(dim=(2, 3)) @ (member / size) @ member.T)[:, :, None, None]

    centered = x - group_mean(x)
    y = centered * (group_mean(centered.square()) + self.eps).rsqrt()
    return y * self.weight[:, None, None] + self.bias[:, None, None]


def onnx_runner(content: bytes) -> Run:
    """Returns a function that runs a file's content on an image, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(image: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {INPUT: image.numpy()})
        return dict(zip(names, map(torch.from_numpy, found)))

    return run
