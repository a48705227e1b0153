import argparse

from detectron2.data.datasets import register_coco_instances

from msrcnn.benchmark import loader_time, timing


def test_both_mappers_are_measured(shapes_root, monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP", 0)
    annotations = shapes_root / "annotations" / "instances_train.json"
    register_coco_instances("for the loader", {}, str(annotations), str(shapes_root / "train"))
    arguments = argparse.Namespace(
        config_file="quick/smoke_ms_rcnn_R_18_FPN.yaml",
        repeats=2,
        opts=["DATASETS.TRAIN", "('for the loader',)"],
    )
    result = loader_time.measure(arguments)
    first, second = result["seconds"]["ours"]
    assert result["images_per_second"] == 8 / ((first + second) / 2)
    assert f"| {timing.text(result['ratio'])}" in loader_time.table(result)
    assert len(result["seconds"]["detectron2"]) == 2
