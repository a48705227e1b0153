import argparse
import statistics

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

from msrcnn.benchmark import fit_time

SMALL = (
    *("INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", "160"),
    *("TEST.DETECTIONS_PER_IMAGE", "7", "SOLVER.FIT_BATCH", "16", "MODEL.DEVICE", "cpu"),
)


def test_pass_and_fit_are_measured(shapes_root, monkeypatch):
    """As ``fit-scores`` runs them: the pass with fast inference, the fit in channels-last."""
    formats = []

    def recorded(name, way):
        def run(*args, **kwargs):
            model = args[1] if name == "pass" else args[0]
            weights = [each for each in model.parameters() if each.ndim == 4 and each.shape[1] > 1]
            last = [each.is_contiguous(memory_format=torch.channels_last) for each in weights]
            formats.append((name, any(last), model.training))
            return way(*args, **kwargs)

        return run

    monkeypatch.setattr(fit_time, "collect_samples", recorded("pass", fit_time.collect_samples))
    monkeypatch.setattr(fit_time, "fit_step", recorded("fit", fit_time.fit_step))
    name = f"fit time of {shapes_root.name}"
    if name not in DatasetCatalog.list():
        annotations = shapes_root / "annotations" / "instances_train.json"
        register_coco_instances(name, {}, str(annotations), str(shapes_root / "train"))
    args = argparse.Namespace(
        config_file="quick/smoke_ms_rcnn_R_18_FPN.yaml",
        images=7200,
        repeats=3,
        opts=[*SMALL, "DATASETS.TRAIN", f"('{name}',)", "SOLVER.FIT_MAX_ITER", "60"],
    )
    result = fit_time.measure(args)
    assert len(result["image_seconds"]) == len(result["iteration_seconds"]) == 3
    assert result["detections"] == 7
    assert result["pass_hours"] == pytest.approx(2 * statistics.median(result["image_seconds"]))
    assert result["fit_minutes"] == pytest.approx(statistics.median(result["iteration_seconds"]))
    assert min(result["image_seconds"]) > 0
    assert set(formats) == {("pass", True, False), ("fit", True, True)}
    text = fit_time.table(result)
    assert "7,200 images" in text
    assert f"{result['fit_minutes']:.1f} min" in text
