import argparse

import pytest
from detectron2.data.datasets import register_coco_instances

from msrcnn.benchmark import inference_time, pairs


@pytest.mark.slow
def test_measures_every_way(shapes_root, monkeypatch):
    monkeypatch.setattr(pairs, "WARM_UP", 0)
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
    assert f"| {pairs.text(found)}" in inference_time.table(result)
    assert result["peak_mib"] is None
