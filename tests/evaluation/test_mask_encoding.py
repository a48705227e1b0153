"""Compares every RLE with Detectron2's pasted mask, encoded by pycocotools."""

import json
import subprocess
import sys

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
import torch.nn.functional as F
from detectron2.layers.mask_ops import _do_paste_mask, paste_masks_in_image
from detectron2.structures import BitMasks
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from msrcnn.evaluation import mask_encoding
from msrcnn.evaluation.mask_encoding import encode_masks


def paste_and_encode(masks, boxes, image_size, threshold=0.5):
    pasted = paste_masks_in_image(masks, boxes, image_size, threshold)
    return [mask_util.encode(np.asfortranarray(mask.cpu().numpy(), np.uint8)) for mask in pasted]


def assert_identical(masks, boxes, image_size, threshold=0.5):
    found = encode_masks(masks, boxes, image_size, threshold)
    expected = paste_and_encode(masks, boxes, image_size, threshold)
    assert len(found) == len(masks)
    wrong = [i for i in range(len(masks)) if found[i] != expected[i]]
    assert not wrong, (wrong, boxes[wrong])


def random_boxes(n, image_size, generator):
    """Boxes from a fraction of a pixel to larger than the image; many are partly outside it."""
    limit = torch.tensor([image_size[1], image_size[0]], dtype=torch.float32)
    center = torch.rand(n, 2, generator=generator) * limit
    sides = 0.1 * (12 * limit) ** torch.rand(n, 2, generator=generator)  # 0.1 to 1.2 times
    return torch.cat([center - sides / 2, center + sides / 2], dim=1)


def noise(n, size, generator):
    return torch.rand(n, size, size, generator=generator)


def smooth(n, size, generator):
    coarse = torch.randn(n, 1, 4, 4, generator=generator)
    return F.interpolate(coarse, (size, size), mode="bicubic")[:, 0].mul(6).sigmoid()


def saturated(n, size, generator):
    return (smooth(n, size, generator) > 0.5).float()


def flat(n, size, generator):
    """Masks in which rounding decides about every pixel."""
    return torch.full((n, size, size), 0.5)


@pytest.mark.parametrize("image_size", [(480, 640), (211, 123), (3, 57), (57, 1), (1, 1)])
@pytest.mark.parametrize("mask_size", [1, 7, 14, 28, 56])
@pytest.mark.parametrize("make", [noise, smooth, saturated, flat])
def test_random_boxes(make, mask_size, image_size):
    generator = torch.Generator().manual_seed(mask_size + sum(image_size))
    masks, boxes = make(30, mask_size, generator), random_boxes(30, image_size, generator)
    assert_identical(masks, boxes, image_size)


@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.3, 0.75, 1.0])
@pytest.mark.parametrize("make", [noise, smooth, saturated])
def test_thresholds(make, threshold):
    generator = torch.Generator().manual_seed(0)
    masks, boxes = make(50, 28, generator), random_boxes(50, (120, 160), generator)
    assert_identical(masks, boxes, (120, 160), threshold)


@pytest.mark.parametrize("step", [0.5, 1.0, 7.0, 14.0])
@pytest.mark.parametrize("mask_size", [14, 28])
def test_ties(mask_size, step):
    """Binary masks and boxes on a grid, so that pixel centers lie halfway between mask cells."""
    generator = torch.Generator().manual_seed(0)
    boxes = (random_boxes(100, (112, 112), generator) / step).round() * step
    boxes[:, 2:] = boxes[:, 2:].maximum(boxes[:, :2] + step)
    boxes[:, :2].clamp_(max=112)
    boxes[:, 2:].clamp_(min=0)
    for make in (saturated, noise):
        assert_identical(make(100, mask_size, generator).round(), boxes, (112, 112))


@pytest.mark.parametrize("mask_size", [14, 28, 56])
@pytest.mark.parametrize("make", [noise, smooth])
def test_values_next_to_the_threshold(make, mask_size):
    """The threshold equals the value of a pixel, or is an adjacent float."""
    generator = torch.Generator().manual_seed(mask_size)
    masks, boxes = make(100, mask_size, generator), random_boxes(100, (120, 160), generator)
    for mask, box in zip(masks[:, None], boxes[:, None]):
        values = _do_paste_mask(mask[None], box, 120, 160)[0].flatten()
        values = values[values > 0.002]
        if len(values) == 0:
            continue
        value = values[torch.randint(len(values), (), generator=generator)].numpy()
        for threshold in (
            value,
            np.nextafter(value, np.float32(0)),
            np.nextafter(value, value + 1),
        ):
            assert_identical(mask, box, (120, 160), float(threshold))


def test_thin_boxes():
    """Boxes around the center of a pixel, only a few floats wide or high."""
    generator = torch.Generator().manual_seed(0)
    for image_size in [(4000, 3), (3, 4000)]:
        limit = torch.tensor([image_size[1], image_size[0]])
        center = (torch.rand(200, 2, generator=generator) * limit).floor() + 0.5
        start, end = center.clone(), center.clone()
        for _ in range(4):
            moved = torch.rand(2, 200, 2, generator=generator) < 0.7
            start = torch.where(moved[0], start.nextafter(0 * start), start)
            end = torch.where(moved[1], end.nextafter(2 * end), end)
        boxes = torch.cat([start, end], dim=1)
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
        for make in (noise, smooth, saturated):
            assert_identical(make(len(boxes), 28, generator), boxes, image_size)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_mask(data):
    height, width = data.draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    M, n = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    levels = data.draw(st.sampled_from([1, 2, 4, 2**24]))  # few levels cause ties
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    masks = torch.randint(levels + 1, (n, M, M), generator=generator) / levels

    def interval(limit):
        """An interval on an axis that overlaps the image."""
        start = data.draw(st.floats(-limit, limit, width=32))
        end = data.draw(st.floats(max(start, 0), 2.0 * limit, width=32))
        return (start, end) if end > start else (0.0, float(limit))

    sides = [(interval(width), interval(height)) for _ in range(n)]
    boxes = torch.tensor([[x0, y0, x1, y1] for (x0, x1), (y0, y1) in sides])
    threshold = data.draw(st.sampled_from([0.25, 0.5, 0.6]))
    assert_identical(masks, boxes, (height, width), threshold)


@pytest.fixture(scope="module")
def real_instances(coco_root):
    """Masks of COCO instances as a network would predict them, with their boxes, by image."""
    coco = COCO()
    path = coco_root / "annotations" / "instances_val2017.json"
    coco.dataset = json.loads(path.read_text())
    coco.createIndex()
    generator = torch.Generator().manual_seed(0)
    images = []
    for image_id in coco.getImgIds():
        annotations = coco.loadAnns(coco.getAnnIds(image_id, iscrowd=False))
        annotations = [a for a in annotations if min(a["bbox"][2:]) > 0]
        if not annotations:
            continue
        truth = torch.tensor(np.array([coco.annToMask(a) for a in annotations]))
        image_size = tuple(truth.shape[1:])
        x, y, w, h = torch.tensor([a["bbox"] for a in annotations]).unbind(dim=1)
        boxes = torch.stack([x, y, x + w, y + h], dim=1)
        boxes += torch.randn(boxes.shape, generator=generator) * torch.stack([w, h, w, h], 1) / 20
        boxes.clamp_(min=0).clamp_(max=torch.tensor([*image_size[::-1], *image_size[::-1]]))
        masks = BitMasks(truth).crop_and_resize(boxes, 28)[:, None].float()
        masks = F.avg_pool2d(masks, 3, stride=1, padding=1, count_include_pad=False)[:, 0]
        masks = (8 * masks - 4 + 0.3 * torch.randn(masks.shape, generator=generator)).sigmoid()
        images.append((masks, boxes, image_size))
    return images


def test_real_instances(real_instances):
    assert sum(len(masks) for masks, _, _ in real_instances) > 500
    for masks, boxes, image_size in real_instances:
        assert_identical(masks, boxes, image_size)


def test_few_columns_are_sampled(real_instances, monkeypatch):
    """Sampling is slow, so it should be limited to columns in which rounding may decide."""
    sampled, solved = 0, 0
    sampled_edges, crossings = mask_encoding._sampled_edges, mask_encoding._crossings

    def count_sampled(grid_x, *args):
        nonlocal sampled
        sampled += len(grid_x)
        return sampled_edges(grid_x, *args)

    def count_solved(profiles, *args):
        nonlocal solved
        solved += len(profiles)
        return crossings(profiles, *args)

    monkeypatch.setattr(mask_encoding, "_sampled_edges", count_sampled)
    monkeypatch.setattr(mask_encoding, "_crossings", count_solved)
    for masks, boxes, image_size in real_instances:
        encode_masks(masks, boxes, image_size)
    assert 0 < sampled < 0.01 * solved


def test_groups(monkeypatch):
    """The result does not depend on how many columns and samples are processed together."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.cat([make(20, 14, generator) for make in (noise, smooth, saturated, flat)])
    masks = masks[torch.randperm(len(masks), generator=generator)]
    boxes = random_boxes(len(masks), (60, 80), generator)
    expected = encode_masks(masks, boxes, (60, 80))
    for columns, samples in [(1, 1), (7, 2**20), (100, 1000), (2**20, 1)]:
        monkeypatch.setattr(mask_encoding, "MAX_COLUMNS", columns)
        monkeypatch.setattr(mask_encoding, "MAX_SAMPLES", samples)
        assert encode_masks(masks, boxes, (60, 80)) == expected


def test_runs_across_columns():
    """A run continues from the bottom of a column to the top of the next."""
    masks = torch.ones(4, 28, 28)
    boxes = torch.tensor(
        [
            [-20.0, -20.0, 40.0, 30.0],  # the whole image
            [5.0, -20.0, 8.0, 30.0],  # three whole columns
            [-20.0, 4.0, 2.0, 30.0],  # to the bottom of the first two columns
            [18.0, 4.0, 40.0, 30.0],  # to the last pixel
        ]
    )
    counts = [[0, 200], [50, 30, 120], [4, 6, 4, 6, 180], [184, 6, 4, 6]]
    found = encode_masks(masks, boxes, (10, 20))
    assert found == [
        mask_util.frPyObjects({"size": [10, 20], "counts": count}, 10, 20) for count in counts
    ]
    assert_identical(masks, boxes, (10, 20))


def empty(height, width):
    return mask_util.encode(np.zeros((height, width), dtype=np.uint8, order="F"))


def test_no_masks():
    assert encode_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (480, 640)) == []


@pytest.mark.parametrize(
    "box",
    [
        (3.0, 4.0, 3.0, 9.0),  # no width
        (3.5, 4.5, 8.0, 4.5),  # no height
        (3.5, 4.5, 3.5, 4.5),  # on a pixel center
        (20.0, 0.0, 20.0, 10.0),
    ],
)
def test_boxes_without_area(box):
    """Detectron2 computes infinite or NaN coordinates for these boxes."""
    masks, boxes = torch.ones(1, 28, 28), torch.tensor([box])
    assert encode_masks(masks, boxes, (10, 20)) == [empty(10, 20)]
    assert_identical(masks, boxes, (10, 20))


@pytest.mark.parametrize(
    "box",
    [
        (30.0, 2.0, 35.0, 8.0),  # beside the image
        (2.0, -9.0, 8.0, -5.0),  # above it
        (2.0, -5.5, 8.0, -5.2),  # the same, less than a pixel high
        (8.0, 2.0, 2.0, 8.0),  # x0 and x1 swapped
        (float("nan"), 2.0, 5.0, 8.0),
        (2.0, 2.0, float("inf"), 8.0),
        (float("-inf"), 2.0, 5.0, 8.0),
    ],
)
def test_boxes_detectron2_does_not_paste(box):
    """Invalid boxes get empty masks and do not affect other boxes; Detectron2 fails on them."""
    valid = [1.0, 2.0, 9.0, 8.0]
    found = encode_masks(torch.ones(3, 28, 28), torch.tensor([valid, box, valid]), (10, 20))
    expected = paste_and_encode(torch.ones(1, 28, 28), torch.tensor([valid]), (10, 20))[0]
    assert found == [expected, empty(10, 20), expected]


def test_shapes_and_types():
    generator = torch.Generator().manual_seed(0)
    masks, boxes = noise(20, 28, generator), random_boxes(20, (50, 60), generator)
    expected = encode_masks(masks, boxes, (50, 60))
    assert encode_masks(masks[:, None], boxes, (50, 60)) == expected
    assert encode_masks(masks.clone().requires_grad_(), boxes, (50, 60)) == expected
    half = masks.half()
    assert encode_masks(half, boxes, (50, 60)) == paste_and_encode(half.float(), boxes, (50, 60))


@pytest.mark.parametrize("shape", [(3, 28, 14), (3, 80, 28, 28)])
def test_wrong_shape(shape):
    with pytest.raises(RuntimeError, match="shape"):
        encode_masks(torch.ones(shape), torch.ones(3, 4), (10, 10))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1e-6, 1.5, float("nan")])
def test_wrong_threshold(threshold):
    with pytest.raises(ValueError, match="threshold"):
        encode_masks(torch.ones(1, 28, 28), torch.ones(1, 4), (10, 10), threshold)


MEMORY = """
import re, torch
from msrcnn.evaluation.mask_encoding import encode_masks

def memory(which):
    status = open("/proc/self/status").read()
    return int(re.search(rf"{which}:\\s+(\\d+) kB", status)[1]) / 1024

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
masks = torch.rand(300, 28, 28, generator=generator)
masks[::30] = 0.5  # every column is sampled
corners = torch.rand(300, 2, 2, generator=generator) * torch.tensor([6000.0, 4000.0])
corners[::10, 0], corners[::10, 1] = 0, torch.tensor([6000.0, 4000.0])  # some as large as the image
boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
before = memory("VmRSS")
rles = encode_masks(masks, boxes, (4000, 6000))
print(len(rles), memory("VmHWM") - before)
"""


@pytest.mark.slow
def test_memory():
    """300 masks of a 6000 x 4000 image; pasted, they need 7 GB, 24 MB each."""
    # In a new process; ru_maxrss would include the memory of the parent.
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, megabytes = done.stdout.split()
    assert int(count) == 300
    assert float(megabytes) < 150


@pytest.mark.parametrize("make", [noise, smooth, saturated, flat])
def test_gpu_region(make, monkeypatch):
    """On a GPU, Detectron2 samples masks in the whole image, not only near the box."""

    def regions(*args, cut_off):
        return pasted_regions(*args, cut_off=False)

    pasted_regions = mask_encoding._pasted_regions
    monkeypatch.setattr(mask_encoding, "_pasted_regions", regions)
    generator = torch.Generator().manual_seed(0)
    masks, boxes = make(50, 14, generator), random_boxes(50, (120, 160), generator)
    found = encode_masks(masks, boxes, (120, 160), 0.05)
    pasted = _do_paste_mask(masks[:, None], boxes, 120, 160, skip_empty=False)[0] >= 0.05
    assert found == [mask_util.encode(np.asfortranarray(mask, np.uint8)) for mask in pasted]
    assert found != paste_and_encode(masks, boxes, (120, 160), 0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("make", [noise, smooth, saturated, flat])
def test_cuda(make):
    generator = torch.Generator().manual_seed(0)
    for image_size in [(480, 640), (57, 33), (1, 1)]:
        masks, boxes = make(100, 28, generator), random_boxes(100, image_size, generator)
        assert_identical(masks.cuda(), boxes.cuda(), image_size)
