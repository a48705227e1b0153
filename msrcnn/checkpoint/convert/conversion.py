"""From another library's file to a checkpoint and the config that goes with it."""

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from ...config import get_config_file, get_msrcnn_cfg
from ...errors import UserError
from .files import CheckpointFile, read_checkpoint, write_checkpoint, write_config
from .maskscoring_rcnn import MaskScoringRCNN
from .mmdet import MMDetection
from .source import SourceModel
from .torchvision_models import TorchvisionMaskRCNN, TorchvisionMaskRCNNV2, TorchvisionResNet

# What can be converted, by the names of the parameters; the first that recognises its own is taken.
MODELS: tuple[type[SourceModel], ...] = (
    MaskScoringRCNN,
    MMDetection,
    TorchvisionMaskRCNNV2,
    TorchvisionMaskRCNN,
    TorchvisionResNet,
)
SOURCES = tuple(dict.fromkeys(model.option for model in MODELS))
DETECTRON2_EPS = 1e-5  # of its frozen batch normalisation


@dataclass(frozen=True)
class Conversion:
    """A converted model."""

    parameters: dict[str, Tensor]  # by Detectron2's names
    config: dict  # nested, as in YAML
    description: str  # in a few words


def convert_weights(
    file: CheckpointFile, source: str, style: str | None = None, bn_eps: float | None = None
) -> Conversion:
    """Convert a model of another library.

    Args:
        file: what was read of it.
        source: the library, one of ``SOURCES``.
        style: where a block's stride is, "caffe" or "pytorch"; by default what the file says, or
            else what the library's published models have.
        bn_eps: what the library's frozen batch normalisation adds to the variance; by default
            what it adds in the published models.

    Returns:
        The parameters, the config that gives the same outputs with them, and a description.

    Raises:
        UserError: if it is a model of another library, or a parameter is unknown, missing or of
            another shape than the others ask for.
    """
    names = set(file.parameters)
    model_class = next((model for model in MODELS if model.recognises(names)), None)
    if model_class is None or model_class.option != source:
        raise UserError(_other_library(names, source, model_class))
    model = model_class(file.parameters, file.config_text)
    style = style or model.default_style
    if style not in model.styles:
        raise UserError(f"style '{style}': {model.title} is of {', '.join(model.styles)} style")
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
    return Conversion(parameters, config, _describe(model, config, style))


def convert_checkpoint(
    path: Path,
    output: Path,
    source: str,
    style: str | None = None,
    bn_eps: float | None = None,
    *,
    trusted: bool = False,
) -> Conversion:
    """Convert the file of another library's model.

    Args:
        path: the file.
        output: the checkpoint to write, ``*.pth``; the config is written beside it, ``*.yaml``.
        source, style, bn_eps: as of :func:`convert_weights`.
        trusted: also load a file that is not plain data, and run the code in it.

    Raises:
        UserError: for a mistake in the file or the arguments; then nothing is written.
    """
    if output.suffix != ".pth":
        raise UserError(f"'{output}': a checkpoint of Detectron2 is called *.pth")
    if output.resolve() == path.resolve():
        raise UserError(f"'{output}' is the file to convert: give another name to write")
    file = read_checkpoint(path, trusted=trusted)
    try:
        converted = convert_weights(file, source, style, bn_eps)
    except UserError as error:
        raise UserError(f"'{path}': {error}") from error
    converted.config["MODEL"]["WEIGHTS"] = str(output)
    write_checkpoint(output, converted.parameters, f"msrcnn, converted from {source}")
    comment = f"{converted.description}\nWritten by tools/convert_checkpoint.py --from {source}."
    write_config(output.with_suffix(".yaml"), converted.config, comment)
    return converted


def _config(model: SourceModel, style: str) -> dict:
    """The config of a model, nested as in YAML."""
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
        del config["DATASETS"]  # it was trained on data of its own
    return config


def _shapes(config: dict, part: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's parameters whose names begin with ``part``."""
    cfg = get_msrcnn_cfg()
    cfg.merge_from_other_cfg(CfgNode(config))
    cfg.MODEL.DEVICE = "meta"
    try:
        with torch.device("meta"):  # without memory, and so without time
            parameters = build_model(cfg).state_dict()
    except (AssertionError, ValueError) as error:  # channels that do not go together
        raise UserError(f"Detectron2 has no model of such shapes: {error}") from error
    return {name: tuple(p.shape) for name, p in parameters.items() if name.startswith(part)}


def _check(model: SourceModel, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse a file that is not exactly the parameters of a model.

    Args:
        model: what the file holds.
        shapes: of all parameters of the model in Detectron2, by its names.

    Raises:
        UserError: naming what is missing, unknown or of another shape.
    """
    expected = {
        model.parameter_name(name): model.class_order.source_shape(name, shape)
        for name, shape in shapes.items()
    }
    found = {name: tuple(p.shape) for name, p in model.parameters.items()}
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected and not model.is_ignored(name)]
    misshaped = [
        f"{name} {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if not missing and found[name] != shape  # what is missing could tell the right shape
    ]
    complaints = {"missing": missing, "unknown": unknown, "of another shape": misshaped}
    told = [f"{what}: {', '.join(names)}" for what, names in complaints.items() if names]
    if told:
        raise UserError(f"not the parameters of {model.title}; {'; '.join(told)}")


def _without_statistics(parameters: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """The backbone's frozen normalisations as scale and shift alone, as Caffe2's files have them.

    Detectron2's adds an epsilon of its own to the variance. A variance smaller than that would
    not survive in float32 the subtraction of the difference; scale and shift are exact.

    Args:
        parameters: of the model.
        eps: what the library adds to the variance.
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
        return f"{backbone} of {style} style, of {model.title}; all else is to be trained."
    kind = "Mask Scoring R-CNN" if model.scores_masks else "Mask R-CNN"
    return (
        f"{kind} with {backbone} FPN of {style} style, {heads['NUM_CLASSES']} classes, of "
        f"{model.title}."
    )


def _other_library(names: set[str], source: str, found: type[SourceModel] | None) -> str:
    """What to say of a file that is not of ``source``."""
    if found is not None:
        return f"this is {found.title}: convert it with --from {found.option}"
    if any(name.startswith("proposal_generator.") for name in names):
        return "this is a checkpoint of Detectron2, which needs no conversion: give it as it is"
    if all(any(name.startswith(part) for name in names) for part in ("rpn_head.", "bbox_head.")):
        return (
            "this is of mmdetection 1.x, whose boxes and classes follow other conventions; the "
            "models that mmdetection 2.x publishes can be converted"
        )
    return f"no names of {source} among its parameters, such as '{min(names)}'"
