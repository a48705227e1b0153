"""The training loss of mask scoring, computed a second time with NumPy and pycocotools."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances, PolygonMasks
from torch.nn import functional as F

from msrcnn.modeling import MaskIoUHead, MaskScoringHead

HEIGHT, WIDTH, SIDE, CHANNELS, CLASSES = 90, 120, 28, 4, 2
# For each image, each proposal's class, instance (a triangle) and box. Every box cuts its instance,
# an instance has several proposals, and every instance has another area.
IMAGES = (
    [
        (1, (10, 10, 70, 12, 30, 80), (12, 8, 68, 64)),
        (0, (80, 40, 110, 45, 90, 70), (78, 30, 102, 74)),
        (1, (10, 10, 70, 12, 30, 80), (5, 20, 44, 85)),
    ],
    [
        (0, (5, 5, 115, 20, 40, 85), (30, 10, 100, 60)),
        (1, (60, 50, 72, 50, 66, 64), (58, 47, 69, 66)),
    ],
)


def proposals_of(rows) -> Instances:
    classes, polygons, boxes = zip(*rows)
    return Instances(
        (HEIGHT, WIDTH),
        proposal_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)),
        gt_classes=torch.tensor(classes),
        gt_masks=PolygonMasks([[np.array(polygon, dtype=float)] for polygon in polygons]),
    )


def rasterized(polygon, height, width) -> np.ndarray:
    return mask_util.decode(mask_util.frPyObjects([list(polygon)], height, width))[..., 0] > 0


def true_maskiou(probability: np.ndarray, polygon, box) -> float:
    """MaskIoU in pixels of the image, each cell of the predicted mask counting by its area."""
    x0, y0, x1, y1 = box
    scale = np.array([SIDE / (x1 - x0), SIDE / (y1 - y0)])
    crop = rasterized(((np.reshape(polygon, (-1, 2)) - (x0, y0)) * scale).ravel(), SIDE, SIDE)
    predicted = probability > 0.5
    cell = 1 / scale.prod()
    common = (predicted & crop).sum() * cell
    return common / (predicted.sum() * cell + rasterized(polygon, HEIGHT, WIDTH).sum() - common)


def maskiou_output(head: MaskIoUHead, feature: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Runs the layers of a MaskIoU head on one proposal; returns the MaskIoU of every class."""
    pooled = probability.reshape(SIDE // 2, 2, SIDE // 2, 2).max(axis=(1, 3))
    x = torch.as_tensor(np.concatenate([feature, pooled[None]])[None])
    for conv, stride in zip(head.convs, (1, 1, 1, 2)):
        x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1).clamp(min=0)
    x = x.flatten()
    for fc in head.fcs:
        x = (fc.weight @ x + fc.bias).clamp(min=0)
    return (head.maskiou.weight @ x + head.maskiou.bias).detach().numpy()


def test_loss_equals_the_one_computed_by_hand(storage):
    torch.manual_seed(0)
    feature = ShapeSpec(channels=CHANNELS, height=14, width=14)
    scorer = MaskIoUHead(
        feature,
        ShapeSpec(channels=CLASSES, height=SIDE, width=SIDE),
        num_classes=CLASSES,
        conv_dims=[8] * 4,
        fc_dims=[16, 16],
    )
    # Outputs that depend on their input and differ between classes.
    torch.nn.init.normal_(scorer.maskiou.weight)
    head = MaskScoringHead(feature, num_classes=CLASSES, conv_dims=[8], maskiou_head=scorer)
    torch.nn.init.normal_(head.predictor.weight)
    rows = [row for image in IMAGES for row in image]
    features = torch.randn(len(rows), CHANNELS, 14, 14)

    found = head(features, [proposals_of(image) for image in IMAGES])["loss_maskiou"].item()

    squared = []
    probabilities = head.layers(features).sigmoid().detach().numpy()
    for (label, polygon, box), of_classes, feature in zip(rows, probabilities, features.numpy()):
        prediction = maskiou_output(scorer, feature, of_classes[label])[label]
        squared.append((prediction - true_maskiou(of_classes[label], polygon, box)) ** 2)
    assert found == pytest.approx(np.mean(squared) / 2, rel=1e-4)
