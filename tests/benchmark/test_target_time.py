import argparse
import itertools

import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from rectangles import ground_truth

from msrcnn.benchmark import target_time, timing


@pytest.fixture
def image():
    torch.manual_seed(0)
    return target_time.Image(ground_truth(3, "polygon"), proposals=30)


def test_all_ways_find_nearly_the_same(image):
    """They draw the part of an instance in a proposal at different resolutions."""
    found = [target_time.ours([image]), target_time.clipping(image), target_time.cropping(image)]
    for one, other in itertools.pairwise(found):
        assert one.shape == (30,)
        assert (one - other).abs().max() < 0.03
    assert found[0].std() > 0.01


def test_measures_every_way(coco_root, monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP", 0)
    annotations = coco_root / "annotations" / "instances_train2017.json"
    register_coco_instances("for the target", {}, str(annotations), str(coco_root / "train2017"))
    arguments = argparse.Namespace(
        config_file="quick/smoke_ms_rcnn_R_18_FPN.yaml",
        proposals=8,
        repeats=2,
        opts=[
            *("DATASETS.TRAIN", "('for the target',)", "SOLVER.IMS_PER_BATCH", "2"),
            *("MODEL.ROI_HEADS.NUM_CLASSES", "80"),
        ],
    )
    result = target_time.measure(arguments)
    assert (result["images"], result["proposals"]) == (2, 16)
    assert all(len(seconds) == 2 for seconds in result["seconds"].values())
    assert f"| {timing.text(result['cropping'])}" in target_time.table(result)
