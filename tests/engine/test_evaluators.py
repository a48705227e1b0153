import json

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from msrcnn.engine.evaluators import build_evaluator


@pytest.fixture
def evaluated(tiny_cfg, shapes_root, tmp_path):
    """Returns a function that evaluates a model without detections, and reads its MaskIoU."""
    name = f"evaluators_{shapes_root.name}"
    if name not in DatasetCatalog.list():
        annotations = shapes_root / "annotations" / "instances_val.json"
        register_coco_instances(name, {}, str(annotations), str(shapes_root / "val"))
    tiny_cfg.OUTPUT_DIR, tiny_cfg.TEST.BOOTSTRAP = str(tmp_path), 0
    nothing = Instances((8, 8), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
    nothing.pred_classes, nothing.pred_masks = torch.zeros(0).long(), torch.zeros(0, 8, 8).bool()

    def evaluated(*settings):
        tiny_cfg.merge_from_list(list(settings))
        if tiny_cfg.MODEL.MASKIOU_ON:
            nothing.pred_maskiou = nothing.mask_scores = torch.zeros(0)
        evaluator = build_evaluator(tiny_cfg, name)
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [{"instances": nothing}])
        evaluator.evaluate()
        return json.loads((tmp_path / "evaluation.json").read_text())["maskiou"]

    return evaluated


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "ignore"),
        ({"FALSE_POSITIVES": "zero"}, "zero"),
        ({"TARGET": "positive_classes"}, "ignore"),
        ({"TARGET": "all_classes"}, None),  # a wrong class has a target of 0, no object has none
        ({"NAME": "MaskConfidenceHead"}, None),  # not trained
    ],
)
def test_evaluation_states_what_the_head_was_trained_for(evaluated, settings, expected):
    opts = [part for k, v in settings.items() for part in (f"MODEL.ROI_MASKIOU_HEAD.{k}", v)]
    assert evaluated(*opts)["false_positives"] == expected


def test_evaluation_of_a_plain_mask_rcnn(evaluated):
    assert evaluated("MODEL.MASKIOU_ON", False) is None


def test_interval_only_in_the_last_evaluation_of_a_training(tiny_cfg, evaluated, shapes_root):
    name = f"evaluators_{shapes_root.name}"
    tiny_cfg.TEST.BOOTSTRAP = 30
    last = tiny_cfg.SOLVER.MAX_ITER
    assert build_evaluator(tiny_cfg, name)._settings["bootstrap"] == 30
    for iteration, expected in ((last - 2, 0), (last - 1, 30), (last, 30)):
        with EventStorage(iteration):
            assert build_evaluator(tiny_cfg, name)._settings["bootstrap"] == expected
