import pytest

from msrcnn import get_config
from msrcnn.config import load_config
from msrcnn.engine import scale_schedule
from msrcnn.errors import UserError


@pytest.fixture
def cfg():
    cfg = get_config("COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml")
    cfg.TEST.EVAL_PERIOD = 5000
    return cfg


def test_quarter_of_the_batch_size(cfg):
    cfg.SOLVER.AUTO_SCALE, cfg.SOLVER.IMS_PER_BATCH = True, 4
    cfg.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM = 60000
    scale_schedule(cfg)
    assert cfg.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM == 240000
    assert cfg.SOLVER.BASE_LR == pytest.approx(0.005)
    assert cfg.SOLVER.STEPS == (240000, 320000)
    assert cfg.SOLVER.MAX_ITER == 360000
    assert cfg.SOLVER.WARMUP_ITERS == 4000
    assert cfg.SOLVER.CHECKPOINT_PERIOD == 20000
    assert cfg.TEST.EVAL_PERIOD == 20000


def test_training_must_reach_the_detections(cfg):
    """A value that was given is kept, also if the other one is scaled."""
    solver, head = cfg.SOLVER, cfg.MODEL.ROI_MASKIOU_HEAD
    solver.AUTO_SCALE, solver.IMS_PER_BATCH = True, 64
    head.SAMPLES, head.DETECTIONS_FROM = "detections", 60000
    with pytest.raises(UserError, match="DETECTIONS_FROM is 60000; .*SOLVER.MAX_ITER 22500"):
        scale_schedule(cfg, ["MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM"])


def test_a_given_length_is_that_of_the_batch(cfg):
    """As if the schedule had been written for it: only the learning rate is scaled."""
    cfg.SOLVER.AUTO_SCALE, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = True, 2, 5000
    before = cfg.clone()
    assert scale_schedule(cfg, ["SOLVER.MAX_ITER"]) == [
        "Learning rate: 0.02 x 2 / 16 images per batch = 0.0025"
    ]
    for key in ("MAX_ITER", "STEPS", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
        assert cfg.SOLVER[key] == before.SOLVER[key]
    assert cfg.TEST.EVAL_PERIOD == before.TEST.EVAL_PERIOD


def test_a_saved_config_is_not_scaled_again(cfg):
    cfg.SOLVER.AUTO_SCALE, cfg.SOLVER.IMS_PER_BATCH = True, 8
    scale_schedule(cfg)
    once = cfg.clone()
    scale_schedule(cfg)
    assert cfg == once
    assert not cfg.SOLVER.AUTO_SCALE


def test_off_by_default(cfg):
    cfg.SOLVER.IMS_PER_BATCH = 4
    before = cfg.clone()
    scale_schedule(cfg)
    assert cfg == before


def test_disabled_evaluation_stays_disabled(cfg):
    cfg.SOLVER.AUTO_SCALE, cfg.SOLVER.IMS_PER_BATCH = True, 4
    cfg.TEST.EVAL_PERIOD = 0
    scale_schedule(cfg)
    assert cfg.TEST.EVAL_PERIOD == 0


@pytest.fixture
def own(cfg, monkeypatch):
    """A config of epochs, with data of 100 images."""
    monkeypatch.setattr("msrcnn.engine.schedule.training_images", lambda cfg: range(100))
    cfg.SOLVER.EPOCHS = 12
    return cfg


def test_epochs_stretch_the_schedule(own):
    own.SOLVER.IMS_PER_BATCH = 8
    own.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM = 45000
    (note,) = scale_schedule(own)
    assert "12 epochs x 100 images / 8 per batch = 150 iterations" in note
    assert (own.SOLVER.MAX_ITER, own.SOLVER.STEPS) == (150, (100, 134))
    assert own.SOLVER.WARMUP_ITERS == 15  # a tenth instead of 1000
    assert own.TEST.EVAL_PERIOD == own.SOLVER.CHECKPOINT_PERIOD == 9  # as many as before
    assert own.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM == 75
    assert own.SOLVER.BASE_LR == 0.02  # only AUTO_SCALE changes it
    assert scale_schedule(own) == []  # a saved config is not stretched again


def test_epochs_must_reach_the_detections(own):
    head = own.MODEL.ROI_MASKIOU_HEAD
    head.SAMPLES, head.DETECTIONS_FROM = "detections", 45000
    with pytest.raises(UserError, match="DETECTIONS_FROM is 45000; .*SOLVER.MAX_ITER 75"):
        scale_schedule(own, ["MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM"])


def test_epochs_and_another_batch(own):
    own.SOLVER.IMS_PER_BATCH, own.SOLVER.AUTO_SCALE = 4, True
    notes = scale_schedule(own)
    assert own.SOLVER.MAX_ITER == 300  # not scaled a second time
    assert own.SOLVER.BASE_LR == pytest.approx(0.005)
    assert notes[1] == "Learning rate: 0.02 x 4 / 16 images per batch = 0.005"


def test_the_warm_up_is_not_stretched(own):
    own.SOLVER.EPOCHS = 10_000
    scale_schedule(own)
    assert own.SOLVER.WARMUP_ITERS == 1000


def test_a_very_short_schedule(own):
    own.SOLVER.EPOCHS, own.SOLVER.IMS_PER_BATCH = 1, 100
    own.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM = 45000
    scale_schedule(own)
    assert (own.SOLVER.MAX_ITER, own.SOLVER.STEPS) == (1, ())
    assert own.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM == 0
    assert own.TEST.EVAL_PERIOD == own.SOLVER.CHECKPOINT_PERIOD == 1


def test_values_as_given_are_kept(own):
    own.SOLVER.IMS_PER_BATCH, own.SOLVER.AUTO_SCALE = 4, True
    own.SOLVER.BASE_LR, own.TEST.EVAL_PERIOD, own.SOLVER.WARMUP_ITERS = 0.1, 7, 200
    keep = ("SOLVER.BASE_LR", "TEST.EVAL_PERIOD", "SOLVER.WARMUP_ITERS")
    notes = scale_schedule(own, keep)
    assert (own.SOLVER.BASE_LR, own.TEST.EVAL_PERIOD, own.SOLVER.WARMUP_ITERS) == (0.1, 7, 200)
    assert notes[1] == "Learning rate: 0.1, as given"


def test_the_batch_of_a_config_file_is_its_reference(tmp_path):
    quick = get_config("quick/animals_mask_rcnn_MNV2_FPN.yaml")
    quick.SOLVER.AUTO_SCALE, quick.SOLVER.IMS_PER_BATCH = True, 2
    scale_schedule(quick)
    assert quick.SOLVER.BASE_LR == pytest.approx(0.00025)  # written for 4
    assert quick.SOLVER.MAX_ITER == 2000
    path = tmp_path / "scaled.yaml"
    path.write_text("SOLVER:\n  IMS_PER_BATCH: 4\n  AUTO_SCALE: True\n")
    assert load_config(path).SOLVER.REFERENCE_BATCH == 16  # it asks to be scaled itself
