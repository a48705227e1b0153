from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.visualizer import VisImage
from PIL import Image

from msrcnn.config import config_beside
from msrcnn.data.shapes import CATEGORIES
from msrcnn.engine.hashing import weights_digest
from msrcnn.engine.load_model import load_model
from msrcnn.engine.model_classes import class_names
from msrcnn.errors import UserError
from msrcnn.export import export_model, export_weights
from msrcnn.modeling.fast_inference import fast_inference
from msrcnn.modeling.test_time_augmentation import MaskScoringRCNNWithTTA
from msrcnn.prediction import Predictor
from msrcnn.visualization import draw_detections, read_rgb

FIELDS = ("scores", "pred_classes", "pred_maskiou", "mask_scores", "pred_masks")


@pytest.fixture
def cfg(tiny_cfg, build, tmp_path):
    """The config of a model with random weights, saved as a training checkpoint."""
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 10
    model = build(tiny_cfg)
    optimizer = torch.optim.Adam(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer).save("model_final")
    tiny_cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    return tiny_cfg


def predictor(cfg):
    """Returns the predictor of a config, written beside the weights."""
    Path(cfg.MODEL.WEIGHTS).with_name("config.yaml").write_text(cfg.dump())
    return Predictor(cfg.MODEL.WEIGHTS)


@pytest.fixture
def path(shapes_root):
    return next((shapes_root / "val").iterdir())


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_predictions_match_evaluation(cfg, path, image_format):
    """The model gets the same pixels as from Detectron2's mapper."""
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST = image_format, 120
    found = predictor(cfg)(read_rgb(path)).instances
    height, width = read_rgb(path).shape[:2]
    record = {"file_name": str(path), "height": height, "width": width}
    model = load_model(cfg)
    with torch.no_grad(), fast_inference(model):
        (expected,) = model([DatasetMapper(cfg, False)(record)])
    assert len(found) > 3
    for field in FIELDS:
        assert torch.equal(found.get(field), expected["instances"].get(field)), field
    assert found.pred_masks.shape[1:] == (height, width)


def test_predictions_with_augmentation_match_evaluation(cfg, path):
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = True, (64, 96), 200
    found = predictor(cfg)(read_rgb(path)).instances
    height, width = read_rgb(path).shape[:2]
    record = {"file_name": str(path), "height": height, "width": width}
    model = load_model(cfg)
    with torch.no_grad(), fast_inference(model):
        augmented = MaskScoringRCNNWithTTA(cfg, model)([DatasetMapper(cfg, False)(record)])
    expected = augmented[0]["instances"]
    for field in FIELDS:
        assert torch.equal(found.get(field), expected.get(field)), field


def test_predictions_in_bfloat16_match_evaluation(cfg, path):
    """``dtype`` does the same as TEST.DTYPE."""
    predictor(cfg)  # writes the config
    predict = Predictor(cfg.MODEL.WEIGHTS, dtype="bfloat16")
    found = predict(read_rgb(path)).instances
    height, width = read_rgb(path).shape[:2]
    record = {"file_name": str(path), "height": height, "width": width}
    model = load_model(cfg)
    with torch.no_grad(), fast_inference(model, torch.bfloat16):
        (expected,) = model([DatasetMapper(cfg, False)(record)])
    for field in FIELDS:
        assert torch.equal(found.get(field), expected["instances"].get(field)), field
    in_float32 = Predictor(cfg.MODEL.WEIGHTS)
    assert not torch.equal(in_float32(read_rgb(path)).instances.scores, found.scores)
    assert in_float32.identity()["weights"] == predict.identity()["weights"]
    assert in_float32.identity()["config"] != predict.identity()["config"]


@pytest.mark.parametrize("device", [None, "cpu"])
def test_float16_needs_a_gpu(cfg, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg.MODEL.DEVICE = "cuda"
    predictor(cfg)
    with pytest.raises(UserError, match="'float16' needs a GPU, but the model runs on the CPU"):
        Predictor(cfg.MODEL.WEIGHTS, dtype="float16", device=device)


def test_a_model_trained_and_evaluated_in_float16_predicts_on_the_cpu(cfg):
    cfg.SOLVER.AMP.ENABLED, cfg.TEST.DTYPE, cfg.MODEL.DEVICE = True, "float16", "cuda"
    predictor(cfg)
    predict = Predictor(cfg.MODEL.WEIGHTS, device="cpu")
    assert predict(np.zeros((64, 64, 3), np.uint8)).instances.scores.dtype == torch.float32


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_exported_model_is_smaller_and_predicts_the_same(cfg, path, tmp_path, suffix):
    cfg.DATASETS.CLASS_NAMES = tuple("abcdef")
    output = tmp_path / "export" / f"model{suffix}"
    config = export_weights(cfg, output)
    assert config_beside(str(output)) == str(config)
    assert output.stat().st_size < (tmp_path / "model_final.pth").stat().st_size / 2.5
    text = config.read_text()
    assert str(tmp_path) not in text
    assert f"WEIGHTS: {output.name}" in text

    expected = predictor(cfg)(read_rgb(path)).instances
    predict = Predictor(output)
    found = predict(read_rgb(path)).instances
    for field in FIELDS:
        assert torch.equal(found.get(field), expected.get(field)), field
    assert predict.class_names == list("abcdef")


def test_class_names_of_a_dataset_that_is_not_loaded(tiny_cfg, shapes_root):
    annotations = shapes_root / "annotations" / "instances_val.json"
    register_coco_instances("named by its file", {}, str(annotations), str(shapes_root / "val"))
    tiny_cfg.DATASETS.TEST = ("named by its file",)
    assert class_names(tiny_cfg) == list(CATEGORIES)
    assert "thing_classes" not in MetadataCatalog.get("named by its file").as_dict()


def test_class_names_of_the_dataset(tiny_cfg):
    tiny_cfg.DATASETS.TRAIN, tiny_cfg.DATASETS.TEST = ("not_registered_here",), ("coco_2017_val",)
    assert class_names(tiny_cfg) == []  # those of another model
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    assert class_names(tiny_cfg)[:2] == ["person", "bicycle"]
    tiny_cfg.DATASETS.TEST = tiny_cfg.DATASETS.TRAIN = ("not_registered_here",)
    assert class_names(tiny_cfg) == []


def test_drawing(cfg, path):
    pixels = read_rgb(path).repeat(5, axis=0).repeat(5, axis=1)  # large enough to keep its size
    instances = predictor(cfg)(pixels).instances
    picture = draw_detections(pixels, instances, ["thing"])
    assert picture.size == (pixels.shape[1], pixels.shape[0])
    nothing = np.asarray(draw_detections(pixels, instances[:0], []))
    assert (np.asarray(picture) != nothing).mean() > 0.05
    # Only the image, which Detectron2's canvas shifts by part of a pixel before matplotlib 3.11.
    bare = VisImage(pixels).get_image().astype(int)
    assert np.abs(nothing - bare).max() <= 2


def test_drawings_of_small_images_are_enlarged(cfg, path):
    pixels = read_rgb(path)
    instances = predictor(cfg)(pixels).instances
    picture = draw_detections(pixels, instances, ["thing"])
    assert min(picture.size) == 480
    height, width = pixels.shape[:2]
    assert picture.width / picture.height == pytest.approx(width / height, rel=0.01)
    strip = np.zeros((4, 1000, 3), np.uint8)
    assert draw_detections(strip, instances[:0], []).width == 1920


def test_no_config_beside_the_weights(tmp_path):
    with pytest.raises(UserError, match=r"give --config-file: there is no '.*w\.yaml' or 'config"):
        config_beside(str(tmp_path / "w.pth"))


def test_incomplete_weights_are_rejected(cfg, build, tmp_path):
    """Training can start from them, but predictions would be random."""
    cfg.MODEL.MASKIOU_ON = False
    DetectionCheckpointer(build(cfg), str(tmp_path)).save("plain")
    cfg.MODEL.MASKIOU_ON, cfg.MODEL.WEIGHTS = True, str(tmp_path / "plain.pth")
    with pytest.raises(
        UserError, match=r"lacks 14 of the model's tensors.*maskiou_head.*`msrcnn fit-scores`"
    ):
        load_model(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    with pytest.raises(UserError, match="would be random. Use the config"):
        load_model(cfg)


@pytest.mark.parametrize("fitted", [False, True])
def test_a_checkpoint_from_before_the_fit_has_box_scores(cfg, build, tmp_path, caplog, fitted):
    """The config beside it is that of the fitted model."""
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    head.INPUT_SCALARS = fitted
    head.CALIBRATION = (2.0, 0.5) if fitted else ()
    cfg.MODEL.ROI_MASK_HEAD.RANK_BY = "mask_score"
    config = cfg.dump()
    cfg.MODEL.MASKIOU_ON, head.INPUT_SCALARS, head.CALIBRATION = False, False, ()
    DetectionCheckpointer(build(cfg), str(tmp_path)).save("model_best")
    (tmp_path / "config.yaml").write_text(config)
    predict = Predictor(tmp_path / "model_best.pth", device="cpu")
    assert "has no mask scores, only box scores" in caplog.text
    found = predict(np.zeros((40, 60, 3), np.uint8))
    assert not found.instances.has("mask_scores")
    exported = yaml.safe_load(export_weights(predict.cfg, tmp_path / "m.pth").read_text())
    assert exported["MODEL"]["MASKIOU_ON"] is False
    assert Predictor(tmp_path / "m.pth", device="cpu")(np.zeros((40, 60, 3), np.uint8)) is not None


def test_a_head_that_is_there_in_part_is_not_left_out(cfg, build, tmp_path):
    DetectionCheckpointer(build(cfg), str(tmp_path)).save("part")
    saved = torch.load(tmp_path / "part.pth", weights_only=True)
    del saved["model"]["roi_heads.mask_head.maskiou_head.maskiou.weight"]
    torch.save(saved, tmp_path / "part.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    with pytest.raises(UserError, match="lacks 1 of the model's tensors"):
        Predictor(tmp_path / "part.pth", device="cpu")


def test_export_omits_local_paths_and_training_options(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg.MODEL.DEVICE = "cuda"
    cfg.DATASETS.TRAIN = ("/data/mine.json:/data/images", "shapes_train")
    cfg.SOLVER.TRAIN_ONLY = ("maskiou_head",)
    exported = yaml.safe_load(export_weights(cfg, tmp_path / "m.pth").read_text())
    assert exported["DATASETS"]["TRAIN"] == ["shapes_train"]
    assert exported["SOLVER"]["TRAIN_ONLY"] == []
    assert exported["MODEL"]["DEVICE"] == "cuda"  # the export may run elsewhere
    with pytest.raises(UserError, match="is the checkpoint to export"):
        export_model(cfg, tmp_path / "model_final.pth")


def test_grey_model_gets_one_channel(tiny_cfg, path, build, tmp_path):
    tiny_cfg.INPUT.FORMAT, tiny_cfg.OUTPUT_DIR = "L", str(tmp_path)
    tiny_cfg.MODEL.PIXEL_MEAN, tiny_cfg.MODEL.PIXEL_STD = [103.5], [57.0]
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(tiny_cfg)
    DetectionCheckpointer(model, str(tmp_path)).save("model_final")
    tiny_cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    height, width = read_rgb(path).shape[:2]
    record = {"file_name": str(path), "height": height, "width": width}
    with torch.no_grad():
        (expected,) = load_model(tiny_cfg)([DatasetMapper(tiny_cfg, False)(record)])
    found = predictor(tiny_cfg)(read_rgb(path)).instances
    assert len(found) > 3
    torch.testing.assert_close(found.scores, expected["instances"].scores)


def test_an_image_too_narrow_for_the_model_is_one_error(cfg):
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 40, 60
    with pytest.raises(UserError, match="an image of 1500 x 2 cannot be resized"):
        predictor(cfg)(np.zeros((2, 1500, 3), dtype=np.uint8))


def test_a_model_without_weights_is_refused(cfg):
    cfg.MODEL.WEIGHTS = ""
    with pytest.raises(UserError, match="no weights to load: set MODEL.WEIGHTS"):
        load_model(cfg)


def test_images_unlike_those_of_the_training_are_told(cfg, tmp_path, monkeypatch):
    """Each file; arrays, and images of 8 bits, once, as the frames of a video are alike."""
    told = []
    monkeypatch.setattr(
        "msrcnn.prediction.predictor.logger.warning", lambda text, *parts: told.append(text % parts)
    )
    cfg.INPUT.VALUE_RANGE = (0, 4095)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    predict = Predictor(cfg.MODEL.WEIGHTS, config_file=tmp_path / "config.yaml")
    grey = np.add.outer(np.arange(60) * 30, np.arange(60) * 30).astype(np.uint16)
    predict(grey)
    assert told == []
    predict([(grey >> 4).astype(np.uint8)] * 2)
    predict([grey * 16] * 2)
    assert len(told) == 2
    assert "has 8 bits and is not scaled" in told[0]
    assert "of its pixels are beyond the model's INPUT.VALUE_RANGE (0, 4095)" in told[1]
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.fromarray(grey * 0).save(path)
        predict(path)
    assert len(told) == 4
    for path, each in zip(paths, told[2:]):
        assert f"image '{path}' has the value 0 only" in each
    with pytest.raises(UserError, match="uint16 or int32"):
        predict(grey / 4095)


def test_identity_is_that_of_the_checkpoint(cfg):
    """Folded weights would differ in the last bit between processors."""
    found = predictor(cfg).identity()["weights"]
    assert found == weights_digest(load_model(cfg).state_dict())[:16]
