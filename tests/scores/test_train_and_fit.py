import json
import sys

import pytest
from detectron2.data.datasets import register_coco_instances

from msrcnn.config import load_config
from msrcnn.engine import Processes, check_config
from msrcnn.errors import UserError
from msrcnn.folder_lock import alone_in
from msrcnn.scores import FIT_DEFAULTS, fit_scores, train_and_fit
from msrcnn.scores.fit_scores import check_fit
from msrcnn.scores.train_and_fit import detector_weights, training_config


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.merge_from_list(list(FIT_DEFAULTS))
    return tiny_cfg


def test_training_before_a_fit_is_of_the_detector_alone(cfg):
    cfg.MODEL.ROI_MASK_HEAD.RANK_BY = "mask_score"
    training = training_config(cfg)
    assert not training.MODEL.MASKIOU_ON
    check_config(training)  # as it is when its checkpoints are used before the fit
    assert training.DATASETS.TEST == ()  # evaluated once, after the fit
    assert cfg.MODEL.MASKIOU_ON
    cfg.TEST.EVAL_PERIOD = 5
    assert training_config(cfg).DATASETS.TEST == cfg.DATASETS.TEST


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.MASKIOU_ON", False, "needs MODEL.MASKIOU_ON True"),
        ("MODEL.ROI_MASKIOU_HEAD.NAME", "MaskConfidenceHead", "has nothing to fit"),
        ("MODEL.ROI_MASKIOU_HEAD.SAMPLES", "proposals", "SAMPLES detections"),
        ("SOLVER.FIT_VIEWS", 2, "views of SOLVER.FIT_VIEWS 2 would be the same"),
    ],
)
def test_a_fit_that_cannot_be_is_refused_before_the_training(cfg, key, value, message):
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN = "none", (cfg.INPUT.MIN_SIZE_TEST,)
    check_fit(cfg)
    cfg.merge_from_list([key, value])
    with pytest.raises(UserError, match=message):
        train_and_fit(cfg, Processes())
    with pytest.raises(UserError, match=message):  # of `msrcnn fit-scores`
        fit_scores(cfg)


def test_a_folder_of_the_user_is_refused_before_the_training(cfg, tmp_path):
    cfg.OUTPUT_DIR, photo = str(tmp_path), tmp_path / "samples" / "photo.jpg"
    photo.parent.mkdir()
    photo.touch()
    with pytest.raises(UserError, match="samples' has files, but no cache of samples"):
        train_and_fit(cfg, Processes())
    assert photo.exists()


def test_views_differ_by_mirroring_or_by_size(cfg):
    test = cfg.INPUT.MIN_SIZE_TEST
    cfg.SOLVER.FIT_VIEWS = 2
    for flip, sizes in (("none", (test, test + 8)), ("none", (test + 8,)), ("horizontal", (test,))):
        cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN = flip, sizes
        check_fit(cfg)


def test_the_best_detector_is_fitted(cfg, tmp_path):
    assert detector_weights(tmp_path, cfg).name == "model_final.pth"
    cfg.SOLVER.KEEP_BEST = "bbox/AP"
    assert detector_weights(tmp_path, cfg).name == "model_final.pth"  # the metric had no value
    (tmp_path / "model_best.pth").touch()
    assert detector_weights(tmp_path, cfg).name == "model_best.pth"


def test_config_of_the_training_keeps_the_weights_that_it_started_from(cfg, tmp_path, monkeypatch):
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(tmp_path), "start.pth"
    module = sys.modules[training_config.__module__]
    monkeypatch.setattr(module, "fit_scores", lambda cfg: fitted.append(cfg.MODEL.WEIGHTS) or {})
    fitted = []
    module._fit(cfg)
    assert fitted == [str(tmp_path / "model_final.pth")]
    assert load_config(tmp_path / "config.yaml").MODEL.WEIGHTS == "start.pth"


def test_without_a_fit_nothing_changes(cfg):
    cfg.SOLVER.FIT_SCORES = False
    assert training_config(cfg) is cfg


def test_false_positives_are_detections(cfg):
    check_config(cfg)
    cfg.MODEL.ROI_MASKIOU_HEAD.SAMPLES = "proposals"
    with pytest.raises(UserError, match="FALSE_POSITIVES 'zero' needs SAMPLES 'detections'"):
        check_config(cfg)


def test_only_a_fit_to_detections_has_context_and_duplicates(cfg):
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    head.INPUT_CONTEXT = head.ONE_PER_INSTANCE = True
    check_config(cfg)
    cfg.SOLVER.FIT_SCORES = False
    cfg.MODEL.ROI_HEADS.NAME = "MaskScoringROIHeads"
    with pytest.raises(UserError, match="INPUT_CONTEXT needs SOLVER.FIT_SCORES True"):
        check_config(cfg)
    head.INPUT_CONTEXT = False
    check_config(cfg)
    head.SAMPLES, head.FALSE_POSITIVES = "proposals", "ignore"
    with pytest.raises(UserError, match="ONE_PER_INSTANCE needs SAMPLES 'detections'"):
        check_config(cfg)


def test_detections_train_the_target_class(cfg):
    cfg.MODEL.ROI_HEADS.NAME = "MaskScoringROIHeads"
    cfg.MODEL.ROI_MASKIOU_HEAD.TARGET = "all_classes"
    with pytest.raises(UserError, match="TARGET 'all_classes' is only for SAMPLES 'proposals'"):
        check_config(cfg)


def test_best_weights_need_data_to_find_them(cfg, shapes_root, tmp_path):
    """Otherwise the fit would miss them, after the training."""
    path = shapes_root / "annotations" / "instances_val.json"
    content = {**json.loads(path.read_text()), "annotations": []}
    test_set = tmp_path / "empty.json"
    test_set.write_text(json.dumps(content))
    cfg.SOLVER.KEEP_BEST, cfg.DATASETS.TEST = "segm_box_score/AP", ("empty for the best",)
    register_coco_instances(cfg.DATASETS.TEST[0], {}, str(test_set), str(shapes_root / "val"))
    with pytest.raises(UserError, match="KEEP_BEST .* has no instance"):
        train_and_fit(cfg, Processes())


def test_a_fit_that_fails_names_the_detector(cfg, monkeypatch):
    def fail(cfg):
        raise UserError("none of the detections matches")

    # The function of the same name hides the module.
    module = sys.modules[training_config.__module__]
    monkeypatch.setattr(module, "fit_scores", fail)
    monkeypatch.setattr(module, "start_run", lambda cfg, eval_only: cfg.clone())
    with pytest.raises(UserError, match="no mask scores: none of .* detector is '.*model_final"):
        module._fit(cfg)


def test_one_training_at_a_time_writes_to_a_folder(cfg, tmp_path):
    """Two would mix their checkpoints, logs and results."""
    cfg.OUTPUT_DIR = str(tmp_path)
    refused = pytest.raises(UserError, match="another process writes .*choose another OUTPUT_DIR")
    with alone_in(tmp_path, "OUTPUT_DIR"), refused:
        train_and_fit(cfg, Processes())
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
