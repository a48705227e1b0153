import statistics

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BitMasks, Boxes, Instances

from msrcnn.benchmark import timing, training_step
from msrcnn.benchmark.training_step import RATIOS, _measure_load, _Steps, table
from msrcnn.cli import command_parser
from msrcnn.engine import use_scoring_parts
from msrcnn.engine.gradient_step import autocast
from msrcnn.modeling.instance_masks import InstanceMasks


def image_of_two_instances():
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10, 50, 60], [60, 20, 110, 90]]))
    instances.gt_classes = torch.tensor([0, 1])
    instances.gt_masks = InstanceMasks(BitMasks(torch.ones(2, 96, 128, dtype=torch.bool)).tensor)
    return {"image": torch.rand(3, 96, 128), "instances": instances}


@pytest.fixture
def steps(tiny_cfg, build, monkeypatch):
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.SAMPLES = "detections"
    use_scoring_parts(tiny_cfg)
    monkeypatch.setattr(timing, "WARM_UP", 0)
    return _Steps(build(tiny_cfg).train(), [[image_of_two_instances()]], autocast(tiny_cfg))


def test_steps_have_the_asked_numbers_of_boxes(steps):
    model = steps.model
    before = {name: p.clone() for name, p in model.named_parameters()}
    load = _measure_load(steps, foreground=6, detections=9, repeats=2)
    assert load["foreground"] >= 6 + 2  # Detectron2 adds the instances themselves
    assert load["detections"] == 9
    assert load["proposals"] > 0
    taken = load["seconds"]
    ratios = [b / a for a, b in zip(taken["mask r-cnn"], taken["proposals"], strict=True)]
    found = load["ratios"]["mask scoring, trained on proposals"]["median"]
    assert found == pytest.approx(statistics.mean(ratios))
    assert len(load["ratios"]) == len(RATIOS) == 5
    assert all((before[name] == p).all() for name, p in model.named_parameters())
    assert "label_and_sample_proposals" not in vars(model.roi_heads)
    assert "_detect" not in vars(model.roi_heads)
    assert model.roi_heads.mask_head.maskiou_head is not None
    fewer = _measure_load(steps, foreground=0, detections=4, repeats=2)
    assert fewer["detections"] == 4
    assert fewer["foreground"] < load["foreground"]
    assert f"| {timing.text(load['ratios'][RATIOS[0][0]])} " in table({"loads": [load]})


@pytest.mark.parametrize(
    ("flags", "numbers"), [([], [128]), (["--foreground", "2", "--foreground", "0"], [2, 0])]
)
def test_config_keys_can_follow_the_numbers_of_proposals(flags, numbers, monkeypatch, shapes_root):
    name = f"training step of {shapes_root.name}"
    if name not in DatasetCatalog.list():
        annotations = shapes_root / "annotations" / "instances_train.json"
        register_coco_instances(name, {}, str(annotations), str(shapes_root / "train"))
    asked = []
    monkeypatch.setattr(
        training_step, "_measure_load", lambda steps, foreground, *rest: asked.append(foreground)
    )
    config = ["--config-file", "quick/smoke_ms_rcnn_R_18_FPN.yaml"]
    opts = ["SOLVER.IMS_PER_BATCH", "1", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]
    opts += ["DATASETS.TRAIN", f"('{name}',)"]
    args = command_parser("benchmark", "msrcnn").parse_args(["training", *config, *flags, *opts])
    assert training_step.measure(args)["images"] == 1
    assert asked == numbers


def test_each_way_trains_what_its_name_says(steps):
    """Without mask scoring the head has no gradient; the targets differ."""
    head = steps.model.roi_heads.mask_head.maskiou_head
    gradients = {}
    for name, run in steps.ways().items():
        if name != "detections":  # needs boxes, see the other test
            run(0)
            weight = head.maskiou.weight
            gradients[name] = None if weight.grad is None else weight.grad.clone()
    assert gradients.pop("mask r-cnn") is None
    found = list(gradients.values())
    assert len(found) == 3
    assert all(torch.isfinite(g).all() and g.any() for g in found)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_memory_of_the_head_that_the_stock_step_does_not_use(steps):
    head = steps.model.roi_heads.mask_head.maskiou_head
    parameters = sum(p.nbytes for p in head.parameters()) / 2**20
    assert steps.unused_by_stock_mib() == pytest.approx(2 * parameters)  # with momentum


def test_memory_counts_what_the_head_saves(steps):
    """The MaskIoU head adds at least its parameters, with gradient and momentum."""
    ways = steps.ways()
    stock, scoring = (steps.memory_mib(ways[name]) for name in ("mask r-cnn", "proposals"))
    head = steps.model.roi_heads.mask_head.maskiou_head
    assert scoring - stock > sum(3 * p.nbytes for p in head.parameters()) / 2**20
    assert scoring < 2 * stock
