from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

import msrcnn
from msrcnn.config import CONFIG_ROOT, check_choice, get_config_file
from msrcnn.modeling import ROI_MASKIOU_HEAD_REGISTRY
from msrcnn.modeling.maskiou_head import INPUT_DESIGNS
from msrcnn.modeling.maskiou_loss import LOSSES
from msrcnn.modeling.maskiou_samples import TARGETS

NAMES = sorted(
    str(path.relative_to(CONFIG_ROOT))
    for path in CONFIG_ROOT.rglob("*.yaml")
    if not path.name.startswith("Base-")
    and path.parent != CONFIG_ROOT / "ablations"  # sweep files, of another kind
)
COCO = "COCO-InstanceSegmentation"


def test_there_are_pairs_of_all_sizes_and_schedules():
    for backbone in ("R_18", "R_50", "R_101"):
        for schedule in ("1x", "3x", "18ep"):
            for kind in ("mask_rcnn", "ms_rcnn"):
                assert f"{COCO}/{kind}_{backbone}_FPN_{schedule}.yaml" in NAMES


@pytest.mark.parametrize(
    "model",
    [
        "R_50_C4_1x",
        "R_50_C4_3x",
        "R_101_C4_3x",
        "R_18_FPN_dconv_1x",
        "R_50_FPN_dconv_1x",
        "R_50_FPN_dconv_3x",
        "R_101_FPN_dconv_1x",
        "R_101_FPN_dconv_18ep",
        "R_50_FPN_cascade_1x",
        "R_50_FPN_cascade_3x",
        "R_101_FPN_dconv_cascade_1x",
        "X_101_32x8d_FPN_1x",
        "X_101_32x8d_FPN_3x",
    ],
)
def test_there_is_a_pair_of_every_framework(model):
    assert {f"{COCO}/{kind}_{model}.yaml" for kind in ("mask_rcnn", "ms_rcnn")} <= set(NAMES)


@pytest.mark.parametrize(
    ("table", "key", "rows"),
    [
        ("head_input", "INPUT", INPUT_DESIGNS),
        ("training_target", "TARGET", TARGETS),
        ("sample_threshold", "MASKIOU_THRESH", [0.0, 0.3, 0.5, 0.7]),
        ("loss", "LOSS_TYPE", LOSSES),
        ("head_cost", "NAME", dict(ROI_MASKIOU_HEAD_REGISTRY)),
    ],
)
def test_there_is_a_config_of_every_row_of_a_table(table, key, rows):
    baseline = msrcnn.get_config(f"{COCO}/ms_rcnn_R_18_FPN_18ep.yaml")
    found = []
    for name in NAMES:
        if name.startswith(f"ablations/{table}/"):
            cfg = msrcnn.get_config(name)
            found.append(cfg.MODEL.ROI_MASKIOU_HEAD[key])
            cfg.MODEL.ROI_MASKIOU_HEAD[key] = baseline.MODEL.ROI_MASKIOU_HEAD[key]
            assert cfg == baseline  # it differs in nothing else
    assert sorted(found) == sorted(rows)


def test_names_say_what_a_config_is():
    for path in (CONFIG_ROOT / COCO).glob("*.yaml"):
        name = path.stem
        cfg = msrcnn.get_config(f"{COCO}/{path.name}")
        resnets = cfg.MODEL.RESNETS
        groups = "32x8d_" if (resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP) == (32, 8) else ""
        backbone = f"{'X' if groups else 'R'}_{resnets.DEPTH}_{groups}"
        assert f"rcnn_{backbone}" in name
        assert ("FPN" in name) == ("fpn" in cfg.MODEL.BACKBONE.NAME)
        assert ("C4" in name) == (cfg.MODEL.ROI_HEADS.NAME.endswith("Res5ROIHeads"))
        assert ("dconv" in name) == any(resnets.DEFORM_ON_PER_STAGE)
        assert ("dconv" in name) == (cfg.MODEL.BACKBONE.NAME == "build_deform_resnet_fpn_backbone")
        assert ("cascade" in name) == (cfg.MODEL.ROI_HEADS.NAME.endswith("CascadeROIHeads"))
        iterations = {"1x": 90000, "3x": 270000, "18ep": 131924}[name.split("_")[-1]]
        assert cfg.SOLVER.MAX_ITER == iterations


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds(name):
    cfg = msrcnn.get_config(name)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):  # without memory, and so without time
        mask_head = build_model(cfg).roi_heads.mask_head
    assert (mask_head.maskiou_head is not None) == cfg.MODEL.MASKIOU_ON
    assert cfg.MODEL.MASKIOU_ON == ("mask_rcnn" not in name)


@pytest.mark.parametrize("name", [name for name in NAMES if "ms_rcnn" in name])
def test_a_pair_differs_in_mask_scoring_alone(name):
    plain = name.replace("ms_rcnn", "mask_rcnn")
    if plain not in NAMES:  # the smoke run stands alone
        return
    cfg = msrcnn.get_config(name)
    assert cfg.MODEL.MASKIOU_ON
    cfg.MODEL.MASKIOU_ON = False
    assert cfg == msrcnn.get_config(plain)


def test_paper_schedule():
    solver = msrcnn.get_config(f"{COCO}/ms_rcnn_R_18_FPN_18ep.yaml").SOLVER
    epoch = 117266 / 16
    assert solver.MAX_ITER == pytest.approx(18 * epoch, abs=1)
    assert solver.STEPS == pytest.approx((14 * epoch, 17 * epoch), abs=1)


def test_defaults_leave_detectron2_as_it_is():
    from detectron2.config import get_cfg

    cfg = get_cfg()
    msrcnn.add_msrcnn_config(cfg)
    assert isinstance(cfg.MODEL.ROI_MASKIOU_HEAD, CfgNode)
    assert cfg.MODEL.MASKIOU_ON is False
    assert cfg.SOLVER.AUTO_SCALE is False


def test_unknown_config_names_the_nearest():
    with pytest.raises(FileNotFoundError, match="ms_rcnn_R_50_FPN_1x.yaml"):
        get_config_file(f"{COCO}/ms_rcnn_R_50_FPN.yaml")


def test_configs_are_found_from_the_package():
    assert Path(get_config_file(NAMES[0])).is_file()


def test_check_choice():
    check_choice("KEY", "a", ["a", "b"])
    with pytest.raises(ValueError, match="KEY is 'c'; allowed: 'a', 'b'"):
        check_choice("KEY", "c", {"a": 1, "b": 2})
