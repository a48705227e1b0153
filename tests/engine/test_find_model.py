"""The names that users give trained models."""

import json
import shutil

import pytest
import torch
from detectron2 import model_zoo
from filelock import FileLock
from PIL import Image

import msrcnn
from msrcnn.engine.find_model import find_model
from msrcnn.engine.prepare import prepare_model_config
from msrcnn.errors import UserError

ZOO = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"


@pytest.mark.parametrize("name", [ZOO, f"{ZOO}.yaml"])
def test_model_of_the_zoo(name):
    """With Detectron2's own config and class names."""
    cfg = prepare_model_config(name)
    assert cfg.MODEL.WEIGHTS == name
    assert not cfg.MODEL.MASKIOU_ON
    assert (cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.MASK_ON) == (50, True)
    assert cfg.DATASETS.TEST == ("coco_2017_val",)
    assert msrcnn.engine.model_classes.class_names(cfg)[0] == "person"


def test_prediction_with_a_model_of_the_zoo(model_folder, shapes_root, tmp_path, monkeypatch):
    """The download is a small model here, and its config the part that Detectron2 knows."""
    cfg = msrcnn.get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    for name in ("MASKIOU_ON", "ROI_MASKIOU_HEAD", "TORCHVISION"):
        del cfg.MODEL[name]
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    (tmp_path / "zoo.yaml").write_text(cfg.dump())
    weights = str(model_folder / "plain" / "model_final.pth")
    monkeypatch.setattr(model_zoo, "get_checkpoint_url", lambda name: weights)
    monkeypatch.setattr(model_zoo, "get_config_file", lambda name: str(tmp_path / "zoo.yaml"))
    photo = next((shapes_root / "val").iterdir())
    found = msrcnn.Predictor(ZOO)(photo).instances
    assert len(found) > 3
    assert not found.has("mask_scores")
    expected = msrcnn.Predictor(model_folder / "plain" / "model_final.pth")(photo).instances
    count = min(len(found), len(expected))
    assert torch.equal(found.scores[:count], expected.scores[:count])


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("COCO-Detection/rpn_R_50_FPN_1x", "META_ARCHITECTURE .*, not 'ProposalNetwork'"),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x", ".*, not 'PanopticFPN'"),
        ("COCO-Detection/fast_rcnn_R_50_FPN_1x", "proposes boxes itself.*PrecomputedProposals"),
    ],
)
def test_models_that_do_not_detect_like_an_rcnn(name, problem):
    with pytest.raises(UserError, match=f"prediction with '{name}' needs .*{problem}"):
        msrcnn.Predictor(name)


def test_our_config_by_name(model_folder, shapes_root):
    """With weights of any origin, here a file."""
    weights = model_folder / "model_final.pth"
    predict = msrcnn.Predictor(weights, config_file="quick/smoke_ms_rcnn_R_18_FPN.yaml")
    assert predict.cfg.MODEL.MASKIOU_ON
    with Image.open(next((shapes_root / "val").iterdir())) as photo:
        assert predict(photo).instances.has("mask_scores")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["model.pth", "model.yaml"], "model.pth"),
        (["model.safetensors", "model.yaml", "notes.txt"], "model.safetensors"),
        (["model_final.pth", "config.yaml"], "model_final.pth"),
        (
            ["model_final.pth", "config.yaml", "model_fitted.pth", "model_fitted.yaml"],
            "model_fitted.pth",
        ),
    ],
)
def test_folder(tmp_path, files, expected):
    for name in files:
        (tmp_path / name).touch()
    weights, config = find_model(str(tmp_path))
    assert weights == str(tmp_path / expected)
    stem = expected.split(".")[0]
    own = f"{stem}.yaml" if f"{stem}.yaml" in files else "config.yaml"
    assert config == str(tmp_path / own)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["model_0001.pth", "config.yaml"], "has no model with its config; name the file"),
        (["a.pth", "a.yaml", "b.pth", "b.yaml"], "has several models: a.pth, b.pth; name the file"),
        (["model_final.pth"], "give --config-file: there is no"),
    ],
)
def test_folder_without_a_single_model(tmp_path, files, message):
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        find_model(str(tmp_path))


@pytest.mark.parametrize("name", ["COCO-InstanceSegmentation/mask_rcnn_R_50", "output/gone.pth"])
def test_what_is_no_model(name):
    with pytest.raises(UserError, match=f"'{name}' is neither a file nor a folder"):
        find_model(name)


@pytest.mark.parametrize("suffix", ["", ".py"])
def test_a_model_of_the_zoo_whose_config_is_python_code(suffix):
    name = f"new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ{suffix}"
    with pytest.raises(UserError, match=f"'{name}' is Python code.*model_zoo.get, or give"):
        find_model(name)


def test_no_weights_and_no_config():
    with pytest.raises(UserError, match="no weights to find a config beside: give --config-file"):
        find_model("")


def test_a_url_has_no_config():
    with pytest.raises(UserError, match="give --config-file"):
        find_model("https://a.b/c.pth")


@pytest.mark.parametrize("name", ["model.ts", "model.onnx"])
def test_exports_that_run_without_msrcnn(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"{name}' is an export that runs without msrcnn"):
        find_model(str(tmp_path / name))


@pytest.mark.parametrize("device", ["cuda:77", "mps", "gpu"])
def test_a_device_that_the_machine_does_not_have(model_folder, device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here: "):
        msrcnn.Predictor(model_folder / "model_final.pth", device=device)


def test_a_folder_predicts_like_its_file(model_folder, shapes_root, tmp_path):
    for name in ("model_final.pth", "config.yaml"):
        shutil.copy(model_folder / name, tmp_path)
    photo = next((shapes_root / "val").iterdir())
    one, other = (
        msrcnn.Predictor(each)(photo).instances.mask_scores
        for each in (tmp_path, model_folder / "model_final.pth")
    )
    assert torch.equal(one, other)


def test_evaluation_and_fit_find_the_config(model_folder, shapes_root, tmp_path, run_command):
    data = f"{shapes_root}/annotations/instances_val.json:{shapes_root}/val"
    arguments = ("--val-data", data, "--output-dir", tmp_path / "evaluated")
    code, _, err = run_command("eval", "--weights", model_folder, *arguments)
    assert code == 0, err
    evaluation = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    assert evaluation["provenance"]["weights"]["path"] == str(model_folder / "model_final.pth")

    arguments = ("--train-data", data, "--output-dir", tmp_path / "fitted")
    _, _, err = run_command("fit-scores", "--weights", model_folder / "plain", *arguments)
    assert "is MODEL.WEIGHTS trained on this data?" in err  # random weights fit nothing

    with FileLock(tmp_path / "fitted" / ".lock"):
        code, _, err = run_command("fit-scores", "--weights", model_folder / "plain", *arguments)
    assert code == 1
    assert f"another process writes its results to '{tmp_path / 'fitted'}': wait for it" in err


def test_a_folder_with_a_config_that_is_given(tmp_path):
    (tmp_path / "model.yaml").touch()
    (tmp_path / "model.pth").touch()
    assert find_model(str(tmp_path), "c.yaml") == (str(tmp_path / "model.pth"), "c.yaml")
