import json
import sys

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from msrcnn.config import get_msrcnn_cfg
from msrcnn.engine import evaluate
from msrcnn.engine.evaluators import build_evaluator, evaluation_settings
from msrcnn.errors import UserError
from msrcnn.evaluation import EvaluationSettings
from msrcnn.provenance import file_record, software


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
    assert build_evaluator(tiny_cfg, name)._settings.bootstrap == 30
    for iteration, expected in ((last - 2, 0), (last - 1, 30), (last, 30)):
        with EventStorage(iteration):
            evaluator = build_evaluator(tiny_cfg, name)
        assert evaluator._settings.bootstrap == expected
        assert evaluator._provenance["iteration"] == iteration
        # The weights of an iteration before the last one are in no file.
        assert (evaluator._provenance["weights"] is None) == (expected == 0)


def test_evaluation_says_what_made_it(tiny_cfg, evaluated, shapes_root, tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"weights")
    evaluated("MODEL.WEIGHTS", str(weights), "SEED", "5")
    found = json.loads((tmp_path / "evaluation.json").read_text())["provenance"]
    assert found["software"] == software()
    assert found["weights"] == file_record(weights)
    annotations = shapes_root / "annotations" / "instances_val.json"
    name = f"evaluators_{shapes_root.name}"
    assert found["dataset"] == {"name": name, "annotations": file_record(annotations)}
    settings = {key: found[key] for key in ("seed", "max_dets", "engine", "bootstrap")}
    assert settings == {"seed": 5, "max_dets": 100, "engine": "hotcoco", "bootstrap": 0}


def test_default_settings_are_those_of_the_config():
    assert evaluation_settings(get_msrcnn_cfg()) == EvaluationSettings()


def test_nothing_to_evaluate_on_is_an_error(tiny_cfg):
    tiny_cfg.DATASETS.TEST = ()
    with pytest.raises(UserError, match="DATASETS.TEST is empty: give --val-data"):
        evaluate(tiny_cfg)


def test_expected_results_are_checked(tiny_cfg, monkeypatch):
    """As in Detectron2's train_net.py: other results end the program with status 1."""
    module = sys.modules[evaluate.__module__]  # the function of the same name hides it
    monkeypatch.setattr(module, "load_model", lambda *args, **kwargs: None)
    results = {"bbox": {"AP": 1.4}}
    monkeypatch.setattr(module.Trainer, "test", lambda cfg, model: results)
    tiny_cfg.DATASETS.TEST = ("shapes_val",)
    tiny_cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 1.5, 0.2]]
    assert evaluate(tiny_cfg) == results
    tiny_cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 50.0, 1.0]]
    with pytest.raises(SystemExit, match="1"):
        evaluate(tiny_cfg)


def test_predictions_on_custom_data_need_no_config(run_command, shapes_root, tmp_path):
    annotations = shapes_root / "annotations" / "instances_val.json"
    (tmp_path / "none.json").write_text("[]")
    code, _, err = run_command(
        *("eval", "--predictions", tmp_path / "none.json", "--output-dir", tmp_path / "out"),
        *("--val-data", f"{annotations}:{shapes_root}/val", "TEST.BOOTSTRAP", 0),
    )
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["bbox"]["AP"] == 0
