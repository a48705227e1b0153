"""Parameters and multiply-adds of every ROI head, as the paper's discussion gives them."""

import argparse

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from fvcore.nn import FlopCountAnalysis
from tabulate import tabulate
from torch import nn

from ..engine import prepare_config

DEFAULT_CONFIG = "COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml"
# Convolutions and fully connected layers, as fvcore names them. What it counts of
# normalisations is no multiply-add, and an estimate.
LAYERS = ("conv", "linear", "addmm")
# Where the parts of a head stand below `roi_heads`. Those of Cascade are lists, one for each
# stage, and a proposal passes every stage; `res5` is what C4 has in place of a box head.
PARTS = {
    "res5": ("res5",),
    "box_head": ("box_head", "box_predictor"),
    "mask_head": ("mask_head",),
    "maskiou_head": ("mask_head.maskiou_head",),
}
IMAGE_SIZE = (256, 256)
BOX = (32.0, 32.0, 160.0, 160.0)  # heads see it pooled to a fixed size, so that any will do


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that :func:`measure` reads."""
    parser.add_argument(
        "--config-file", default=DEFAULT_CONFIG, metavar="F", help="(default: %(default)s)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the config")


def measure(args: argparse.Namespace) -> dict:
    """The cost of the ROI heads of a config.

    Returns:
        ``config``, its path or name, and ``heads``, see :func:`head_costs`.

    Raises:
        UserError: for a mistake in the config or the command line.
    """
    cfg = prepare_config(args.config_file, args.opts)
    return {"config": args.config_file, "heads": head_costs(cfg)}


def table(result: dict) -> str:
    """A result of :func:`measure`, for a reader."""
    rows = [
        (head, f"{cost['parameters'] / 1e6:.2f} M", f"{cost['multiply_adds'] / 1e9:.3f} G")
        for head, cost in result["heads"].items()
    ]
    headers = ("ROI head", "parameters", "multiply-adds per proposal")
    return tabulate(rows, headers, tablefmt="pipe", colalign=("left", "right", "right"))


def head_costs(cfg: CfgNode) -> dict[str, dict[str, int]]:
    """Parameters and multiply-adds of every ROI head, for one proposal.

    The paper gives 0.53 G for the mask head and 0.39 G for the MaskIoU head. They are all
    convolutions and fully connected layers, a multiply-add counted as one: of the mask head its
    four convolutions (0.462 G), the deconvolution (0.051 G, on the 14 x 14 of its input) and the
    class predictor with its 80 outputs (0.016 G), 0.530 G in all; of the MaskIoU head the
    convolutions (0.376 G) and the fully connected layers (0.014 G), 0.390 G in all. Biases,
    activations, normalisations, pooling and RoIAlign are not counted.

    Args:
        cfg: a config with Detectron2's ROI heads, FPN, Cascade or C4.

    Returns:
        For each head, from a key of ``PARTS``, its ``parameters`` and ``multiply_adds``; a head
        that the model lacks is left out. The mask head is without the MaskIoU head it holds.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
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
    """Multiply-adds for one proposal, by the name of every module below ``roi_heads``."""
    # Two calls, as the first may make any number of detections, or none, of its one proposal.
    of_proposal, of_detection = _count(model, detected=False), _count(model, detected=True)
    return {
        name: (of_detection if name.startswith(("res5", "mask_head")) else of_proposal)[name]
        for name, _ in model.roi_heads.named_modules()
        if name
    }


def _count(model: nn.Module, *, detected: bool) -> dict[str, int]:
    """Multiply-adds of one call of the ROI heads, by the name of every module below them."""
    height, width = IMAGE_SIZE
    features = tuple(
        torch.zeros(1, shape.channels, height // shape.stride, width // shape.stride)
        for shape in model.backbone.output_shape().values()
    )
    analysis = FlopCountAnalysis(_OneBox(model, detected=detected), features)
    # Else it names every operation, module and branch that it does not count or follow.
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    return {
        name.removeprefix("roi_heads."): sum(operations[layer] for layer in LAYERS)
        for name, operations in analysis.by_module_and_operator().items()
    }


class _OneBox(nn.Module):
    """The ROI heads on one box, from tensors to tensors, which is all that fvcore follows.

    They are called as a detector calls them, so that the heads get the shapes they really get.
    """

    def __init__(self, model: nn.Module, *, detected: bool):
        """
        Args:
            model: a ``GeneralizedRCNN``.
            detected: the box is a detection, to be given a mask; otherwise a proposal.
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
        # All of them: what no output depends on would not be counted.
        fields = outputs[0].get_fields().values()
        return tuple(field.tensor if isinstance(field, Boxes) else field for field in fields)
