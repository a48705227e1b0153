import copy
import dataclasses

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.events import EventStorage
from stand_ins import index
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from msrcnn.data.custom import use_custom_data
from msrcnn.engine import Trainer, publish


@pytest.fixture
def cfg(tiny_cfg, shapes_root, tmp_path):
    name = f"report_{shapes_root.name}"
    if name not in DatasetCatalog.list():
        annotations = shapes_root / "annotations" / "instances_val.json"
        register_coco_instances(name, {}, str(annotations), str(shapes_root / "val"))
    tiny_cfg.DATASETS.TEST, tiny_cfg.OUTPUT_DIR = (name,), str(tmp_path)
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, tiny_cfg.TEST.BOOTSTRAP = 0.0, 20
    return tiny_cfg


def evaluate(cfg):
    torch.manual_seed(0)
    return Trainer.test(cfg, Trainer.build_model(cfg))


def test_images_are_logged_during_training(cfg, tmp_path):
    (name,) = cfg.DATASETS.TEST
    with EventStorage() as storage:
        evaluate(cfg)
        images = {key: image for key, image, _ in storage._vis_data}
    plots = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert {"ap_over_iou", "true_maskiou", "calibration"} <= plots
    assert images.keys() == {f"{name}/{key}" for key in (*plots, "predictions")}
    for image in images.values():
        assert image.shape[0] == 3
        assert min(image.shape[1:]) > 100
    assert (tmp_path / "report.html").is_file()


def test_evaluation_after_a_training_is_added_to_its_log(cfg, tmp_path):
    with publish.log_after_training(tmp_path, 30) as results:
        results.update(evaluate(cfg))
    log = EventAccumulator(str(tmp_path)).Reload()
    (name,) = cfg.DATASETS.TEST
    assert [each.step for each in log.Images(f"{name}/predictions")] == [30]
    assert [each.step for each in log.Scalars("segm_mask_score/AP")] == [30]
    evaluate(cfg)  # one that belongs to nothing
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(
    ("image_root", "shown"), [("", True), ("{}/train", True), ("s3://bucket/train", False)]
)
def test_images_are_those_of_any_kind_of_dataset(
    evaluation, shapes_root, tmp_path, image_root, shown
):
    """Of a Python function, whose file names are whole paths, of a folder, and of a bucket."""
    content = copy.deepcopy(evaluation.ground_truth.dataset)
    for image in content["images"] if not image_root else ():
        image["file_name"] = str(shapes_root / "train" / image["file_name"])
    evaluation = dataclasses.replace(evaluation, ground_truth=index(content))
    name = f"published {tmp_path}"
    if image_root:
        MetadataCatalog.get(name).image_root = image_root.format(shapes_root)
    with EventStorage() as storage:
        publish.publish_evaluation(evaluation, tmp_path, dataset_name=name)
        drawn = {key for key, _, _ in storage._vis_data}
    assert (f"{name}/predictions" in drawn) == shown
    page = (tmp_path / "report.html").read_text()
    assert ("have a plain background" not in page) == shown


def test_title_of_custom_data_is_short(cfg, shapes_root, tmp_path):
    """Reports are shown to others, for whom the folders of this machine mean nothing."""
    annotations = shapes_root / "annotations" / "instances_val.json"
    use_custom_data(cfg, val=[f"{annotations}:{shapes_root / 'val'}"])
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluate(cfg)
    page = (tmp_path / "report.html").read_text()
    assert "<h1>annotations/instances_val.json</h1>" in page


def test_failing_report_does_not_stop_training(cfg, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise OSError("cannot draw")

    monkeypatch.setattr(publish, "prediction_grid", broken)
    with EventStorage():
        assert evaluate(cfg)["bbox"]
    assert "could not be written" in caplog.text
    monkeypatch.setattr(publish, "write_report", broken)
    with pytest.raises(OSError, match="cannot draw"):
        evaluate(cfg)
