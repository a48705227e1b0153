"""Measures differences between Detectron2 and the libraries whose checkpoints are converted."""

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
SIDES = (16, 32, 64, 128, 256)  # sides of boxes and objects, in pixels
NUM_BOXES, NUM_OBJECTS = 1000, 50  # per side
REGRESSION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # normalize the deltas to a scale of 1
MASK_SIDE = 28
SAMPLES = 4  # samples per mask cell along each axis
# The network input for COCO's typical 480 x 640 image, and that image and a larger one as sources.
NETWORK_SIZE, PADDED_SIZE = (800, 1067), (800, 1088)
IMAGE_SIZES = {"enlarged": (480, 640), "reduced": (1200, 1600)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds no arguments: the benchmark depends neither on weights nor on data."""


def measure(args: argparse.Namespace) -> dict[str, list[dict]]:
    """Measures all differences on random (seeded) boxes, objects and images.

    Returns:
        The rows of each table in ``TABLES``.
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
    """Formats a result of :func:`measure` as Markdown tables."""
    tables = []
    for name in TABLES:
        headers = {key: key.replace("_", " ") for key in result[name][0]}
        tables.append(tabulate(result[name], headers, tablefmt="pipe", floatfmt=".3f"))
    return "\n\n".join(tables)


def anchor_iou(cell_anchors: list[list[list[float]]], plus_one: int) -> dict[str, float]:
    """Computes the IoU between a library's anchors and Detectron2's anchors of the same cell.

    Because of these differences, the config of a converted model lists its anchors explicitly.

    Args:
        cell_anchors: anchors of a cell of each feature map.
        plus_one: 1 if the library defines the side of a box as x1 - x0 + 1, otherwise 0.
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
    """Computes the IoU between torchvision's anchors on p6 and the anchors for a stride of 64.

    torchvision computes the stride as the side of the image divided by the side of the feature
    map, which is rounded up for p6: an image with 800 rows has 13 rows of anchors with a stride of
    61 instead of 64.
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
    """Compares box regression in Detectron2 and maskrcnn-benchmark.

    maskrcnn-benchmark defines the side of a box as x1 - x0 + 1: the corners are the first and the
    last pixel. Equal coordinates give equal RoI features, but the same deltas give slightly
    different boxes, and the final boxes lack the last row and column of pixels.

    Args:
        side: side of the boxes before regression, in pixels.
        generator: random number generator for the deltas.

    Returns:
        The mean and largest distance between the coordinates of the resulting boxes, in pixels, and
        the IoU of a box with the same box without its last row and column.
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
    """Random objects with smooth outlines, one per image."""

    def __init__(self, side: int, generator: torch.Generator):
        """
        Args:
            side: approximate side of an object, in pixels.
            generator: random number generator for the outlines and the subpixel positions.
        """
        n = (NUM_OBJECTS, 3)
        amplitude = torch.rand(n, generator=generator) * torch.tensor([0.0, 0.3, 0.15])
        phase = 2 * math.pi * torch.rand(n, generator=generator)
        self.harmonics = torch.stack([amplitude, phase])
        self.radius = side / 2
        self.center = side + 8 + torch.rand(NUM_OBJECTS, 2, generator=generator)
        self.image_side = 2 * side + 18
        angles = torch.linspace(0, 2 * math.pi, 4096).expand(NUM_OBJECTS, -1)
        radii = self._outline(angles)
        x, y = self.center[:, :1] + radii * angles.cos(), self.center[:, 1:] + radii * angles.sin()
        self.boxes = torch.stack(
            [x.amin(dim=1), y.amin(dim=1), x.amax(dim=1), y.amax(dim=1)], dim=1
        )

    def _outline(self, angles: torch.Tensor) -> torch.Tensor:
        """Returns the distance of the outlines from the center at (N, K) angles, also (N, K)."""
        amplitude, phase = self.harmonics[..., None]
        order = torch.arange(1, 4)[:, None]
        return self.radius * (1 + (amplitude * (order * angles[:, None] + phase).cos()).sum(dim=1))

    def inside(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Checks which points of a grid are inside the objects.

        Args:
            x, y: tensors of shape (N, W) and (N, H), coordinates of each object's grid.

        Returns:
            Bool tensor of shape (N, H, W).
        """
        dx, dy = x[:, None] - self.center[:, :1, None], y[..., None] - self.center[:, 1:, None]
        outline = self._outline(torch.atan2(dy, dx).flatten(1)).view(len(x), y.shape[1], -1)
        return torch.hypot(dx, dy) <= outline

    def masks(self) -> torch.Tensor:
        """Returns the masks of the objects, (N, side, side): pixels whose center is inside."""
        centers = (torch.arange(self.image_side) + 0.5).expand(NUM_OBJECTS, -1)
        return self.inside(centers, centers)

    def probabilities(self, boxes: torch.Tensor) -> torch.Tensor:
        """Returns the output of a perfect mask head for the boxes, (N, MASK_SIDE, MASK_SIDE)."""
        points = (torch.arange(MASK_SIDE * SAMPLES) + 0.5) / (MASK_SIDE * SAMPLES)
        x, y = (
            boxes[:, i, None] + points * (boxes[:, i + 2] - boxes[:, i])[:, None] for i in (0, 1)
        )
        return F.avg_pool2d(self.inside(x, y).float(), SAMPLES)


def pasting_iou(objects: Objects, plus_one: int) -> dict[str, float]:
    """Compares mask pasting on whole pixels, as in the other libraries, with Detectron2's.

    Args:
        objects: ground-truth objects, for which perfect masks are pasted.
        plus_one: 1 if the predicted corners are the first and last pixel of an object, otherwise 0.

    Returns:
        Mean IoU between the masks of both methods, and between each method and the objects.
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
    """Compares image resizing with OpenCV (mmdetection) and Pillow (Detectron2).

    The image is random noise, which is the worst case: photographs are smooth.

    Args:
        size: (height, width) of the original image.
        generator: random number generator for the noise.

    Returns:
        The mean and largest difference in gray levels.
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
    """Computes the mean IoU of two bool tensors of masks, both (N, H, W)."""
    both = (first & second).sum(dim=(1, 2))
    return (both / (first | second).sum(dim=(1, 2))).mean().item()
