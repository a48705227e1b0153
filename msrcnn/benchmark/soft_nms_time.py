"""Time and operators of Soft-NMS, compared with a plain loop and with NMS."""

import argparse
import statistics

import torch
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from tabulate import tabulate
from torch.utils._python_dispatch import TorchDispatchMode

from ..modeling.soft_nms import SoftNMS, soft_nms_inference
from .timing import measure_in_turn, ratio, text

IMAGE = (800, 1333)  # height and width
BOXES, CLASSES, KEPT = 1000, 80, 100
NMS_THRESH = 0.5
# Logit of the background and score threshold: few candidates as of a trained model, more, and all.
FEW, ALL = "as of a trained model", "every class of every box"
LOADS = {FEW: (9.6, 0.05), "as in a crowd": (8.0, 0.05), ALL: (0.0, 0.0)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    parser.add_argument("--repeats", type=int, default=10, help="runs to measure")
    parser.add_argument("--boxes", type=int, default=BOXES, help="proposals (default: %(default)s)")


def measure(args: argparse.Namespace) -> dict:
    """Measures the box inference of one image with Soft-NMS, with a plain loop, and with NMS.

    The plain loop is Soft-NMS as published: class by class, every remaining box is compared with
    the best one, here for all boxes of the class at once.

    Returns:
        ``loads``, by name: the number of ``candidates`` above the score threshold, ``operators``
        that Soft-NMS calls, ``seconds`` of each way and repeat, and the ratios ``to_loop`` and
        ``to_nms``.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "boxes": args.boxes,
        "classes": CLASSES,
        "kept": KEPT,
        "loads": {
            name: _measure_load(*predictions(args.boxes, background, device), thresh, args.repeats)
            for name, (background, thresh) in LOADS.items()
        },
    }


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    rows = []
    for name, load in result["loads"].items():
        seconds = (f"{statistics.median(each) * 1e3:.1f} ms" for each in load["seconds"].values())
        ratios = (text(load["to_loop"]), text(load["to_nms"]))
        rows.append((name, load["candidates"], load["operators"], *seconds, *ratios))
    headers = ("", "candidates", "operators", "Soft-NMS", "plain loop", "NMS")
    return tabulate(rows, (*headers, "of the loop's time", "of NMS's time"), tablefmt="pipe")


def predictions(
    number: int, background: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns boxes in clusters, (N, 4), and scores, (N, CLASSES + 1), the background last."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.rand(number // 10 + 1, 2, generator=generator) * torch.tensor(IMAGE[::-1])
    centers = objects[torch.randint(len(objects), (number,), generator=generator)]
    centers = centers + torch.randn(number, 2, generator=generator) * 10
    sizes = 40 + 60 * torch.rand(number, 2, generator=generator)
    logits = torch.randn(number, CLASSES + 1, generator=generator) * 2
    logits[:, -1] += background
    boxes = torch.cat([centers - sizes / 2, centers + sizes / 2], dim=1)
    return boxes.to(device), logits.softmax(dim=1).to(device)


def plain_loop(
    boxes: torch.Tensor, scores: torch.Tensor, soft_nms: SoftNMS, thresh: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft-NMS with linear decay, class by class; returns boxes and scores of the best ones."""
    found_boxes, found_scores = [boxes[:0]], [scores[:0, 0]]
    for of_class in scores[:, :-1].T:
        rows = (of_class > thresh).nonzero()[:, 0]
        left, left_scores = boxes[rows], of_class[rows]
        while len(left):
            best = int(left_scores.argmax())
            box = left[best : best + 1]
            found_boxes.append(box)
            found_scores.append(left_scores[best : best + 1])
            keep = torch.arange(len(left), device=left.device) != best
            left, left_scores = left[keep], left_scores[keep]
            start = torch.maximum(left[:, :2], box[:, :2])
            sides = (torch.minimum(left[:, 2:], box[:, 2:]) - start).clamp(min=0)
            overlap = sides.prod(dim=1)
            areas = [(x[:, 2:] - x[:, :2]).prod(dim=1) for x in (left, box)]
            iou = overlap / (areas[0] + areas[1] - overlap)
            left_scores = left_scores * torch.where(iou >= soft_nms.iou_thresh, 1 - iou, 1.0)
            above = left_scores >= soft_nms.min_score
            left, left_scores = left[above], left_scores[above]
    found_boxes, found_scores = torch.cat(found_boxes), torch.cat(found_scores)
    order = found_scores.argsort(descending=True)[:KEPT]
    return found_boxes[order], found_scores[order]


def _measure_load(boxes: torch.Tensor, scores: torch.Tensor, thresh: float, repeats: int) -> dict:
    soft_nms = SoftNMS("soft_linear", iou_thresh=NMS_THRESH)
    image = ([boxes], [scores], [IMAGE])
    ways = {
        "ours": lambda _: soft_nms_inference(*image, thresh, soft_nms, KEPT),
        "loop": lambda _: plain_loop(boxes, scores, soft_nms, thresh),
        "nms": lambda _: fast_rcnn_inference(*image, thresh, NMS_THRESH, KEPT),
    }
    with Operators() as operators:
        ways["ours"](0)
    seconds = measure_in_turn(ways, boxes.device, repeats)
    return {
        "candidates": int((scores[:, :-1] > thresh).sum()),
        "operators": operators.count,
        "seconds": seconds,
        "to_loop": ratio(seconds, "ours", "loop"),
        "to_nms": ratio(seconds, "ours", "nms"),
    }


class Operators(TorchDispatchMode):
    """Counts the operators that are called."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))
