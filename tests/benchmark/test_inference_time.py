import argparse

import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import FrozenBatchNorm2d

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
    measured = {name for name, _, other in inference_time.RATIOS if other != "torchvision"}
    assert set(result["ratios"]) == measured
    found = result["ratios"]["mask scores"]
    assert f"| {pairs.text(found)}" in inference_time.table(result)
    assert result["peak_mib"] is None


def test_folded_model_has_the_same_output(build, tiny_cfg):
    tiny_cfg.MODEL.RESNETS.NORM = "FrozenBN"
    model = build(tiny_cfg).eval()
    norms = [layer for layer in model.modules() if isinstance(layer, FrozenBatchNorm2d)]
    assert norms
    for norm in norms:
        norm.running_var.uniform_(0.5, 2)
        norm.running_mean.normal_()
    image = {"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96}
    folded = inference_time._folded(model)
    assert not any(isinstance(layer, FrozenBatchNorm2d) for layer in folded.modules())
    with torch.no_grad():
        expected, found = (
            each.backbone(each.preprocess_image([image]).tensor) for each in (model, folded)
        )
    for name, feature in expected.items():
        torch.testing.assert_close(found[name], feature, rtol=1e-3, atol=1e-4)
