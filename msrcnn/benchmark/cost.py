"""Parameters and multiply-adds of every ROI head, as in the paper's discussion."""

import argparse

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from fvcore.nn import FlopCountAnalysis
from tabulate import tabulate
from torch import nn

from ..config_by_key import changed
from ..engine import prepare_config
from .benchmark_config import add_config

# fvcore's names of convolutions and fully connected layers. Its counts for normalization layers
# are estimates, and not multiply-adds.
LAYERS = ("conv", "linear", "addmm")
# Modules of each head under `roi_heads`. In Cascade they are lists with one module per stage, and a
# proposal passes every stage; C4 has `res5` instead of a box head.
PARTS = {
    "res5": ("res5",),
    "box_head": ("box_head", "box_predictor"),
    "mask_head": ("mask_head",),
    "maskiou_head": ("mask_head.maskiou_head",),
}
IMAGE_SIZE = (256, 256)
BOX = (32.0, 32.0, 160.0, 160.0)  # any box: RoIAlign pools it to a fixed size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    add_config(parser)


def measure(args: argparse.Namespace) -> dict:
    """Computes the cost of the ROI heads of a config.

    Returns:
        ``config``, its path or name, and ``heads``, see :func:`head_costs`.

    Raises:
        UserError: for a mistake in the config or the command line.
    """
    cfg = prepare_config(args.config_file, args.opts)
    return {"config": args.config_file, "heads": head_costs(cfg)}


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    rows = [
        (head, f"{cost['parameters'] / 1e6:.2f} M", f"{cost['multiply_adds'] / 1e9:.3f} G")
        for head, cost in result["heads"].items()
    ]
    headers = ("ROI head", "parameters", "multiply-adds per proposal")
    return tabulate(rows, headers, tablefmt="pipe", colalign=("left", "right", "right"))


def head_costs(cfg: CfgNode) -> dict[str, dict[str, int]]:
    """Computes parameters and multiply-adds of every ROI head, for one proposal.

    The paper reports 0.53 G for the mask head and 0.39 G for the MaskIoU head. This counts
    convolutions and fully connected layers, one per multiply-add: the mask head's four convolutions
    (0.462 G), deconvolution (0.051 G, on its 14 x 14 input) and class predictor with 80 outputs
    (0.016 G) add up to 0.530 G; the MaskIoU head's convolutions (0.376 G) and fully connected
    layers (0.014 G) to 0.390 G. Biases, activations, normalization, pooling and RoIAlign are not
    counted.

    Args:
        cfg: a config with Detectron2's ROI heads: FPN, Cascade or C4.

    Returns:
        For each key of ``PARTS`` that the model has, its ``parameters`` and ``multiply_adds``. The
        mask head is counted without the MaskIoU head that it holds.
    """
    model = build_model(changed(cfg, {"MODEL.DEVICE": "cpu"})).eval()
    counts = _multiply_adds(model)
    parameters = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in model.roi_heads.named_modules()
    }
    costs = {}
    for head, names in PARTS.items():
        names = [name for name in names if name in parameters]
        if names:
            costs[head] = {
                "parameters": sum(parameters[name] for name in names),
                "multiply_adds": sum(counts[name] for name in names),
            }
    if "maskiou_head" in costs:
        for key, value in costs["maskiou_head"].items():
            costs["mask_head"][key] -= value
    return costs


def _multiply_adds(model: nn.Module) -> dict[str, int]:
    """Returns multiply-adds for one proposal by name of each module under ``roi_heads``."""
    # Two calls, because the first may turn its one proposal into any number of detections.
    of_proposal, of_detection = _count(model, detected=False), _count(model, detected=True)
    return {
        name: (of_detection if name.startswith(("res5", "mask_head")) else of_proposal)[name]
        for name, _ in model.roi_heads.named_modules()
        if name
    }


def _count(model: nn.Module, *, detected: bool) -> dict[str, int]:
    """Returns multiply-adds of one call of the ROI heads by name of each module under them."""
    height, width = IMAGE_SIZE
    features = tuple(
        torch.zeros(1, shape.channels, height // shape.stride, width // shape.stride)
        for shape in model.backbone.output_shape().values()
    )
    analysis = FlopCountAnalysis(_OneBox(model, detected=detected), features)
    # Otherwise it warns about every operation and branch that it does not count or follow.
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    return {
        name.removeprefix("roi_heads."): sum(operations[layer] for layer in LAYERS)
        for name, operations in analysis.by_module_and_operator().items()
    }


class _OneBox(nn.Module):
    """The ROI heads on one box, from tensors to tensors, as fvcore requires.

    They are called like in a detector, so that the heads see their real shapes.
    """

    def __init__(self, model: nn.Module, *, detected: bool):
        """
        Args:
            model: a ``GeneralizedRCNN``.
            detected: whether the box is a detection, which gets a mask, or a proposal.
        """
        super().__init__()
        self.roi_heads = model.roi_heads
        self.feature_names = list(model.backbone.output_shape())
        self.detected = detected

    def forward(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = dict(zip(self.feature_names, features))
        instances = Instances(IMAGE_SIZE)
        boxes = Boxes(torch.tensor([BOX]))
        if self.detected:
            instances.pred_boxes = boxes
            instances.pred_classes = torch.zeros(1, dtype=torch.int64)
            outputs = self.roi_heads.forward_with_given_boxes(features, [instances])
        else:
            instances.proposal_boxes = boxes
            instances.objectness_logits = torch.zeros(1)
            outputs, _ = self.roi_heads(None, features, [instances])
        # Return every field: modules that no output depends on would not be counted.
        fields = outputs[0].get_fields().values()
        return tuple(field.tensor if isinstance(field, Boxes) else field for field in fields)
