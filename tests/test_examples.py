"""The examples train and evaluate through the commands of msrcnn, as their docstrings say."""

import json
import math
import re

import pytest
import torch
from conftest import ROOT
from scripts import run_script

from msrcnn.config import find_config

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"
# What tells that a model has the example's part: a parameter of its own, or None for the loss.
EXAMPLES = {
    "own_maskiou_head": "roi_heads.mask_head.maskiou_head.fc.weight",
    "own_loss": None,
    "own_mask_head": "roi_heads.mask_head.up.weight",
}


def command(name):
    """Returns the arguments of the command in an example's docstring."""
    text = (ROOT / "examples" / f"{name}.py").read_text().replace("\\\n", " ")
    line = re.search(rf"^    python examples/{name}\.py (.+)$", text, re.MULTILINE)[1]
    return line.split()


def test_every_own_part_is_tested():
    assert {path.stem for path in (ROOT / "examples").glob("own_*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_part_has_at_most_20_lines(name):
    text = (ROOT / "examples" / f"{name}.py").read_text()
    part = text.split('"""\n', 1)[1].split('if __name__ == "__main__":')[0]
    part = part[part.index("@") :]
    assert sum(bool(line.strip()) for line in part.splitlines()) <= 20


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_trains_evaluates_and_predicts(name, shapes_root, tmp_path):
    arguments = command(name)
    config, key, value, output = (arguments[i] for i in (2, 3, 4, 5))
    assert (arguments[:2], output) == (["train", "--config-file"], "OUTPUT_DIR")
    assert find_config(config).is_file()
    script, run = f"examples/{name}.py", tmp_path / "run"
    annotations = f"{shapes_root}/annotations/instances_"
    done = run_script(
        *(script, "train", "--config-file", SMOKE),
        *("--train-data", f"{annotations}train.json:{shapes_root}/train"),
        *("--val-data", f"{annotations}val.json:{shapes_root}/val"),
        *(key, value, "OUTPUT_DIR", run, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
        *("TEST.DETECTIONS_PER_IMAGE", 5),
    )
    assert done.returncode == 0, done.stderr
    assert f"examples/{name}.py predict --weights " in done.stdout  # which msrcnn could not load
    assert f"{key.split('.')[-1]}: {value}" in (run / "config.yaml").read_text()
    steps = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    losses = [step["loss_maskiou"] for step in steps if "loss_maskiou" in step]
    assert losses
    assert all(0 < loss < math.inf for loss in losses)
    assert json.loads((run / "evaluation.json").read_text())["segm_mask_score"]["AP"] is not None
    if EXAMPLES[name]:
        weights = torch.load(run / "model_final.pth", weights_only=True)["model"]
        assert EXAMPLES[name] in weights

    if name != "own_mask_head":  # the other parts have no influence on how a model is loaded
        return
    image = next((shapes_root / "val").iterdir())
    weights, found = run / "model_final.pth", tmp_path / "found.json"
    drawn = ("--output", tmp_path / "drawn", "--coco", found)
    done = run_script(script, "predict", "--weights", weights, image, *drawn)
    assert done.returncode == 0, done.stderr
    assert {"score", "mask_score"} <= json.loads(found.read_text())["annotations"][0].keys()
