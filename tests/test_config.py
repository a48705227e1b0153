from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

import msrcnn
from msrcnn.config import CONFIG_ROOT, find_config, get_config_file, load_config
from msrcnn.errors import UserError

NAMES = sorted(
    str(path.relative_to(CONFIG_ROOT))
    for path in CONFIG_ROOT.rglob("*.yaml")
    if not path.name.startswith("Base-")
    and path.parent != CONFIG_ROOT / "ablations"  # sweep files, not configs
)
COCO = "COCO-InstanceSegmentation"


def test_fpn_configs_cover_all_depths_and_schedules():
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
def test_every_framework_has_a_pair_of_configs(model):
    assert {f"{COCO}/{kind}_{model}.yaml" for kind in ("mask_rcnn", "ms_rcnn")} <= set(NAMES)


def test_config_names_match_their_content():
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


@pytest.mark.parametrize("dataset", ["ccp", "animals"])
def test_there_is_a_pair_of_every_set_of_photos(dataset):
    for kind in ("mask_rcnn", "ms_rcnn"):
        name = f"quick/{dataset}_{kind}_MNV2_FPN.yaml"
        assert name in NAMES
        cfg = msrcnn.get_config(name)
        assert cfg.MODEL.TORCHVISION.NAME == "mobilenet_v2"
        assert cfg.MODEL.WEIGHTS == "torchvision://mobilenet_v2"
        assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (
            (f"{dataset}_train",),
            (f"{dataset}_val",),
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds(name):
    cfg = msrcnn.get_config(name)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):  # allocates no memory, which is fast
        mask_head = build_model(cfg).roi_heads.mask_head
    assert (mask_head.maskiou_head is not None) == cfg.MODEL.MASKIOU_ON
    assert cfg.MODEL.MASKIOU_ON == ("mask_rcnn" not in name)


@pytest.mark.parametrize("name", [name for name in NAMES if "ms_rcnn" in name])
def test_pairs_differ_only_in_mask_scoring(name):
    plain = name.replace("ms_rcnn", "mask_rcnn")
    if plain not in NAMES:  # the smoke config has no counterpart
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


def test_mask_scoring_and_auto_scale_are_off_by_default():
    from detectron2.config import get_cfg

    cfg = get_cfg()
    msrcnn.add_msrcnn_config(cfg)
    assert isinstance(cfg.MODEL.ROI_MASKIOU_HEAD, CfgNode)
    assert cfg.MODEL.MASKIOU_ON is False
    assert cfg.SOLVER.AUTO_SCALE is False


def test_unknown_config_suggests_the_nearest():
    with pytest.raises(FileNotFoundError, match="ms_rcnn_R_50_FPN_1x.yaml"):
        get_config_file(f"{COCO}/ms_rcnn_R_50_FPN.yaml")


def test_unknown_config_without_a_near_one(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no config 'x' in msrcnn; '.*configs' has"):
        get_config_file("x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").touch()
    with pytest.raises(FileNotFoundError, match="load_config loads config files of your own"):
        get_config_file("own.yaml")


def test_config_file_is_found_in_the_package():
    assert Path(get_config_file(NAMES[0])).is_file()


SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"


def test_config_by_path_or_name(tmp_path):
    (tmp_path / "custom.yaml").write_text("SEED: 7\n")
    assert find_config(str(tmp_path / "custom.yaml")) == tmp_path / "custom.yaml"
    assert find_config(SMOKE).name == "smoke_ms_rcnn_R_18_FPN.yaml"


@pytest.mark.parametrize("file", ["nowhere.yaml", ""])
def test_missing_config(file):
    with pytest.raises(UserError, match=f"--config-file '{file}': no such file"):
        find_config(file)


@pytest.mark.parametrize(
    ("file", "nearest"),
    [
        ("ms_rcnn_R50_FPN_1x.yaml", "COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml"),
        ("smoke_ms_rcnn_R_18_FPN.yaml", "quick/smoke_ms_rcnn_R_18_FPN.yaml$"),
        ("quick/smoke_ms_rcnn_R18_FPN.yaml", "quick/smoke_ms_rcnn_R_18_FPN.yaml, "),
        (f"configs/{COCO}/ms_rcnn_R_50_FPN_1x", f"{COCO}/ms_rcnn_R_50_FPN_1x.yaml$"),
        ("own_data", "finetune/own_data_"),
    ],
)
def test_missing_config_suggests_the_nearest(file, nearest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"no such file; nearest: {nearest}"):
        find_config(file)


def test_a_sweep_is_no_config():
    with pytest.raises(UserError, match=r"no such file; (?!.*ablations/)"):
        find_config("ablations/head_inputs.yaml")


def test_folder_and_python_config(tmp_path):
    with pytest.raises(UserError, match="this is a folder, name a file"):
        find_config(str(tmp_path))
    with pytest.raises(UserError, match=r"LSJ.py' is a Python config \(LazyConfig\), .* YAML"):
        find_config("new_baselines/ms_rcnn_R_50_FPN_100ep_LSJ.py")


def test_home_in_a_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.yaml").write_text("VERSION: 2\nOUTPUT_DIR: ~/run\n")
    cfg = load_config(tmp_path / "own.yaml", ["MODEL.WEIGHTS", "~/w.pth"])
    assert cfg.OUTPUT_DIR == str(tmp_path / "run")
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.MASKIOU", "True"], "command line: .*MODEL.MASKIOU"),
        (["SEED"], "^command line: SEED has no value"),
        (["SOLVER.EPOCHS", 0, "SOLVER.MAX_ITER"], "^command line: SOLVER.MAX_ITER has no value"),
        (["SEED", "MODEL.WEIGHTS", "w.pth"], "^command line: a key has no value"),
        (["SEED=1"], "^command line: 'SEED=1' is one word: .*, as in SEED 1$"),
        (["SEED", "1", "OUTPUT_DIR=a=b", "x"], "'OUTPUT_DIR=a=b' .*, as in OUTPUT_DIR a=b$"),
        (["BASE_LR", "1.0"], "no key 'BASE_LR'; nearest: SOLVER.BASE_LR$"),
        (["solver.base_lr", "1.0"], "no key 'solver.base_lr'; nearest: SOLVER.BASE_LR$"),
        (["SOLVER.BASE_LRR", "1.0"], "no key 'SOLVER.BASE_LRR'; nearest: SOLVER.BASE_LR, "),
        (["WARMUP_ITER", "1"], "no key 'WARMUP_ITER'; nearest: SOLVER.WARMUP_ITERS$"),
        (["xyzzy", "1"], "no key 'xyzzy'; docs/config.md lists msrcnn's keys"),
        (["SOLVER.MAX_ITER.X", "1"], "no key 'SOLVER.MAX_ITER.X'; nearest: SOLVER.MAX_ITER, "),
        (["SOLVER.BASE_LR", "1"], "SOLVER.BASE_LR is 1; it must be a number with a point: 1.0$"),
        (["OUTPUT_DIR", "7"], "OUTPUT_DIR is 7; it must be text in quotes of its own: \"'7'\"$"),
        (["MODEL.MASKIOU_ON", "yes"], "MASKIOU_ON is yes; it must be True or False, as its"),
        (["SOLVER.STEPS", "5"], r"SOLVER.STEPS is 5; it must be a tuple, such as \"\(5,\)\"$"),
        (["DATASETS.TEST", "(a,b)"], r"must be a tuple, such as \"\('a', 'b'\)\"$"),
        (["MODEL.PIXEL_MEAN", "1.5"], r"must be a list, such as \"\[1.5\]\"$"),
        (["SEED", "often"], "command line: .*SEED"),
    ],
)
def test_invalid_override_has_a_clear_message(opts, message):
    with pytest.raises(UserError, match=message):
        load_config(SMOKE, opts)


def test_unknown_key_in_a_file_names_the_file(tmp_path):
    (tmp_path / "custom.yaml").write_text("MODEL:\n  MASKIOU_OFF: True\n")
    with pytest.raises(UserError, match=r"custom\.yaml: .*MASKIOU_OFF'; nearest: MODEL.MASKIOU_ON"):
        load_config(tmp_path / "custom.yaml")


@pytest.mark.parametrize("text", ["MODEL: [", "_BASE_: nowhere.yaml", "just words", "MODEL: 5"])
def test_file_that_is_not_a_config(tmp_path, text):
    (tmp_path / "custom.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config .*custom\.yaml: "):
        load_config(tmp_path / "custom.yaml")


@pytest.mark.parametrize("in_base", [False, True])
def test_config_cannot_run_code(tmp_path, in_base):
    """Configs are distributed with weights, and are read automatically if they are next to them."""
    marker = tmp_path / "ran"
    hostile = tmp_path / "hostile.yaml"
    hostile.write_text(f"MODEL:\n  WEIGHTS: !!python/object/apply:os.system ['touch {marker}']\n")
    config = hostile
    if in_base:
        config = tmp_path / "model.yaml"
        config.write_text("_BASE_: hostile.yaml\n")
    with pytest.raises(UserError, match="python/object"):
        load_config(config)
    assert not marker.exists()


def test_weights_beside_the_config_of_the_same_name(tmp_path, monkeypatch):
    """From any working folder: it may have a file of that name, which is of another model."""
    (tmp_path / "out").mkdir()
    config = tmp_path / "out" / "model.yaml"
    config.write_text("VERSION: 2\nMODEL: {WEIGHTS: model.pth}\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pth").touch()
    assert load_config(config).MODEL.WEIGHTS == "model.pth"  # as in Detectron2
    (tmp_path / "out" / "model.pth").touch()
    assert load_config(config).MODEL.WEIGHTS == str(tmp_path / "out" / "model.pth")
    assert load_config("out/model.yaml").MODEL.WEIGHTS == "out/model.pth"
    assert load_config(config, ["MODEL.WEIGHTS", "model.pth"]).MODEL.WEIGHTS == "model.pth"
    # The config of a training names what it started from, and not what is beside it.
    other = config.rename(config.with_name("config.yaml"))
    assert load_config(other).MODEL.WEIGHTS == "model.pth"
