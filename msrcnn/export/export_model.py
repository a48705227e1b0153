"""Exports a trained model in one of several formats."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..atomic_file import write_file
from ..config_by_key import changed
from ..engine import load_with_its_scores
from ..errors import UserError
from .exportable import check_exportable, check_layers
from .metadata import metadata
from .onnx_format import onnx_runner, require_onnx, to_onnx
from .pictures import check_pictures, revealing_factor, score_threshold
from .same_outputs import Run, check_same
from .single_image import SingleImage
from .torchscript_format import to_torchscript, torchscript_runner
from .weights_format import export_weights


class _Graph(NamedTuple):
    """A format whose files hold the model with its computation.

    Attributes:
        suffixes: suffixes of its files.
        convert: converts a model, with an image and metadata, to the content of a file.
        runner: returns a function that runs the content of a file.
        any_device: whether the file runs on any device, or only on that of the conversion.
        require: raises ``UserError`` if a package is missing.
    """

    suffixes: tuple[str, ...]
    convert: Callable[[SingleImage, Tensor, dict], bytes]
    runner: Callable[[bytes], Run]
    any_device: bool = False
    require: Callable[[], None] = lambda: None


GRAPHS = {
    "torchscript": _Graph((".ts", ".pt"), to_torchscript, torchscript_runner),
    "onnx": _Graph((".onnx",), to_onnx, onnx_runner, any_device=True, require=require_onnx),
}
FORMATS = ("weights", *GRAPHS)


def export_model(
    cfg, output: Path, *, model_format: str = "weights", trust_weights: bool = False
) -> list[Path]:
    """Exports a trained model.

    Args:
        cfg: a config with ``MODEL.WEIGHTS``.
        output: the file to write.
        model_format: one of ``FORMATS``. ``"weights"`` writes weights and config, see
            :func:`~.weights_format.export_weights`; the others one file with the model as
            :class:`~.single_image.SingleImage` and
            :func:`~.metadata.metadata`.
        trust_weights: see :func:`~msrcnn.engine.load_with_its_scores`.

    Returns:
        The files written.

    Raises:
        UserError: if the weights cannot be loaded, the format cannot hold the model, the exported
            model gives other results, or a file cannot be written. Nothing is written then.
    """
    if output.resolve() == Path(cfg.MODEL.WEIGHTS).resolve():
        raise UserError(f"'{output}' is the checkpoint to export: choose another output")
    if model_format == "weights":
        return [output, export_weights(cfg, output, trust_weights=trust_weights)]
    graph = GRAPHS[model_format]
    if output.suffix not in graph.suffixes:
        raise UserError(
            f"'{output}': the name of a file for --format {model_format} must end in "
            f"{' or '.join(graph.suffixes)}"
        )
    graph.require()
    if graph.any_device:
        cfg = changed(cfg, {"MODEL.DEVICE": "cpu"})
    check_exportable(cfg, model_format)
    cfg, loaded = load_with_its_scores(cfg, trust_weights=trust_weights)
    model = SingleImage(loaded)
    check_layers(model, model_format)
    write_file(output, _checked(model, graph, check_pictures(cfg), metadata(cfg)))
    return [output]


def _checked(model: SingleImage, graph: _Graph, pictures: list[Tensor], metadata: dict) -> bytes:
    """Converts a model and compares the result with it.

    A trained model may find nothing in the pictures. Then it is first converted and compared with
    a lower score threshold, which is the only difference.
    """
    factor = revealing_factor(model, pictures)
    for used in (factor, 1.0) if factor < 1 else (1.0,):
        with score_threshold(model, used):
            content = graph.convert(model, pictures[0], metadata)
            check_same(model, graph.runner(content), pictures)
    return content
