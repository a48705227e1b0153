import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msrcnn.modeling import instance_areas, maskiou_targets

M = 28


def rasterize(polygons, height, width):
    rles = mask_util.frPyObjects([np.asarray(p).tolist() for p in polygons], height, width)
    return mask_util.decode(mask_util.merge(rles)).astype(bool)


def paste(mask, box, height, width, scale=1):
    """Pastes a mask crop into the image; each pixel has the value of the cell at its center."""
    y, x = (np.mgrid[: height * scale, : width * scale] + 0.5) / scale
    column = np.floor((x - box[0]) / (box[2] - box[0]) * M).astype(int)
    row = np.floor((y - box[1]) / (box[3] - box[1]) * M).astype(int)
    inside = (column >= 0) & (column < M) & (row >= 0) & (row < M)
    pasted = np.zeros(inside.shape, dtype=bool)
    pasted[inside] = mask[row[inside], column[inside]]
    return pasted


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def target(pred, polygons, box, image_size):
    masks = PolygonMasks([polygons])
    boxes = torch.tensor(box, dtype=torch.float32)[None]
    crops = masks.crop_and_resize(boxes, M)
    areas = instance_areas(masks, image_size)
    return maskiou_targets(torch.as_tensor(pred)[None], crops, areas, boxes).item()


def star_polygon(seed):
    """A random star-shaped polygon, which may extend beyond a 100 x 100 image."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, size=12))
    radii = rng.uniform(14, 34, size=12)
    center = rng.uniform(25, 75, size=2)
    points = center + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    return points.clip(-10, 110).ravel()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), kept=st.floats(0.3, 1.3))
def test_target_equals_brute_force_on_random_polygons(seed, kept):
    rng = np.random.default_rng(seed)
    size, scale = 100, 4
    polygon = star_polygon(seed)
    xy = polygon.reshape(-1, 2)
    # A box that covers between a third of the instance and more than all of it.
    low, high = xy.min(0), xy.max(0)
    corner = low + rng.uniform(-0.1, 0.3, size=2) * (high - low)
    box = np.concatenate([corner, corner + kept * (high - low)]).clip(0, size)
    assume(min(box[2] - box[0], box[3] - box[1]) >= 12)
    coarse = rng.random((4, 4)) > 0.4  # patches of 7 x 7 cells
    pred = np.kron(coarse, np.ones((7, 7))).astype(bool)

    # Brute force at 4x image resolution: the remaining error is that of the mask crop's grid.
    truth = rasterize([polygon * scale], size * scale, size * scale)
    expected = iou(paste(pred, box, size, size, scale), truth)
    assert target(pred, [polygon], box, (size, size)) == pytest.approx(expected, abs=0.04)


def test_part_outside_the_box_counts():
    polygon = np.array([10.0, 10, 50, 10, 50, 50, 10, 50])
    half = (10, 10, 30, 50)  # the left half of the instance, predicted perfectly
    value = target(np.ones((M, M), dtype=bool), [polygon], half, (100, 100))
    assert value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("split", ["val2017", "train2017"])
def test_target_equals_brute_force_on_coco(coco_root, split):
    content = json.loads((coco_root / "annotations" / f"instances_{split}.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    rng = np.random.default_rng(0)
    found, expected = [], []
    for annotation in content["annotations"][:1000]:
        height, width = sizes[annotation["image_id"]]
        x, y, w, h = annotation["bbox"]
        jitter = rng.uniform(-0.2, 0.2, size=4) * (w, h, w, h)
        box = (np.array([x, y, x + w, y + h]) + jitter).clip(0, (width, height, width, height))
        if annotation["iscrowd"] or min(box[2] - box[0], box[3] - box[1]) < 2:
            continue
        polygons = [np.array(polygon) for polygon in annotation["segmentation"]]
        # A prediction of realistic quality: the instance at 4x the crop's resolution, averaged,
        # plus smooth noise.
        fine = PolygonMasks([polygons]).crop_and_resize(torch.tensor(box[None]).float(), 4 * M)
        soft = torch.nn.functional.avg_pool2d(fine.float(), 4)[0].numpy()
        noise = np.kron(rng.normal(scale=0.35, size=(4, 4)), np.ones((7, 7)))
        pred = soft + noise > 0.5
        truth = rasterize(polygons, height, width)
        expected.append(iou(paste(pred, box, height, width), truth))
        found.append(target(pred, polygons, box, (height, width)))
    found, expected = np.array(found), np.array(expected)
    assert len(found) > 500
    assert found.max() <= 1
    assert np.abs(found - expected).mean() < 0.03
    assert np.corrcoef(found, expected)[0, 1] > 0.97


def test_bitmask_and_polygon_ground_truth_agree():
    polygons = [[star_polygon(seed)] for seed in range(8)]
    bitmasks = BitMasks(np.stack([rasterize(p, 100, 100) for p in polygons]))
    from_polygons = instance_areas(PolygonMasks(polygons), (100, 100))
    assert torch.equal(from_polygons, instance_areas(bitmasks, (100, 100)))

    boxes = bitmasks.get_bounding_boxes().tensor
    pred = torch.ones(8, M, M, dtype=torch.bool)
    of_polygons = maskiou_targets(
        pred, PolygonMasks(polygons).crop_and_resize(boxes, M), from_polygons, boxes
    )
    of_bitmasks = maskiou_targets(pred, bitmasks.crop_and_resize(boxes, M), from_polygons, boxes)
    assert torch.allclose(of_polygons, of_bitmasks, atol=0.03)


def test_area_ignores_overlaps_and_parts_outside_the_image():
    square = np.array([90.0, 10, 110, 10, 110, 30, 90, 30])  # half of it is outside
    areas = instance_areas(PolygonMasks([[square, square], [square]]), (100, 100))
    assert areas.tolist() == [200, 200]


def test_area_without_instances_or_polygons():
    assert instance_areas(PolygonMasks([]), (10, 10)).shape == (0,)
    assert instance_areas(PolygonMasks([[]]), (10, 10)).tolist() == [0]


def test_area_rejects_other_mask_types():
    with pytest.raises(TypeError, match="list"):
        instance_areas([], (10, 10))


def test_degenerate_samples_have_finite_targets():
    full = torch.ones(M, M, dtype=torch.bool)
    none = torch.zeros(M, M, dtype=torch.bool)
    boxes = torch.tensor([[5.0, 5, 5, 25], [0, 0, 28, 28], [0, 0, 28, 28], [0, 0, 28, 28]])
    areas = torch.tensor([100.0, 0, 784, 10])
    targets = maskiou_targets(
        torch.stack([full, none, none, full]), torch.stack([full, none, full, full]), areas, boxes
    )
    # Empty box; both masks empty; prediction empty; area smaller than that of the crop.
    assert targets.tolist() == [0, 0, 0, 1]


def test_no_samples():
    empty = torch.zeros(0, M, M, dtype=torch.bool)
    assert maskiou_targets(empty, empty, torch.zeros(0), torch.zeros(0, 4)).shape == (0,)
