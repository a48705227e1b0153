"""Converts a checkpoint of another library, and writes the matching config."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from ...config import get_config_file, get_msrcnn_cfg
from ...errors import UserError
from ..write_weights import check_weights_name, write_weights
from .files import CheckpointFile, read_checkpoint, write_config
from .maskscoring_rcnn import MaskScoringRCNN
from .mmdet import MMDetection
from .source import SourceModel
from .torchvision_models import TorchvisionMaskRCNN, TorchvisionMaskRCNNV2, TorchvisionResNet

# The first class that recognizes the parameter names of a file is used.
MODELS: tuple[type[SourceModel], ...] = (
    MaskScoringRCNN,
    MMDetection,
    TorchvisionMaskRCNNV2,
    TorchvisionMaskRCNN,
    TorchvisionResNet,
)
SOURCES = tuple(dict.fromkeys(model.option for model in MODELS))
DETECTRON2_EPS = 1e-5  # of its frozen batch normalization


@dataclass(frozen=True)
class Conversion:
    """A converted model.

    Attributes:
        parameters: tensors by Detectron2's names.
        config: nested dict, as in YAML. With it, the model has the same outputs as in the other
            library, up to the differences listed in docs/checkpoints.md.
        description: one sentence on the model, one on outputs that were dropped, and one on other
            weights in the file.
    """

    parameters: dict[str, Tensor]
    config: dict
    description: str


def how_to_convert(names: Collection[str]) -> str:
    """Says how to convert a detector of another library; empty if the names are not of one.

    Args:
        names: of the parameters in a file.
    """
    found = _model_class(names)
    if found is None or found.part:  # a backbone alone, which needs no conversion
        return ""
    return f"is {found.title}: convert it with `msrcnn convert --from {found.option}`"


def _model_class(names: Collection[str]) -> type[SourceModel] | None:
    return next((model for model in MODELS if model.recognizes(set(names))), None)


def convert_weights(
    file: CheckpointFile,
    source: str,
    style: str | None = None,
    bn_eps: float | None = None,
    *,
    all_classes: bool = False,
) -> Conversion:
    """Converts a model of another library.

    Args:
        file: the content of the checkpoint.
        source: the library, one of ``SOURCES``.
        style: "caffe" if a ResNet block has its stride in the first 1 x 1 convolution, "pytorch"
            if in the 3 x 3 one; it also selects the normalization of images. The default is the
            style given in the file or, if there is none, that of the library's published models.
        bn_eps: the epsilon of the backbone's frozen batch normalization. The default is that of
            the library's published models.
        all_classes: the outputs are classes also if they are as many as COCO's category ids.

    Raises:
        UserError: if the model is not from ``source`` or has no such style, or if a parameter is
            missing, unexpected or of the wrong shape.
    """
    names = set(file.parameters)
    model_class = _model_class(names)
    if model_class is None or model_class.option != source:
        raise UserError(_other_library(names, source, model_class))
    model = model_class(file.parameters, file.config_text, all_classes=all_classes)
    style = style or model.default_style
    if style not in model.styles:
        raise UserError(
            f"style '{style}': {model.title} is available only in {' or '.join(model.styles)} style"
        )
    config = _config(model, style)
    shapes = _shapes(config, model.part)
    _check(model, shapes)
    parameters = {
        name: model.class_order.reorder(name, model.parameters[model.parameter_name(name)])
        for name in shapes
    }
    eps = model.bn_eps if bn_eps is None else bn_eps
    if eps != DETECTRON2_EPS:
        parameters.update(_without_statistics(parameters, eps))
    description = "\n".join(filter(None, (_describe(model, config, style), file.note)))
    return Conversion(parameters, config, description)


def convert_checkpoint(
    path: Path,
    output: Path,
    source: str,
    style: str | None = None,
    bn_eps: float | None = None,
    *,
    all_classes: bool = False,
    trusted: bool = False,
) -> Conversion:
    """Converts a checkpoint file of another library.

    Args:
        path: the checkpoint to convert.
        output: the checkpoint to write, ``.pth`` or ``.safetensors``. The config is written next to
            it, ``*.yaml``.
        source, style, bn_eps, all_classes: see :func:`convert_weights`.
        trusted: also load a file that contains more than data, and run the code in it.

    Returns:
        What was written.

    Raises:
        UserError: if ``path`` cannot be loaded or converted, if ``output`` is not a valid file
            name, or if the checkpoint or the config cannot be written.
    """
    check_weights_name(output)
    if output.resolve() == path.resolve():
        raise UserError(f"'{output}' is the file to convert: choose another name for the output")
    file = read_checkpoint(path, trusted=trusted)
    try:
        converted = convert_weights(file, source, style, bn_eps, all_classes=all_classes)
    except UserError as error:
        raise UserError(f"'{path}': {error}") from error
    converted.config["MODEL"]["WEIGHTS"] = output.name
    write_weights(output, converted.parameters)
    comment = f"{converted.description}\nWritten by msrcnn convert --from {source}."
    write_config(output.with_suffix(".yaml"), converted.config, comment)
    return converted


def _config(model: SourceModel, style: str) -> dict:
    """Returns the config of a model as a nested dict, as in YAML."""
    images = model.styles[style]
    config = yaml.safe_load(Path(get_config_file("Base-RCNN-FPN.yaml")).read_text())
    flat = {
        "MODEL.WEIGHTS": "",
        "MODEL.MASKIOU_ON": model.scores_masks,
        "MODEL.PIXEL_MEAN": list(images.mean),
        "MODEL.PIXEL_STD": list(images.std),
        "MODEL.RESNETS.STRIDE_IN_1X1": style == "caffe",
        "MODEL.RESNETS.NORM": "FrozenBN",
        **model.sizes(),
        "MODEL.ROI_HEADS.NUM_CLASSES": model.class_order.num_classes,
        "INPUT.FORMAT": images.channels,
        **model.config(),
    }
    for key, value in flat.items():
        *path, last = key.split(".")
        node = config
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    if model.class_order.num_classes != 80:
        del config["DATASETS"]  # trained on a custom dataset
    return config


def _shapes(config: dict, part: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a model's parameters whose names start with ``part``."""
    cfg = get_msrcnn_cfg()
    cfg.merge_from_other_cfg(CfgNode(config))
    cfg.MODEL.DEVICE = "meta"
    try:
        with torch.device("meta"):  # allocates no memory
            parameters = build_model(cfg).state_dict()
    except (AssertionError, ValueError) as error:  # inconsistent numbers of channels
        raise UserError(f"Detectron2 cannot build a model of these shapes: {error}") from error
    return {name: tuple(p.shape) for name, p in parameters.items() if name.startswith(part)}


def _check(model: SourceModel, shapes: dict[str, tuple[int, ...]]) -> None:
    """Checks that the file contains exactly the parameters of the model.

    Args:
        model: the model in the file.
        shapes: the shapes of all parameters in Detectron2, by Detectron2's names.

    Raises:
        UserError: if a parameter is missing, unexpected or of the wrong shape.
    """
    expected = {
        model.parameter_name(name): model.class_order.source_shape(name, shape)
        for name, shape in shapes.items()
    }
    found = {name: tuple(p.shape) for name, p in model.parameters.items()}
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected and not model.is_ignored(name)]
    misshaped = [
        f"{name} {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if not missing and found[name] != shape  # a missing parameter may decide the shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shape": misshaped}
    found_problems = [f"{what}: {', '.join(names)}" for what, names in problems.items() if names]
    if found_problems:
        raise UserError(
            f"the parameters are not those of {model.title}; {'; '.join(found_problems)}"
        )


def _without_statistics(parameters: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Folds the statistics of the backbone's frozen batch norms into weight and bias.

    Detectron2's ``FrozenBatchNorm2d`` has a fixed epsilon. Subtracting the difference between the
    epsilons from the variance is inexact in float32 if the variance is small; folding is exact.
    Caffe2's files store batch norms in the same form.

    Args:
        parameters: the parameters of the model, by Detectron2's names.
        eps: the library's epsilon.

    Returns:
        The parameters that change.
    """
    changed = {}
    for name in parameters:
        norm, _, parameter = name.rpartition(".")
        if parameter != "running_var" or not name.startswith("backbone.bottom_up."):
            continue
        weight, bias, mean, var = (
            parameters[f"{norm}.{key}"].double()
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / (var + eps).sqrt()
        changed[f"{norm}.weight"] = scale.float()
        changed[f"{norm}.bias"] = (bias - mean * scale).float()
        changed[f"{norm}.running_mean"] = torch.zeros_like(mean).float()
        changed[name] = torch.ones_like(var).float() - DETECTRON2_EPS
    return changed


def _describe(model: SourceModel, config: dict, style: str) -> str:
    resnets, heads = config["MODEL"]["RESNETS"], config["MODEL"]["ROI_HEADS"]
    depth, groups = resnets["DEPTH"], resnets["NUM_GROUPS"]
    backbone = f"ResNet-{depth}"
    if groups > 1:
        backbone = f"ResNeXt-{depth} {groups}x{resnets['WIDTH_PER_GROUP']}d"
    if model.part:
        return f"{backbone} of {style} style, from {model.title}; all else is untrained."
    kind = "Mask Scoring R-CNN" if model.scores_masks else "Mask R-CNN"
    description = (
        f"{kind} with {backbone} FPN of {style} style, {heads['NUM_CLASSES']} classes, from "
        f"{model.title}."
    )
    if dropped := model.num_outputs - 1 - heads["NUM_CLASSES"]:
        description += (
            f"\nIts {model.num_outputs} outputs were taken for COCO's category ids, and the "
            f"{dropped} without a class were dropped; --all-classes keeps them."
        )
    return description


def _other_library(names: set[str], source: str, found: type[SourceModel] | None) -> str:
    """Returns the error message for a file that is not from ``source``."""
    if found is not None:
        return f"this is {found.title}: convert it with --from {found.option}"
    if any(name.startswith("proposal_generator.") for name in names):
        return "this is a checkpoint of Detectron2, which needs no conversion: use it as it is"
    if all(any(name.startswith(part) for name in names) for part in ("rpn_head.", "bbox_head.")):
        return (
            "this is a checkpoint of mmdetection 1.x, which defines boxes and classes differently: "
            "convert one of mmdetection 2.x or 3.x instead"
        )
    return f"its parameter names, such as '{min(names)}', are not those of {source}"
