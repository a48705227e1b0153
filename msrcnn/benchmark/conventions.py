"""Where libraries whose checkpoints are converted differ from Detectron2 and no config helps."""

import argparse
import math

import cv2
import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures.boxes import Boxes, matched_pairwise_iou
from PIL import Image
from tabulate import tabulate
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image as paste_on_whole_pixels

from ..checkpoint.convert import maskscoring_rcnn, torchvision_models

TABLES = ("anchors", "boxes", "masks", "images")
SIDES = (16, 32, 64, 128, 256)  # of boxes and objects, in pixels
NUM_BOXES, NUM_OBJECTS = 1000, 50  # of each side
REGRESSION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # they bring the deltas to size 1
MASK_SIDE = 28
SAMPLES = 4  # along a side of a mask's cell
# COCO's usual image of 480 x 640 as the network gets it, and a larger photograph.
NETWORK_SIZE, PADDED_SIZE = (800, 1067), (800, 1088)
IMAGE_SIZES = {"enlarged": (480, 640), "reduced": (1200, 1600)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none: nothing depends on weights or data."""


def measure(args: argparse.Namespace) -> dict[str, list[dict]]:
    """All that the functions of this module measure, of seeded boxes, objects and pixels.

    Returns:
        The rows of the tables ``TABLES``.
    """
    generator = torch.Generator().manual_seed(0)
    theirs = [maskscoring_rcnn.cell_anchors(s) for s in maskscoring_rcnn.STRIDES]
    anchors = {
        "maskscoring_rcnn": anchor_iou(theirs, plus_one=1),
        "torchvision": anchor_iou(torchvision_models.cell_anchors(), plus_one=0),
        "torchvision, p6": coarsest_level_iou(),
    }
    objects = {side: Objects(side, generator) for side in SIDES}
    return {
        "anchors": [{"anchors_of": name, **iou} for name, iou in anchors.items()],
        "boxes": [{"side": side, **box_difference(side, generator)} for side in SIDES],
        "masks": [
            {"masks_of": name, "side": side, **pasting_iou(objects[side], plus_one)}
            for name, plus_one in (("maskscoring_rcnn", 1), ("torchvision", 0))
            for side in SIDES
        ],
        "images": [
            {"image_is": name, **resizing_difference(size, generator)}
            for name, size in IMAGE_SIZES.items()
        ],
    }


def table(result: dict) -> str:
    """A result of :func:`measure`, for a reader."""
    tables = []
    for name in TABLES:
        headers = {key: key.replace("_", " ") for key in result[name][0]}
        tables.append(tabulate(result[name], headers, tablefmt="pipe", floatfmt=".3f"))
    return "\n\n".join(tables)


def anchor_iou(cell_anchors: list[list[list[float]]], plus_one: int) -> dict[str, float]:
    """IoU of a library's anchors with Detectron2's of the same cell.

    Why the anchors are given one by one in the config of a converted model.

    Args:
        cell_anchors: of every feature map.
        plus_one: a box's side is x1 - x0 + 1.
    """
    strides = maskscoring_rcnn.STRIDES
    ours = DefaultAnchorGenerator(
        sizes=[[maskscoring_rcnn.ANCHOR_SCALE * stride] for stride in strides],
        aspect_ratios=[list(maskscoring_rcnn.ASPECT_RATIOS)],
        strides=strides,
        offset=0.0,
    )
    theirs = torch.tensor(cell_anchors).flatten(0, 1)
    theirs[:, 2:] += plus_one
    return _mean_and_lowest(Boxes(theirs), Boxes(torch.cat(list(ours.cell_anchors))))


def coarsest_level_iou() -> dict[str, float]:
    """IoU of torchvision's anchors of the coarsest feature map with those a stride of 64 makes.

    torchvision divides the image's side by the feature map's for the stride, and the coarsest
    map's side is rounded up: 13 rows of 61 pixels, not of 64, in an image of 800 rows.
    """
    features = [math.ceil(side / 64) for side in PADDED_SIZE]
    anchors = torch.tensor(torchvision_models.cell_anchors()[-1])
    boxes = []
    for strides in ([side // n for side, n in zip(PADDED_SIZE, features)], (64, 64)):
        y, x = (stride * torch.arange(n) for stride, n in zip(strides, features))
        y, x = torch.meshgrid(y, x, indexing="ij")
        cells = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
        boxes.append(Boxes((cells + anchors).view(-1, 4)))
    return _mean_and_lowest(*boxes)


def box_difference(side: int, generator: torch.Generator) -> dict[str, float]:
    """What becomes of maskrcnn-benchmark's boxes, whose side is x1 - x0 + 1, in Detectron2.

    Their corners are the first and the last pixel. The same numbers give the same RoI features;
    deltas move them a little otherwise, and at last a result lacks the last row and column.

    Args:
        side: of the boxes that are moved, in pixels.
        generator: of the deltas.

    Returns:
        The distance between the coordinates that the same deltas lead to, in pixels; the IoU of
        a box with itself without its last row and column.
    """
    boxes = torch.tensor([[0.0, 0.0, side - 1.0, side - 1.0]]).expand(NUM_BOXES, 4)
    deltas = torch.randn(NUM_BOXES, 4, generator=generator)
    transform = Box2BoxTransform(weights=REGRESSION_WEIGHTS)
    last_pixel = torch.tensor([0.0, 0.0, 1.0, 1.0])
    theirs = transform.apply_deltas(deltas, boxes + last_pixel) - last_pixel
    distance = (transform.apply_deltas(deltas, boxes) - theirs).abs()
    return {
        "mean_distance": distance.mean().item(),
        "largest_distance": distance.max().item(),
        "iou_without_last_pixel": ((side - 1) / side) ** 2,
    }


class Objects:
    """Random smooth outlines, each in a box of its own."""

    def __init__(self, side: int, generator: torch.Generator):
        """
        Args:
            side: about that of an object, in pixels.
            generator: of the shapes and of where they lie between the pixels.
        """
        n = (NUM_OBJECTS, 3)
        amplitude = torch.rand(n, generator=generator) * torch.tensor([0.0, 0.3, 0.15])
        phase = 2 * math.pi * torch.rand(n, generator=generator)
        self.harmonics = torch.stack([amplitude, phase])
        self.radius = side / 2
        self.centre = side + 8 + torch.rand(NUM_OBJECTS, 2, generator=generator)
        self.image_side = 2 * side + 18
        angles = torch.linspace(0, 2 * math.pi, 4096).expand(NUM_OBJECTS, -1)
        radii = self._outline(angles)
        x, y = self.centre[:, :1] + radii * angles.cos(), self.centre[:, 1:] + radii * angles.sin()
        self.boxes = torch.stack(
            [x.amin(dim=1), y.amin(dim=1), x.amax(dim=1), y.amax(dim=1)], dim=1
        )

    def _outline(self, angles: torch.Tensor) -> torch.Tensor:
        """The distance of the outline from the centre; of the shape of ``angles``, (N, K)."""
        amplitude, phase = self.harmonics[..., None]
        order = torch.arange(1, 4)[:, None]
        return self.radius * (1 + (amplitude * (order * angles[:, None] + phase).cos()).sum(dim=1))

    def inside(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Which points lie in an object.

        Args:
            x, y: of shape (N, W) and (N, H), of every object's own grid of points.

        Returns:
            Bool tensor of shape (N, H, W).
        """
        dx, dy = x[:, None] - self.centre[:, :1, None], y[..., None] - self.centre[:, 1:, None]
        outline = self._outline(torch.atan2(dy, dx).flatten(1)).view(len(x), y.shape[1], -1)
        return torch.hypot(dx, dy) <= outline

    def masks(self) -> torch.Tensor:
        """Which pixels of the image an object covers with their centres, (N, side, side)."""
        centres = (torch.arange(self.image_side) + 0.5).expand(NUM_OBJECTS, -1)
        return self.inside(centres, centres)

    def probabilities(self, boxes: torch.Tensor) -> torch.Tensor:
        """What a mask head without a fault predicts in the boxes, (N, MASK_SIDE, MASK_SIDE)."""
        points = (torch.arange(MASK_SIDE * SAMPLES) + 0.5) / (MASK_SIDE * SAMPLES)
        x, y = (
            boxes[:, i, None] + points * (boxes[:, i + 2] - boxes[:, i])[:, None] for i in (0, 1)
        )
        return F.avg_pool2d(self.inside(x, y).float(), SAMPLES)


def pasting_iou(objects: Objects, plus_one: int) -> dict[str, float]:
    """How the pasting of masks on whole pixels, theirs, differs from Detectron2's.

    Args:
        objects: that are predicted without a fault.
        plus_one: the predicted corners are the first and last pixel of an object.

    Returns:
        Mean IoU of both ways' masks with each other, and of each with the object.
    """
    boxes = objects.boxes - plus_one * torch.tensor([0.0, 0.0, 1.0, 1.0])
    probabilities = objects.probabilities(boxes)
    size = (objects.image_side, objects.image_side)
    theirs = paste_on_whole_pixels(probabilities[:, None], boxes, size)[:, 0] > 0.5
    ours = paste_masks_in_image(probabilities, Boxes(boxes), size)
    truth = objects.masks()
    return {
        "iou_of_both": _mask_iou(theirs, ours),
        "iou_theirs_with_object": _mask_iou(theirs, truth),
        "iou_detectron2_with_object": _mask_iou(ours, truth),
    }


def resizing_difference(size: tuple[int, int], generator: torch.Generator) -> dict[str, float]:
    """Grey levels between OpenCV's resized image, mmdetection's way, and Pillow's, Detectron2's.

    Of noise, which is the worst that can happen: photographs are smooth.

    Args:
        size: of the image before, (height, width).
        generator: of the noise.
    """
    image = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8).numpy()
    height, width = NETWORK_SIZE
    theirs = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    ours = np.asarray(Image.fromarray(image).resize((width, height), Image.BILINEAR))
    difference = np.abs(theirs.astype(int) - ours)
    return {"mean_grey_levels": difference.mean().item(), "most_grey_levels": int(difference.max())}


def _mean_and_lowest(first: Boxes, second: Boxes) -> dict[str, float]:
    iou = matched_pairwise_iou(first, second)
    return {"mean_iou": iou.mean().item(), "lowest_iou": iou.min().item()}


def _mask_iou(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean IoU of bool masks, (N, H, W) each."""
    both = (first & second).sum(dim=(1, 2))
    return (both / (first | second).sum(dim=(1, 2))).mean().item()
