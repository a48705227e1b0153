"""Evaluates converted models with tools/eval_net.py and the config written by the conversion."""

import json
import os
import subprocess
import sys

import published
import pytest
import reference
import torch
from conftest import ROOT

from msrcnn.checkpoint.convert import convert_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("source", ["maskscoring_rcnn", "mmdet"])
def test_converted_model_is_evaluated(source, coco_root, tmp_path):
    state = reference.random_state(getattr(published, source)(base=16, channels=16, fc=16))
    torch.save(state, tmp_path / "theirs.pth")
    convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "ours.pth", source)
    done = subprocess.run(
        [
            *(sys.executable, "tools/eval_net.py", "--config-file", str(tmp_path / "ours.yaml")),
            *("--weights", str(tmp_path / "ours.pth"), "--output-dir", str(tmp_path / "eval")),
            # Small enough for a CPU; the scores of random weights are low.
            *("INPUT.MIN_SIZE_TEST", "96", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
            *("TEST.DETECTIONS_PER_IMAGE", "5", "MODEL.RPN.POST_NMS_TOPK_TEST", "20"),
            *("DATALOADER.NUM_WORKERS", "0"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(coco_root.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert "not found in the checkpoint" not in done.stderr
    evaluation = json.loads((tmp_path / "eval" / "evaluation.json").read_text())
    assert evaluation["segm_mask_score"]["AP"] is not None
    assert evaluation["maskiou"]["n"] is not None
