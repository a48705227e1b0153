import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances

from msrcnn.benchmark.training_step import _measure_load, _Step, table
from msrcnn.engine import use_scoring_parts


def image_of_two_instances():
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10, 50, 60], [60, 20, 110, 90]]))
    instances.gt_classes = torch.tensor([0, 1])
    instances.gt_masks = BitMasks(torch.ones(2, 96, 128, dtype=torch.bool))
    return {"image": torch.rand(3, 96, 128), "instances": instances}


def test_steps_have_the_asked_numbers_of_boxes(tiny_cfg, build, monkeypatch):
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.SAMPLES = "detections"
    use_scoring_parts(tiny_cfg)
    model = build(tiny_cfg).train()
    monkeypatch.setattr("msrcnn.benchmark.training_step.WARM_UP", 0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    load = _measure_load(
        _Step(model, amp=False), [[image_of_two_instances()]], foreground=6, detections=9, repeats=2
    )
    assert load["foreground"] >= 6 + 2  # Detectron2 adds the instances themselves
    assert load["detections"] == 9
    assert load["proposals"] > 0
    pairs = zip(load["proposals_seconds"], load["detections_seconds"], strict=True)
    first, second = (b / a for a, b in pairs)
    assert load["ratio"] == pytest.approx((first + second) / 2)
    assert all((before[name] == p).all() for name, p in model.named_parameters())
    assert "label_and_sample_proposals" not in vars(model.roi_heads)
    assert "_detect" not in vars(model.roi_heads)
    assert f"{load['ratio']:.2f} |" in table({"loads": [load]})
