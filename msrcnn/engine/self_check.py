"""Tries what a user's machine can do, for bug reports."""

import math

import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from ..config import get_config
from .scoring_parts import use_scoring_parts

CONFIG = "quick/smoke_ms_rcnn_R_18_FPN.yaml"
SIZE = (96, 128)  # height and width of the image


def devices() -> list[str]:
    """Returns the devices that PyTorch can use here: the CPU, one GPU, Apple's GPU."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def try_device(device: str) -> str:
    """Runs a training step and an inference of a small model on random data.

    Args:
        device: one of :func:`devices`.

    Returns:
        ``"works"``, or what went wrong.
    """
    try:
        losses, detections = _run(device)
    except Exception as error:  # of any kind: it belongs in the report
        return f"fails: {type(error).__name__}: {error}"
    if not all(map(math.isfinite, losses.values())):
        return f"fails: losses that are not finite: {losses}"
    if not detections.has("mask_scores"):
        return "fails: no mask scores"
    return "works"


def _run(device: str) -> tuple[dict[str, float], Instances]:
    cfg = get_config(CONFIG)
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = device, 0.0
    use_scoring_parts(cfg)
    torch.manual_seed(0)
    model = build_model(cfg)
    image = {"image": torch.rand(3, *SIZE) * 255, "instances": _two_instances()}
    with EventStorage():
        losses = model.train()([image])
        sum(losses.values()).backward()
    with torch.no_grad():
        (found,) = model.eval()([image])
    return {name: loss.item() for name, loss in losses.items()}, found["instances"]


def _two_instances() -> Instances:
    instances = Instances(SIZE)
    boxes = torch.tensor([[10, 10, 50, 60], [60, 20, 110, 90]])
    instances.gt_boxes = Boxes(boxes.float())
    instances.gt_classes = torch.tensor([0, 1])
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist()):
        mask[y0:y1, x0:x1] = True
    instances.gt_masks = BitMasks(masks)
    return instances
