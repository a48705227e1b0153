import pytest

from msrcnn import get_config
from msrcnn.engine import scale_schedule


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
