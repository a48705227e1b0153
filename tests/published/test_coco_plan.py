import re

import pytest

from msrcnn import get_config
from msrcnn.published import load_published, reproduction_plan
from msrcnn.published.numbers import published_training


@pytest.mark.parametrize("config_file", sorted({p.config_file for p in load_published()}))
def test_configs_exist_and_have_published_costs(config_file):
    cfg = get_config(config_file)
    assert cfg.SOLVER.IMS_PER_BATCH == 16
    unknown = cfg.MODEL.RESNETS.DEPTH == 18 or any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE)
    assert (published_training(config_file.split("/")[1][: -len(".yaml")]) is None) == unknown


def test_paper_s_sizes_for_resnet_18():
    for name in ("mask_rcnn_R_18_FPN_18ep", "ms_rcnn_R_18_FPN_18ep"):
        cfg = get_config(f"COCO-InstanceSegmentation/{name}.yaml")
        assert (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN) == ((600,), 1000)
        assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (600, 1000)


def row(plan, config):
    (line,) = [line for line in plan.splitlines() if line.startswith(f"{config} ")]
    return re.split(r"\s{2,}", line)


def test_times_from_iterations():
    """90,000 iterations of 0.261 s on 8 GPUs are 6.5 hours; one GPU does 8 times as many."""
    assert row(reproduction_plan(8), "ms_rcnn_R_50_FPN_1x")[1:4] == ["90,000", "7 h", "3.4 GB"]
    assert row(reproduction_plan(1), "ms_rcnn_R_50_FPN_1x")[1:4] == ["720,000", "52 h", "3.4 GB"]
    assert row(reproduction_plan(1), "ms_rcnn_R_18_FPN_18ep")[2:4] == ["-", "-"]


def test_commands():
    assert "SOLVER.AUTO_SCALE" not in reproduction_plan(8)
    assert "SOLVER.IMS_PER_BATCH 2 SOLVER.AUTO_SCALE True" in reproduction_plan(1)
    assert "36.0 (Huang et al., CVPR 2019)" in reproduction_plan(8)


@pytest.mark.parametrize("option", ["--json", "--published"])
def test_options_of_a_comparison_need_a_run(run_command, tmp_path, option):
    code, out, err = run_command("compare", option, tmp_path / "found.json")
    assert (code, out) == (1, "")
    assert err == "error: --json and --published need a RUN, the folder of a finished training\n"
    assert not list(tmp_path.iterdir())
