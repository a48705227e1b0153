import json

import pytest
import torch
from conftest import ROOT
from scripts import run_script

from msrcnn.benchmark import conventions
from msrcnn.benchmark.conventions import (
    NUM_BOXES,
    Objects,
    anchor_iou,
    box_difference,
    coarsest_level_iou,
    pasting_iou,
    resizing_difference,
    table,
)
from msrcnn.checkpoint.convert import maskscoring_rcnn, torchvision_models


def seeded():
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def objects():
    return Objects(48, seeded())


def test_box_difference_by_hand():
    """Their sides are one pixel longer, which adds dx to a shift and exp(dw) - 1 to the growth."""
    dx, dy, dw, dh = (
        torch.randn(NUM_BOXES, 4, generator=seeded()) / torch.tensor([10, 10, 5, 5])
    ).unbind(1)
    grown = [(d.exp() - 1) / 2 for d in (dw, dh)]
    expected = torch.stack([dx - grown[0], dx + grown[0], dy - grown[1], dy + grown[1]]).abs()
    found = box_difference(64, seeded())
    assert found["mean_distance"] == pytest.approx(expected.mean().item(), abs=1e-4)
    assert found["largest_distance"] == pytest.approx(expected.max().item(), abs=1e-3)
    assert box_difference(2, seeded())["iou_without_last_pixel"] == 0.25


def test_anchors_by_hand():
    found = anchor_iou(torchvision_models.cell_anchors(), plus_one=0)
    # The smallest anchor has the largest rounding error: 46 x 22 instead of 45.25 x 22.63.
    both, theirs, ours = 32 * 2**0.5 * 22, 46 * 22, 32**2
    assert found["lowest_iou"] == pytest.approx(both / (theirs + ours - both), abs=1e-5)
    # maskrcnn-benchmark's anchors are at the center of a cell, Detectron2's at its corner: anchors
    # of 8 x 8 strides are shifted by half a stride.
    square = (7.5 / 8) ** 2
    theirs = [maskscoring_rcnn.cell_anchors(stride) for stride in maskscoring_rcnn.STRIDES]
    found = anchor_iou(theirs, plus_one=1)
    assert found["mean_iou"] == pytest.approx(square / (2 - square), abs=0.01)


def test_coarsest_level(monkeypatch):
    assert coarsest_level_iou()["lowest_iou"] < 0.9
    monkeypatch.setattr(conventions, "PADDED_SIZE", (768, 1024))  # divisible by 64, so not rounded
    assert coarsest_level_iou() == {"mean_iou": 1.0, "lowest_iou": 1.0}


def test_objects_fill_their_boxes(objects):
    masks, boxes = objects.masks(), objects.boxes
    for dim, start, end in ((1, 0, 2), (2, 1, 3)):
        covered = masks.any(dim=dim)
        first = covered.int().argmax(dim=1)
        last = covered.shape[1] - covered.flip(1).int().argmax(dim=1)
        assert ((first + 0.5 - boxes[:, start]) >= 0).all()
        assert ((first - boxes[:, start]) < 1.5).all()
        assert ((boxes[:, end] - last + 0.5) >= 0).all()
        assert ((boxes[:, end] - last) < 1.5).all()
    assert not masks[:, 0].any()  # the objects are inside the image
    assert not masks[:, :, -1].any()


def test_probabilities_cover_the_objects_area(objects):
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    areas = objects.probabilities(objects.boxes).mean(dim=(1, 2)) * sides.prod(dim=1)
    assert torch.allclose(areas, objects.masks().sum(dim=(1, 2)).float(), rtol=0.02)


def test_detectron2_pastes_more_accurately(objects):
    for plus_one in (0, 1):
        found = pasting_iou(objects, plus_one)
        assert found["iou_detectron2_with_object"] > 0.97
        assert 0.9 < found["iou_theirs_with_object"] < found["iou_detectron2_with_object"]


def test_enlarged_images_differ_only_by_rounding():
    assert resizing_difference((480, 640), seeded())["most_grey_levels"] == 1
    assert resizing_difference((1200, 1600), seeded())["mean_grey_levels"] > 5


RECORDED = json.loads((ROOT / "docs" / "results" / "conventions.json").read_text())


def test_recorded_boxes_and_anchors_match_the_measured_ones():
    recorded = {row["anchors_of"]: row["lowest_iou"] for row in RECORDED["anchors"]}
    found = anchor_iou(torchvision_models.cell_anchors(), plus_one=0)
    assert recorded["torchvision"] == pytest.approx(found["lowest_iou"])
    assert recorded["torchvision, p6"] == pytest.approx(coarsest_level_iou()["lowest_iou"])
    assert [row["iou_without_last_pixel"] for row in RECORDED["boxes"]] == [
        box_difference(row["side"], seeded())["iou_without_last_pixel"] for row in RECORDED["boxes"]
    ]


@pytest.mark.slow
def test_command_line_reproduces_the_recorded_result(tmp_path):
    output = tmp_path / "conventions.json"
    done = run_script("tools/benchmark.py", "conventions", "--json", output)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert table(found) in done.stdout
    for name in conventions.TABLES:
        for row, recorded in zip(found[name], RECORDED[name], strict=True):
            for key, value in row.items():
                exact = isinstance(value, str)
                assert value == (recorded[key] if exact else pytest.approx(recorded[key], rel=0.01))
