"""The summary at the end of a training."""

import json
import os
import shlex

import pytest
import torch

from msrcnn.cli import command_parser
from msrcnn.scores.training_summary import training_summary


@pytest.fixture
def cfg(tiny_cfg, tmp_path):
    tiny_cfg.OUTPUT_DIR, tiny_cfg.DATASETS.TEST = str(tmp_path / "my run"), ("val",)
    (tmp_path / "my run").mkdir()
    return tiny_cfg


def write(cfg, folder="", **metrics):
    path = f"{cfg.OUTPUT_DIR}/{folder}"
    with open(f"{path}/evaluation.json", "w") as file:
        json.dump({"images": 20, **{k: {"AP": v} if v else None for k, v in metrics.items()}}, file)


def commands(text):
    lines = [shlex.split(line) for line in text.split("Next:\n")[1].splitlines()]
    for program, name, *arguments in lines:
        assert program == "msrcnn"
        command_parser(name, name).parse_args(arguments)
    return {name: arguments for _, name, *arguments in lines}


@pytest.mark.usefixtures("old_pytorch")
def test_fitted_model(cfg):
    cfg.SOLVER.FIT_SCORES, cfg.SOLVER.KEEP_BEST = True, "segm_box_score/AP"
    best = {"metric": "segm_box_score/AP", "value": 41.234, "steps": 800}
    torch.save(
        {"model": {"weight": torch.zeros(1)}, "best": best}, f"{cfg.OUTPUT_DIR}/model_best.pth"
    )
    write(cfg, bbox=45.1, segm_box_score=41.234, segm_mask_score=43.0)
    text = training_summary(cfg)
    assert f"the model is {cfg.OUTPUT_DIR}/model_fitted.pth" in text
    assert "best segm_box_score/AP: 41.23, after 800 iterations" in text
    assert (
        "box AP 45.10, mask AP by box score 41.23, mask AP by mask score 43.00: 20 images, "
        f"{cfg.OUTPUT_DIR}/report.html" in text
    )
    found = commands(text)
    assert found.keys() == {"predict", "eval", "export"}
    assert all(each[1] == f"{cfg.OUTPUT_DIR}/model_fitted.pth" for each in found.values())


def test_plain_model_on_two_datasets(cfg):
    cfg.DATASETS.TEST = ("a", "b")
    for name in cfg.DATASETS.TEST:
        os.mkdir(f"{cfg.OUTPUT_DIR}/{name}")
    write(cfg, "a", bbox=3.0, segm_box_score=2.0, segm_mask_score=None)
    write(cfg, "b", bbox=None)
    text = training_summary(cfg)
    assert "model_final.pth" in text
    assert "mask score" not in text
    assert "of the last iteration" in text
    assert "AP is not defined: 20 images" in text


def test_commands_of_a_program_with_parts_of_its_own(cfg):
    text = training_summary(cfg, ["python", "own.py"])
    assert "\n  python own.py predict --weights " in text


def test_without_evaluation(cfg):
    cfg.DATASETS.TEST = ()
    text = training_summary(cfg)
    assert "report" not in text
    assert commands(text).keys() == {"predict", "export"}
