"""SOLVER.KEEP_BEST is checked before training; tests/engine/test_resume.py follows it."""

import json
import math
import re
from types import SimpleNamespace

import pytest
import torch
from detectron2.data.datasets import register_coco_instances

from msrcnn.engine.keep_best import KeepBest, _metrics, check_data_of_best, check_keep_best
from msrcnn.errors import UserError
from msrcnn.evaluation.result_files import logged_metrics


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.TEST.EVAL_PERIOD, tiny_cfg.DATASETS.TEST = 2, ("a",)
    return tiny_cfg


@pytest.mark.parametrize(
    ("metric", "changes", "message"),
    [
        ("segm_mask_score/AP", {}, None),
        ("a/segm_mask_score/AP", {"DATASETS.TEST": ("a", "b")}, None),
        ("segm_mask_score/AP", {"DATASETS.TEST": ("a", "b")}, "nearest: ./segm_mask_score/AP"),
        ("a/segm_mask_score/AP", {}, "nearest: segm_mask_score/AP"),
        ("segm/AP", {}, "not a metric of this training's evaluations for .* nearest: segm"),
        ("maskiou/spearman_all", {}, None),
        ("maskiou/mae", {}, "for which higher is better"),
        ("maskiou/n", {}, "for which higher is better"),
        ("segm_mask_score/AP", {"MODEL.MASKIOU_ON": False}, "nearest: segm_box_score/AP"),
        ("segm_box_score/AP", {"MODEL.MASKIOU_ON": False}, None),
        ("segm_box_score/AP", {"MODEL.MASKIOU_ON": False, "MODEL.MASK_ON": False}, "nearest: bbox"),
        ("bbox/AP", {"DATASETS.TEST": ()}, "DATASETS.TEST is empty: give --val-data"),
        ("bbox/AP", {"TEST.EVAL_PERIOD": 0}, "set TEST.EVAL_PERIOD"),
        # As a fit leaves it to the end, which has data to evaluate on.
        ("bbox/AP", {"TEST.EVAL_PERIOD": 0, "DATASETS.TEST": ()}, "set TEST.EVAL_PERIOD"),
        ("", {"DATASETS.TEST": ()}, None),
    ],
)
def test_metric_must_be_evaluated(cfg, metric, changes, message):
    cfg.SOLVER.KEEP_BEST = metric
    cfg.merge_from_list([each for pair in changes.items() for each in pair])
    if message is None:
        check_keep_best(cfg)
    else:
        with pytest.raises(UserError, match=message):
            check_keep_best(cfg)


@pytest.mark.parametrize(
    ("metric", "lacks", "message"),
    [
        ("segm_box_score/AP", None, None),
        ("bbox/AP", "segmentation", None),
        ("segm_box_score/AP", "segmentation", "annotation 1 has no 'segmentation'"),
        ("bbox/AP", "annotations", "val.json has no instance to compare detections with"),
    ],
)
def test_data_must_have_the_metric(cfg, shapes_root, tmp_path, metric, lacks, message):
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    if lacks == "segmentation":
        del content["annotations"][0][lacks]
    content.pop(lacks, None)
    (tmp_path / "val.json").write_text(json.dumps(content))
    cfg.SOLVER.KEEP_BEST, cfg.DATASETS.TEST = metric, (f"val for {tmp_path}",)
    register_coco_instances(
        cfg.DATASETS.TEST[0], {}, str(tmp_path / "val.json"), str(shapes_root / "val")
    )
    if message is None:
        check_data_of_best(cfg)
    else:
        with pytest.raises(UserError, match=f"SOLVER.KEEP_BEST '{metric}': .*{message}"):
            check_data_of_best(cfg)


def test_every_logged_metric_is_known(cfg, evaluation):
    logged = logged_metrics(evaluation.summary)
    names = {f"{task}/{metric}" for task, metrics in logged.items() for metric in metrics}
    assert "maskiou/pearson_all" in names
    fewer = {name for name in names if re.search(r"/(mae|n)(_all)?$", name)}
    assert fewer
    assert names - fewer <= set(_metrics(cfg))


@pytest.mark.parametrize(
    ("saved", "of_checkpoint", "known"),
    [
        ({"value": 3.0, "steps": 2}, {"value": 3.0, "steps": 2}, 2),
        ({"value": 3.0, "steps": 4}, {"value": 1.0, "steps": 2}, 4),  # after the checkpoint
        ({"value": 3.0, "steps": 6}, {"value": 1.0, "steps": 2}, 0),  # is undone
        ({"value": 9.0, "steps": 2}, {"value": -math.inf, "steps": 0}, 0),  # of another run
        ({"value": 9.0, "steps": 2}, {"value": 3.0, "steps": 2}, 0),
        ({"value": 3.0, "steps": 2}, None, 2),  # a checkpoint of an earlier version
    ],
)
@pytest.mark.usefixtures("old_pytorch")
def test_best_of_an_earlier_run_in_the_folder_does_not_count(
    cfg, tmp_path, saved, of_checkpoint, known
):
    cfg.OUTPUT_DIR, cfg.SOLVER.KEEP_BEST = str(tmp_path), "bbox/AP"
    best = {"model": {"w": torch.ones(1)}, "best": {"metric": "bbox/AP", **saved}}
    torch.save(best, tmp_path / "model_best.pth")
    hook = KeepBest(cfg, None)
    hook.trainer = SimpleNamespace(start_iter=4)
    if of_checkpoint:
        hook.load_state_dict({"metric": "bbox/AP", **of_checkpoint})
    hook.before_train()
    assert hook.best_steps == known
