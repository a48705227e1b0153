import argparse

import numpy as np
import pytest
from detectron2.data.datasets import register_coco_instances

from msrcnn.benchmark import calibration_error as benchmark
from msrcnn.config import get_config
from msrcnn.errors import UserError
from msrcnn.evaluation.predictions_file import save_predictions
from msrcnn.scores.calibration import right_masks

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"


def test_benchmark(shapes_root, tmp_path, evaluation):
    annotations = str(shapes_root / "annotations" / "instances_train.json")
    register_coco_instances("to calibrate", {}, annotations, str(shapes_root / "train"))
    save_predictions(evaluation.detections, tmp_path / "found.npz", evaluation.ground_truth)
    cfg = get_config(SMOKE)
    cfg.DATASETS.TEST = ("to calibrate",)
    config = tmp_path / "fitted.yaml"
    arguments = argparse.Namespace(
        config_file=str(config), predictions=tmp_path / "found.npz", opts=[]
    )
    config.write_text(cfg.dump())
    with pytest.raises(UserError, match="CALIBRATION: fit again"):
        benchmark.measure(arguments)
    cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION = (1.0, 0.5)
    config.write_text(cfg.dump())
    arguments.opts = ["DATASETS.TEST", "()"]
    with pytest.raises(UserError, match=r"DATASETS\.TEST is empty"):
        benchmark.measure(arguments)
    arguments.opts = []
    result = benchmark.measure(arguments)
    right = right_masks(
        evaluation.ground_truth, evaluation.detections, evaluation.detections.mask_score
    )
    assert result["masks"] == (~np.isnan(right)).sum()
    assert result["right"] == np.nansum(right) > 5
    for name, each in result["scores"].items():
        assert 0 < each["calibration_error"] < 1, name
        assert each["shown_right"] <= each["shown"] <= result["masks"]
    assert len(benchmark.table(result).splitlines()) == 5
