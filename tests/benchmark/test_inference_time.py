import argparse

import pytest
import torch
from detectron2.data.datasets import register_coco_instances

from msrcnn import get_config
from msrcnn.benchmark import inference_time, timing
from msrcnn.errors import UserError


@pytest.mark.slow
def test_measures_every_way(shapes_root, monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP", 0)
    annotations = shapes_root / "annotations" / "instances_val.json"
    register_coco_instances("for inference", {}, str(annotations), str(shapes_root / "val"))
    opts = ["DATASETS.TEST", "('for inference',)", "TEST.DETECTIONS_PER_IMAGE", "7"]
    arguments = argparse.Namespace(
        config_file="quick/smoke_ms_rcnn_R_18_FPN.yaml", dtype="bf16", repeats=2, opts=opts
    )
    result = inference_time.measure(arguments)
    assert result["detections"] == 7
    assert all(len(seconds) == 2 for seconds in result["seconds"].values())
    # torchvision's model is measured beside a ResNet-50 only.
    expected = {name for name, ways in inference_time.RATIOS.items() if "torchvision" not in ways}
    assert set(result["ratios"]) == expected
    found = result["ratios"]["mask scores"]
    assert f"| {timing.text(found)}" in inference_time.table(result)
    assert result["peak_mib"] is None


def test_masks_of_torchvision_have_the_size_of_the_file():
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.INPUT.MIN_SIZE_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = 64, 3
    model = inference_time._torchvision(cfg)
    pixels = torch.randint(0, 256, (3, 64, 96)).float()
    with torch.no_grad():
        (whole,) = model([pixels / 255])
        (same,) = inference_time._their_masks(model, {"image": pixels, "height": 64, "width": 96})
        (half,) = inference_time._their_masks(model, {"image": pixels, "height": 32, "width": 48})
    assert whole["masks"].shape == (3, 1, 64, 96)
    assert all(torch.equal(same[key], value) for key, value in whole.items())
    assert half["masks"].shape == (3, 1, 32, 48)


def test_float16_needs_a_gpu():
    arguments = argparse.Namespace(
        config_file="quick/smoke_ms_rcnn_R_18_FPN.yaml",
        dtype="fp16",
        repeats=2,
        opts=["MODEL.DEVICE", "cpu", "DATASETS.TEST", "()"],
    )
    with pytest.raises(UserError, match="--dtype fp16 needs a GPU: use bf16"):
        inference_time.measure(arguments)
