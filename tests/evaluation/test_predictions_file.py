import copy
import json
from dataclasses import fields

import numpy as np
import pytest
from noisy_detections import noisy_detections
from pycocotools.coco import COCO

from msrcnn.errors import UserError
from msrcnn.evaluation import Detections, load_predictions, save_predictions


def assert_same(found, expected):
    for field in fields(Detections):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b), field.name
        else:
            assert a == b, field.name


@pytest.mark.parametrize("scores", [True, False])
def test_round_trip(ground_truth, tmp_path, scores):
    detections = noisy_detections(ground_truth, scores=scores)
    path = tmp_path / "new" / "p.npz"
    save_predictions(detections, path)
    assert_same(load_predictions(path), detections)


def test_compact(coco_root, tmp_path):
    ground_truth = COCO(str(coco_root / "annotations" / "instances_val2017.json"))
    detections = noisy_detections(ground_truth)
    save_predictions(detections, tmp_path / "p.npz")
    results = json.dumps(detections.results("segm", detections.score))
    assert (tmp_path / "p.npz").stat().st_size < len(results) / 2


def test_predictions_of_another_split_with_the_same_ids(ground_truth, tmp_path):
    """Ids and sizes alone cannot tell the images of two splits apart."""
    path = tmp_path / "p.npz"
    detections = noisy_detections(ground_truth)
    save_predictions(detections, path, ground_truth)
    other = copy.deepcopy(ground_truth)
    record = other.imgs[int(detections.image_id[-1])]
    record["file_name"] = f"elsewhere/{record['file_name']}".replace(".jpg", ".png")
    assert_same(load_predictions(path, other), detections)
    name = record["file_name"]
    record["file_name"] = "another.jpg"
    with pytest.raises(UserError, match=rf"of image {record['id']}, .*'another\.jpg' in the data"):
        load_predictions(path, other)
    record["file_name"] = name
    empty = set(other.imgs) - set(detections.image_id.tolist())
    for number in empty:  # nothing is said of them
        other.imgs[number]["file_name"] = "another.jpg"
    assert_same(load_predictions(path, other), detections)


def test_no_detections(tmp_path):
    save_predictions(Detections.nothing(), tmp_path / "p.npz")
    assert_same(load_predictions(tmp_path / "p.npz"), Detections.nothing())


def test_coco_results(ground_truth, tmp_path):
    """Tests files with boxes, with masks, and with both as Detectron2 writes them."""
    detections = noisy_detections(ground_truth)
    boxes, masks = (detections.results(task, detections.score) for task in ("bbox", "segm"))
    for results in (boxes, masks, [{**box, **mask} for box, mask in zip(boxes, masks)]):
        (tmp_path / "r.json").write_text(json.dumps(results))
        found = load_predictions(tmp_path / "r.json")
        assert found.images is None
        assert np.array_equal(found.image_id, detections.image_id)
        assert np.array_equal(found.category_id, detections.category_id)
        assert np.array_equal(found.score, detections.score.astype(float))
        assert np.array_equal(found.bbox, detections.bbox)
        if results is boxes:
            assert found.segmentation is None
        else:
            assert found.segmentation == detections.segmentation


def test_result_file_saved_as_npz(ground_truth, tmp_path):
    results = noisy_detections(ground_truth).results("segm", noisy_detections(ground_truth).score)
    (tmp_path / "r.json").write_text(json.dumps(results))
    detections = load_predictions(tmp_path / "r.json")
    save_predictions(detections, tmp_path / "p.npz")
    assert_same(load_predictions(tmp_path / "p.npz"), detections)


def test_result_file_without_results(tmp_path):
    (tmp_path / "r.json").write_text("[]")
    assert len(load_predictions(tmp_path / "r.json")) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "neither .npz nor JSON"),
        ("{}", "expected a JSON list"),
        ('[{"image_id": 1}]', "record 0 has no category_id"),
        ('[{"image_id": 1, "category_id": 1, "score": 1}]', "record 0 has no bbox or segm"),
        ("[1]", "record 0 is not a JSON object"),
        ('[{"image_id": 1, "category_id": 1, "score": "x", "bbox": [1, 2, 3, 4]}]', "score is 'x'"),
        ('[{"image_id": 1, "category_id": 1, "score": 1, "bbox": [1, 2, 3]}]', "bbox is"),
    ],
)
def test_invalid_files_are_rejected(tmp_path, content, message):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(UserError, match=r"p\.json.*" + message):
        load_predictions(tmp_path / "p.json")


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.npz.*No such file"):
        load_predictions(tmp_path / "nowhere.npz")


def test_damaged_files(ground_truth, tmp_path):
    path = tmp_path / "p.npz"
    save_predictions(noisy_detections(ground_truth), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"p\.npz"):
        load_predictions(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(UserError, match="damaged"):
        load_predictions(path)
    np.savez(path, anything=np.zeros(3))
    with pytest.raises(UserError, match="not saved by msrcnn"):
        load_predictions(path)


def test_file_of_a_later_version(tmp_path):
    np.savez(tmp_path / "p.npz", format=np.array(99))
    with pytest.raises(UserError, match="another version"):
        load_predictions(tmp_path / "p.npz")


def test_boxes_of_a_file_of_masks_are_told(tmp_path, caplog):
    mask = {"size": [4, 4], "counts": [0, 8, 8]}
    record = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": mask}
    path = tmp_path / "segm.json"
    path.write_text(json.dumps([record]))
    assert load_predictions(path).bbox.tolist() == [[0, 0, 2, 4]]
    assert f"{path} has no boxes: box AP is that of the bounding boxes of its masks" in caplog.text
    caplog.clear()
    path.write_text(json.dumps([{**record, "bbox": [0, 0, 2, 4]}]))
    load_predictions(path)
    assert not caplog.text
