"""``msrcnn export``: what is refused, and files that run without msrcnn and Detectron2."""

import contextlib
import json
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT
from detectron2.modeling.roi_heads import fast_rcnn
from PIL import Image
from scripts import run_script
from zoo_configs import framework_cfg

from msrcnn.data.pixels import read_pixels
from msrcnn.engine import prepare_model_config
from msrcnn.errors import UserError
from msrcnn.export import export_model
from msrcnn.export.exportable import check_exportable, check_layers
from msrcnn.export.pictures import check_pictures, revealing_factor, score_threshold
from msrcnn.export.single_image import SingleImage, traceable
from msrcnn.modeling import mask_scoring
from msrcnn.prediction import Predictor

EXAMPLE = ROOT / "examples" / "onnx_inference.py"
export = partial(run_script, "tools/export_model.py")
SUFFIX = {"torchscript": ".ts", "onnx": ".onnx"}


@pytest.fixture
def model_cfg(model_folder):
    return prepare_model_config(str(model_folder / "model_final.pth"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.ROI_HEADS.NMS_TYPE", "soft_linear"], "NMS_TYPE 'soft_linear'"),
        (["TEST.AUG.ENABLED", True], "TEST.AUG.ENABLED False"),
        (["MODEL.KEYPOINT_ON", True], "MODEL.KEYPOINT_ON False"),
        (["MODEL.META_ARCHITECTURE", "RetinaNet"], "'RetinaNet'"),
        (["MODEL.META_ARCHITECTURE", "PanopticFPN"], "--format onnx needs .*not 'PanopticFPN'"),
        (["MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"], "PrecomputedProposals"),
    ],
)
def test_configs_that_are_refused(tiny_cfg, overrides, message):
    check_exportable(tiny_cfg, "onnx")
    tiny_cfg.merge_from_list(overrides)
    with pytest.raises(UserError, match=message):
        check_exportable(tiny_cfg, "onnx")


def test_deformable_convolutions_have_no_onnx_operator(build):
    cfg = framework_cfg("fpn")
    cfg.MODEL.BACKBONE.NAME = "build_deform_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, False, False, True]
    model = build(cfg)
    check_layers(model, "torchscript")
    with pytest.raises(UserError, match="res5.0.conv"):
        check_layers(model, "onnx")


@pytest.mark.parametrize("model_format", SUFFIX)
def test_files_have_the_suffix_of_their_format(model_cfg, tmp_path, model_format):
    with pytest.raises(UserError, match=f"must end in .*{SUFFIX[model_format]}"):
        export_model(model_cfg, tmp_path / "model.pth", model_format=model_format)


def test_weights_with_another_suffix_are_refused_before_they_are_loaded(tiny_cfg, tmp_path):
    tiny_cfg.MODEL.WEIGHTS = str(tmp_path / "missing.pth")
    with pytest.raises(UserError, match=r"w\.onnx': the file name must end in \.pth or \.saf"):
        export_model(tiny_cfg, tmp_path / "w.onnx")


def test_the_config_of_the_model_is_not_overwritten(model_folder, run_command, tmp_path):
    shutil.copy(model_folder / "model_final.pth", tmp_path)
    shutil.copy(model_folder / "config.yaml", tmp_path)
    own = tmp_path / "own.yaml"
    own.write_text(f"# mine\n{(tmp_path / 'config.yaml').read_text()}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for flags, name in ((("--config-file", own), "own.pth"), ((), "config.safetensors")):
        start = ("--weights", tmp_path / "model_final.pth", *flags)
        code, _, err = run_command("export", *start, "--output", tmp_path / name)
        assert code == 1
        assert f"would overwrite '{(tmp_path / name).with_suffix('.yaml')}'" in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_missing_packages_are_named(model_cfg, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnx onnxruntime"):
        export_model(model_cfg, tmp_path / "model.onnx", model_format="onnx")


def test_nothing_is_patched_afterwards():
    modules = (mask_scoring, fast_rcnn)
    before = [vars(module).copy() for module in modules]
    with contextlib.suppress(ZeroDivisionError), traceable():
        assert [vars(module) for module in modules] != before
        1 / 0  # noqa: B018
    assert [vars(module) for module in modules] == before


def test_a_low_threshold_shows_what_a_model_finds(tiny_cfg, build):
    """A trained model may find nothing in the pictures; one with broken weights never does."""
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.9
    model, pictures = SingleImage(build(tiny_cfg)), check_pictures(tiny_cfg)
    predictor = model.model.roi_heads.box_predictor
    factor = revealing_factor(model, pictures)
    assert factor == 0.1  # about 1 of 7 for random weights
    with score_threshold(model, factor):
        assert predictor.test_score_thresh == pytest.approx(0.09)
    assert predictor.test_score_thresh == 0.9
    predictor.cls_score.bias.data.fill_(torch.nan)
    with pytest.raises(UserError, match="Are the weights finite"):
        revealing_factor(model, pictures)


def test_pictures_are_in_the_model_s_format(tiny_cfg):
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.MAX_SIZE_TEST = 100, 120
    shapes = [picture.shape for picture in check_pictures(tiny_cfg)]
    assert shapes == [(3, 120, 100), (3, 75, 90)]
    (picture, _), stock = check_pictures(tiny_cfg), tiny_cfg.INPUT.FORMAT
    tiny_cfg.INPUT.FORMAT = {"BGR": "RGB", "RGB": "BGR"}[stock]
    assert torch.equal(check_pictures(tiny_cfg)[0], picture.flip(0))
    tiny_cfg.INPUT.MIN_SIZE_TEST = 0
    assert check_pictures(tiny_cfg)[0].dtype == torch.uint8


@pytest.mark.slow
@pytest.mark.parametrize("model_format", SUFFIX)
def test_a_wrong_export_is_refused(model_cfg, tmp_path, monkeypatch, model_format):
    right = mask_scoring.mask_score

    def wrong_in_a_trace(*args, **kwargs):
        return right(*args, **kwargs) + (0.01 if torch.jit.is_tracing() else 0)

    monkeypatch.setattr(mask_scoring, "mask_score", wrong_in_a_trace)
    output = tmp_path / f"model{SUFFIX[model_format]}"
    output.write_text("an earlier file")
    with pytest.raises(UserError, match="nothing was exported: on 2 test pictures"):
        export_model(model_cfg, output, model_format=model_format)
    assert output.read_text() == "an earlier file"
    assert list(tmp_path.iterdir()) == [output]


BLOCK = re.compile(r"runs this block -->\n```python\n(.*?)```", re.DOTALL)
BEFORE = "import sys\nsys.modules['msrcnn'] = sys.modules['detectron2'] = None\n"
AFTER = """
image = torch.load(sys.argv[1])
with torch.no_grad():
    torch.save([model(image), model(image.float())], sys.argv[2])
print(json.dumps(settings))
"""


@pytest.mark.slow
def test_torchscript_needs_only_torch_and_torchvision(model_folder, model_cfg, tmp_path):
    """Runs the block of docs/export.md where neither msrcnn nor Detectron2 can be imported."""
    weights, model = model_folder / "model_final.pth", tmp_path / "model.ts"
    done = export("--format", "torchscript", "--weights", weights, "--output", model)
    assert done.returncode == 0, done.stderr
    assert f"Wrote {model}" in done.stdout
    image = check_pictures(model_cfg)[0]
    torch.save(image, tmp_path / "image.pt")
    block = BLOCK.search((ROOT / "docs" / "export.md").read_text())[1]
    code = BEFORE + block.replace("output/model.ts", str(model)) + AFTER
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, tmp_path / "image.pt", tmp_path / "found.pt"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    stored = json.loads(done.stdout)
    assert (stored["input_format"], stored["min_size_test"]) == ("BGR", 96)
    assert stored["value_range"] == stored["calibration"] == []
    predict = Predictor(weights, device="cpu")
    with torch.no_grad():
        (expected,) = predict.model.inference([{"image": image}], do_postprocess=False)
    for found in torch.load(tmp_path / "found.pt"):
        assert len(found["scores"]) == len(expected) > 3
        for name in ("scores", "mask_scores", "pred_maskiou", "pred_masks"):
            torch.testing.assert_close(found[name], expected.get(name))


@pytest.mark.slow
def test_onnx_example_finds_what_the_predictor_finds(model_folder, tmp_path, shapes_root):
    weights, model = model_folder / "model_final.pth", tmp_path / "model.onnx"
    done = export("--format", "onnx", "--weights", weights, "--output", model)
    assert done.returncode == 0, done.stderr
    photo = next((shapes_root / "val").iterdir())
    expected = Predictor(weights, device="cpu")(photo).instances

    example = runpy.run_path(str(EXAMPLE))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    settings = session.get_modelmeta().custom_metadata_map
    settings = {name: json.loads(text) for name, text in settings.items()}
    with Image.open(photo) as image:
        found = example["detect"](session, image, settings)
    boxes = expected.pred_boxes.tensor.numpy()
    np.testing.assert_allclose(found["pred_boxes"], boxes, atol=0.01)
    for name in ("scores", "mask_scores", "pred_maskiou", "pred_classes"):
        np.testing.assert_allclose(found[name], expected.get(name).numpy(), atol=1e-5)
    masks = np.stack(
        [
            example["paste"](mask, box, image.width, image.height)
            for mask, box in zip(found["pred_masks"], found["pred_boxes"])
        ]
    )
    assert len(masks) > 3
    assert (masks != expected.pred_masks.numpy()).mean() < 1e-3
    assert masks.any()

    # It needs no torch, prints both scores and draws the detections.
    drawn = tmp_path / "drawn.png"
    code = (
        "import runpy, sys; sys.modules['torch'] = None; del sys.argv[0]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, EXAMPLE, model, photo, drawn, "0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    line = r"\w+ \[ *\d+ +\d+ +\d+ +\d+\] box score 0\.\d{3}, mask score 0\.\d{3}"
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    assert all(re.fullmatch(line, text) for text in lines), lines
    with Image.open(photo) as image, Image.open(drawn) as picture:
        assert picture.size == image.size
        assert (np.asarray(picture) != np.asarray(image)).any(axis=2).mean() > 0.01


@pytest.fixture
def run_example(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the example with outputs of a model; what it prints."""

    def run(found, **settings):
        main = runpy.run_path(str(EXAMPLE))["main"]
        settings = {"class_names": ["nucleus"], "calibration": [], "value_range": [], **settings}
        meta = SimpleNamespace(custom_metadata_map={k: json.dumps(v) for k, v in settings.items()})
        session = SimpleNamespace(get_modelmeta=lambda: meta)
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
        monkeypatch.setitem(main.__globals__, "detect", lambda *_: found)
        Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
        main("model.onnx", str(tmp_path / "a.png"), str(tmp_path / "b.png"))
        return capsys.readouterr().out

    return run


def test_onnx_example_without_mask_scores(run_example):
    """A plain Mask R-CNN has none."""
    found = {
        "scores": np.float32([0.9, 0.1]),
        "pred_classes": np.array([0, 0]),
        "pred_boxes": np.float32([[1, 2, 9, 9], [1, 2, 9, 9]]),
        "pred_masks": np.ones((2, 1, 28, 28), np.float32),
    }
    assert run_example(found) == "nucleus [1 2 9 9] box score 0.900\n"
    found["mask_scores"] = np.float32([0.5, 0.1])
    probability = 1 / (1 + 0.5**-2 * np.exp(-1))
    assert run_example(found, calibration=[2.0, 1.0]).endswith(
        f"mask score 0.500, right with probability {probability:.3f}\n"
    )


@pytest.mark.parametrize("values", [np.uint16, np.int32, np.float32])
def test_onnx_example_reads_images_as_msrcnn_does(tmp_path, values):
    read = runpy.run_path(str(EXAMPLE))["read"]
    array = np.linspace(0, 5000, 60).reshape(6, 10).astype(values)
    Image.fromarray(array).save(tmp_path / "a.tif")
    settings = {"value_range": [100, 4095]}
    ours = read_pixels(str(tmp_path / "a.tif"), "RGB", (100, 4095))
    assert np.array_equal(read(str(tmp_path / "a.tif"), settings), ours)
    with pytest.raises(SystemExit, match="has more than 8 bits"):
        read(str(tmp_path / "a.tif"), {"value_range": []})


def test_a_trace_holds_for_other_numbers_of_boxes():
    """Detectron2's NMS runs class by class for 40000 boxes, with the classes as constants."""

    def nms(boxes, classes):
        return fast_rcnn.batched_nms(boxes, boxes[:, 0], classes, 0.5)

    def same_boxes(classes):
        return torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(len(classes), 1), classes

    with traceable(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(nms, same_boxes(torch.zeros(40_000).long()), check_trace=False)
    assert sorted(traced(*same_boxes(torch.tensor([0, 1, 2, 2])))) == [0, 1, 2]
