"""Images as users have them, and what they get."""

import functools
import http.server
import io
import shutil
import sys
import threading
from http.client import IncompleteRead
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

import msrcnn
from msrcnn.config import load_config
from msrcnn.errors import UserError
from msrcnn.prediction import image_prediction
from msrcnn.prediction.file_results import FileResults
from msrcnn.prediction.result_log import ResultLog
from msrcnn.visualization import read_rgb

FIELDS = ("scores", "pred_classes", "pred_maskiou", "mask_scores", "pred_masks")


@pytest.fixture(scope="module")
def predict(model_folder):
    return msrcnn.Predictor(model_folder / "model_final.pth")


@pytest.fixture(scope="module")
def path(shapes_root):
    return next((shapes_root / "val").iterdir())


def same(ours, theirs):
    ours, theirs = ours.instances, theirs.instances
    assert len(ours) == len(theirs) > 3
    for field in FIELDS:
        assert torch.equal(ours.get(field), theirs.get(field)), field
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)


def test_any_kind_of_image(predict, path):
    pixels = read_rgb(path)
    expected = predict(path)
    for image in (str(path), pixels, Image.fromarray(pixels), Image.open(path)):
        same(predict(image), expected)
    grey = pixels[:, :, 0]
    for image in (grey, grey[:, :, None]):
        same(predict(image), predict(np.dstack([grey] * 3)))


def test_orientation_of_photos(predict, path, tmp_path):
    picture = Image.open(path)
    exif = picture.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    rotated = tmp_path / "rotated.png"
    picture.save(rotated, exif=exif)
    found = predict(Image.open(rotated))
    assert found.pixels.shape[:2] == picture.size
    same(found, predict(rotated))


def test_url(predict, path, tmp_path, monkeypatch):
    """A picture that has changed is read again; nothing is kept on disk."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    photo = tmp_path / "photo.png"
    shutil.copy(path, photo)
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        same(predict(f"{url}/photo.png"), predict(path))
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photo)
        same(predict(f"{url}/photo.png"), predict(photo))
        with pytest.raises(UserError, match="cannot read image 'http.*/gone.png': HTTP Error 404"):
            predict(f"{url}/gone.png")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(UserError, match="cannot read image 'http.*: .*refused"):
        predict(f"{url}/photo.png")
    assert not (tmp_path / "cache").exists()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_list_is_one_batch(predict, path, monkeypatch):
    sizes = []
    inference = type(predict.model).inference

    def counted(self, inputs, *args, **kwargs):
        sizes.append(len(inputs))
        return inference(self, inputs, *args, **kwargs)

    monkeypatch.setattr(type(predict.model), "inference", counted)
    first, second = predict([path, path])
    assert sizes == [2]
    alone = predict(path)
    for found in (first, second):
        torch.testing.assert_close(found.instances.scores, alone.instances.scores)
        assert torch.equal(found.instances.pred_classes, alone.instances.pred_classes)
    assert predict([]) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "an array of type float32: give uint8 pixels"),
        (
            np.zeros((4, 4), np.uint16),
            "an array of type uint16: the model knows images of 8 bits only",
        ),
        (np.zeros((3, 4, 4), np.uint8), r"an array of shape \(3, 4, 4\): give \(H, W, 3\)"),
        (np.zeros((4, 0, 3), np.uint8), r"an array of shape \(4, 0, 3\)"),
        ({"a": 1}, "an image of type dict"),
        (Image.new("RGB", (0, 4)), "an image of 0 x 4 has no pixels"),
        ("http://a host/photo.jpg", "cannot read image 'http://a host/photo.jpg': URL can't"),
        ("nowhere.png", "cannot read image 'nowhere.png'"),
    ],
)
def test_what_is_no_image(predict, image, message):
    with pytest.raises(UserError, match=message):
        predict(image)


def test_damaged_images_that_are_opened_already(predict, path):
    closed = Image.open(path)
    closed.load()
    closed.close()
    truncated = Image.open(io.BytesIO(path.read_bytes()[:-500]))
    for image, message in ((closed, "closed"), (truncated, "truncated")):
        with pytest.raises(UserError, match=f"cannot use the image: .*{message}"):
            predict(image)


@pytest.mark.parametrize("error", [RuntimeError, SyntaxError, IncompleteRead])
def test_whatever_a_damaged_file_raises_is_one_error(predict, path, monkeypatch, error):
    """Of AVIF files, for example, Pillow raises a RuntimeError or a SyntaxError."""

    def damaged(*_):
        raise error(b"half")

    monkeypatch.setattr(Image, "open", damaged)
    for read in (predict, read_rgb):
        with pytest.raises(UserError, match=f"cannot read image '{path}'"):
            read(path)


def test_selection(predict, path):
    found = predict(path)
    instances = found.instances
    limit = float(instances.mask_scores.median())
    chosen = found.select(min_mask_score=limit)
    kept = instances.mask_scores >= limit
    assert 0 < len(chosen) < len(found)
    assert torch.equal(chosen.instances.pred_masks, instances.pred_masks[kept])
    both = found.select(min_score=float(instances.scores.median()), min_mask_score=limit)
    assert len(both) == (kept & (instances.scores >= instances.scores.median())).sum()
    assert repr(found).startswith(f"Prediction({len(found)} detections in an image of ")


def test_only_masks_that_are_drawn_are_pasted(predict, path, monkeypatch):
    found = predict(path)
    pasted = []
    paste = image_prediction.paste_masks_in_image

    def counted(masks, *args, **kwargs):
        pasted.append(len(masks))
        return paste(masks, *args, **kwargs)

    monkeypatch.setattr(image_prediction, "paste_masks_in_image", counted)
    best = float(found.select().to_coco(rank_by="mask")[0]["mask_score"])
    assert pasted == []  # encoded, not pasted
    assert found.select(min_score=2.0).instances.pred_masks.dtype == torch.bool
    nothing = np.asarray(found.draw(min_score=2.0))
    some = np.asarray(found.draw(min_mask_score=best))
    assert pasted[1] < len(found)
    assert (some != nothing).any()


def test_records_are_those_of_a_result_file(predict, path):
    found = predict(path)
    for rank_by, score in (("box", "box_score"), ("mask", "mask_score")):
        records = found.to_coco(image_id=7, rank_by=rank_by)
        assert len(records) == len(found)
        for row, record in enumerate(records):
            instance = found.instances[row]
            mask = mask_util.decode(record["segmentation"])
            assert (mask == instance.pred_masks[0].numpy()).all()
            assert record["score"] == record[score]
            assert record["mask_score"] == float(instance.mask_scores)
            assert record["category_id"] == int(instance.pred_classes)
            assert record["image_id"] == 7
    with pytest.raises(UserError, match="rank_by is 'area'"):
        found.to_coco(rank_by="area")


def test_supervision(predict, path):
    supervision = pytest.importorskip("supervision")
    found = predict(path)
    converted = found.to_supervision()
    assert isinstance(converted, supervision.Detections)
    assert len(converted) == len(found)
    instances = found.instances
    assert (converted.xyxy == instances.pred_boxes.tensor.numpy()).all()
    assert (converted.mask == instances.pred_masks.numpy()).all()
    assert (converted.confidence == instances.scores.numpy()).all()
    best = converted[converted.data["mask_score"] >= float(instances.mask_scores.max())]
    assert best.class_id[0] == instances.pred_classes[instances.mask_scores.argmax()]
    picture = supervision.MaskAnnotator().annotate(found.pixels.copy(), converted)
    assert (picture != found.pixels).any()


def test_without_supervision(predict, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        predict(path).to_supervision()


def test_a_model_without_mask_scores(model_folder, path):
    found = msrcnn.Predictor(model_folder / "plain" / "model_final.pth")(path)
    assert not found.instances.has("mask_scores")
    assert "mask_score" not in found.to_coco()[0]
    with pytest.raises(UserError, match="predicts no mask scores: select by min_score"):
        found.draw(min_mask_score=0.5)
    with pytest.raises(UserError, match="predicts no mask scores: rank_by 'box'"):
        found.to_coco(rank_by="mask")


def test_device(model_folder, path):
    assert (
        msrcnn.Predictor(model_folder / "model_final.pth", device="cpu").cfg.MODEL.DEVICE == "cpu"
    )
    with pytest.raises(UserError, match="device 'tpu"):
        msrcnn.Predictor(model_folder / "model_final.pth", device="tpu?")


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Predict'"):
        msrcnn.Predict  # noqa: B018


@pytest.fixture(scope="module")
def calibrated(model_folder, tmp_path_factory):
    """The same model with a calibration."""
    folder = tmp_path_factory.mktemp("calibrated")
    shutil.copy(model_folder / "model_final.pth", folder)
    cfg = load_config(model_folder / "config.yaml")
    cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION = (1.0, 2.5)
    (folder / "config.yaml").write_text(cfg.dump())
    return msrcnn.Predictor(folder)


def test_a_calibrated_model(predict, calibrated, path):
    plain, found = predict(path), calibrated(path)
    same(found, plain)
    probability = found.instances.mask_probability
    limit = float(probability.median())
    chosen = found.select(min_probability=limit)
    assert 0 < len(chosen) < len(found)
    assert torch.equal(chosen.instances.mask_probability, probability[probability >= limit])
    for rank_by in ("box", "mask"):
        records = found.to_coco(rank_by=rank_by)
        assert [record["mask_probability"] for record in records] == probability.tolist()
    assert "mask_probability" not in plain.to_coco()[0]
    with pytest.raises(UserError, match="not calibrated: fit its mask scores again"):
        plain.select(min_probability=0.5)
    shown, drawn = (
        np.asarray(each.draw(min_mask_score=0.0, enlarge=False)) for each in (plain, found)
    )
    assert (shown != drawn).any()  # other labels


@pytest.mark.parametrize("rank_by", ["box", "mask"])
def test_min_score_of_a_calibrated_model(predict, calibrated, path, tmp_path, rank_by):
    with ResultLog(tmp_path, {}, resume=False) as log:
        for model, fields in (
            (calibrated, {"box": "scores", "mask": "mask_probability"}),
            (predict, {"box": "scores", "mask": "mask_scores"}),
        ):
            values = model(path).instances.get(fields[rank_by])
            limit = float(values.median())
            settings = {"rank_by": rank_by, "min_score": limit, "masks": False, "records": False}
            results = FileResults(model, tmp_path, log, **settings, batch_size=1)
            ((_, outcome),) = results.images({path: Path(f"{id(model)}.png")})
            assert outcome.startswith(f"drew {(values >= limit).sum()} of {len(values)} ")
