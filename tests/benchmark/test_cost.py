import json
from pathlib import Path

import pytest
from conftest import ROOT
from detectron2 import model_zoo
from scripts import run_script

from msrcnn import get_config
from msrcnn.benchmark.benchmark_config import DEFAULT_CONFIG
from msrcnn.benchmark.cost import head_costs, table
from msrcnn.commands.benchmark import BENCHMARKS
from msrcnn.config import get_msrcnn_cfg
from msrcnn.engine import use_scoring_parts


def layer(inputs, outputs, side=1, kernel=1):
    """Returns parameters and multiply-adds of a layer whose kernel is applied side x side times."""
    weights = inputs * outputs * kernel**2
    return weights + outputs, weights * side**2


def cost(*layers):
    parameters, multiply_adds = (sum(column) for column in zip(*layers))
    return {"parameters": parameters, "multiply_adds": multiply_adds}


def fpn_mask_head():
    return cost(
        *[layer(256, 256, side=14, kernel=3)] * 4,
        layer(256, 256, side=14, kernel=2),  # the deconvolution writes 2 x 2 outputs per input
        layer(256, 80, side=28),
    )


def zoo_config(name):
    cfg = get_msrcnn_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(name))
    cfg.MODEL.MASKIOU_ON = True
    use_scoring_parts(cfg)
    return cfg


def test_fpn_by_hand():
    assert head_costs(get_config(DEFAULT_CONFIG)) == {
        "box_head": cost(
            layer(256 * 7 * 7, 1024), layer(1024, 1024), layer(1024, 81), layer(1024, 4 * 80)
        ),
        "mask_head": fpn_mask_head(),
        "maskiou_head": cost(
            layer(257, 256, side=14, kernel=3),
            *[layer(256, 256, side=14, kernel=3)] * 2,
            layer(256, 256, side=7, kernel=3),
            layer(256 * 7 * 7, 1024),
            layer(1024, 1024),
            layer(1024, 80),
        ),
    }


def test_c4_by_hand():
    costs = head_costs(zoo_config("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml"))
    assert list(costs) == ["res5", "box_head", "mask_head", "maskiou_head"]
    assert costs["box_head"] == cost(layer(2048, 81), layer(2048, 4 * 80))
    # The RoI feature is 2048 x 7 x 7, and masks are 14 x 14.
    assert costs["mask_head"] == cost(layer(2048, 256, side=7, kernel=2), layer(256, 80, side=14))
    assert costs["maskiou_head"] == cost(
        layer(2049, 256, side=7, kernel=3),
        *[layer(256, 256, side=7, kernel=3)] * 2,
        layer(256, 256, side=4, kernel=3),
        layer(256 * 4 * 4, 1024),
        layer(1024, 1024),
        layer(1024, 80),
    )


def test_cascade_counts_every_stage():
    costs = head_costs(zoo_config("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml"))
    stage = [layer(256 * 7 * 7, 1024), layer(1024, 1024), layer(1024, 81), layer(1024, 4)]
    assert costs["box_head"] == cost(*stage * 3)
    assert costs["mask_head"] == fpn_mask_head()


def test_normalization_is_not_counted(tiny_cfg):
    plain = head_costs(tiny_cfg)["maskiou_head"]["multiply_adds"]
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.NORM = "GN"
    assert head_costs(tiny_cfg)["maskiou_head"]["multiply_adds"] == plain


def test_only_existing_heads_are_counted(tiny_cfg):
    with_head = head_costs(tiny_cfg)
    tiny_cfg.MODEL.MASKIOU_ON = False
    without = head_costs(tiny_cfg)
    assert list(without) == ["box_head", "mask_head"]
    assert without["mask_head"] == with_head["mask_head"]
    tiny_cfg.MODEL.MASK_ON = False
    assert list(head_costs(tiny_cfg)) == ["box_head"]


def test_config_is_not_modified(tiny_cfg):
    tiny_cfg.freeze()
    before = tiny_cfg.clone()
    head_costs(tiny_cfg)
    assert tiny_cfg == before
    assert tiny_cfg.is_frozen()


def benchmark(*arguments):
    return run_script("tools/benchmark.py", *arguments)


def test_command_line_writes_what_it_prints(tmp_path):
    output = tmp_path / "new" / "cost.json"
    arguments = ("cost", "--json", str(output), "MODEL.ROI_HEADS.NUM_CLASSES", "1")
    done = benchmark(*arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert table(result) in done.stdout
    assert result["command"] == " ".join(("tools/benchmark.py", *arguments))
    assert result["config"] == DEFAULT_CONFIG
    assert result["hardware"]
    assert result["versions"].keys() >= {"msrcnn", "commit", "torch", "detectron2"}
    assert result["heads"]["mask_head"]["multiply_adds"] < fpn_mask_head()["multiply_adds"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "nowhere.yaml"], "'nowhere.yaml': no such file"),
        (["MODEL.MASK_ON", "False"], "MODEL.MASKIOU_ON needs masks to score"),
    ],
)
def test_error_is_one_line(arguments, message):
    done = benchmark("cost", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert message in done.stderr


def test_recorded_result_has_the_papers_figures():
    result = json.loads((ROOT / "docs" / "results" / "cost.json").read_text())
    heads = result["heads"]
    assert round(heads["mask_head"]["multiply_adds"] / 1e9, 2) == 0.53
    assert round(heads["maskiou_head"]["multiply_adds"] / 1e9, 2) == 0.39
    assert heads == head_costs(get_config(result["config"]))


@pytest.mark.parametrize("module", BENCHMARKS.values(), ids=BENCHMARKS)
def test_every_benchmark_has_a_test(module):
    """Which runs it at a tiny size, so that none rots."""
    name = module.__name__.rpartition(".")[2]
    assert Path(__file__).with_name(f"test_{name}.py").is_file()
