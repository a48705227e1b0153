import json

import numpy as np
import pytest
from detectron2.data.datasets import register_coco_instances
from stand_ins import stand_in

from msrcnn.errors import UserError
from msrcnn.evaluation import (
    Detections,
    EvaluationSettings,
    evaluate_detections,
    load_ground_truth,
)
from msrcnn.evaluation.coco_metrics import HotcocoEngine
from msrcnn.evaluation.ground_truth import has_annotations, is_federated, without_mask


@pytest.fixture
def content(shapes_root):
    return json.loads((shapes_root / "annotations" / "instances_val.json").read_text())


@pytest.fixture
def load(tmp_path):
    """Writes a dataset, registers it and loads it."""

    def load(content, file="a.json"):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        path = folder / file
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        name = f"ground_truth {folder}"
        register_coco_instances(name, {}, str(path), str(tmp_path))
        return load_ground_truth(name)

    return load


def test_areas_are_filled_in(content, load):
    areas = [annotation.pop("area") for annotation in content["annotations"]]
    found = [a["area"] for a in load(content).dataset["annotations"]]
    assert found == pytest.approx(areas, abs=3, rel=0.02)


def test_an_id_of_0_is_replaced(content, load):
    """pycocotools takes it for "no match"."""
    for index, annotation in enumerate(content["annotations"]):
        annotation["id"] = index
    found = [a["id"] for a in load(content).dataset["annotations"]]
    assert found == list(range(1, len(found) + 1))


def test_keys_that_hotcoco_would_not_accept_are_left_out(content, load):
    content["annotations"][0]["attributes"] = {"score": float("nan"), "number": 10**400}
    content["categories"][0]["supercategory"] = 3
    content["images"][0]["license"] = "none"
    engine, nothing = HotcocoEngine(load(content)), Detections.nothing()
    assert engine.average_precision(nothing, "bbox", nothing.score, 100).metrics["AP"] == 0


def test_valid_ids_are_kept(content, load):
    expected = [a["id"] for a in content["annotations"]]
    assert [a["id"] for a in load(content).dataset["annotations"]] == expected


def test_annotations_and_masks_may_be_missing(content, load):
    assert has_annotations(load(content))
    assert without_mask(load(content)) == []
    del content["annotations"][3]["segmentation"]
    assert without_mask(load(content)) == [content["annotations"][3]["id"]]
    del content["annotations"]
    assert not has_annotations(load(content))


def test_area_without_a_mask_is_that_of_the_box(content, load):
    for annotation in content["annotations"]:
        del annotation["area"], annotation["segmentation"]
    for annotation in load(content).dataset["annotations"]:
        assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]


@pytest.mark.parametrize("segmentation", [None, []])
def test_the_mask_of_a_crowd_without_one_is_its_box(content, load, segmentation, caplog):
    crowd = {**content["annotations"][0], "iscrowd": 1, "bbox": [4, 3, 10, 5]}
    del crowd["area"], crowd["segmentation"]
    content["annotations"][0] = crowd | ({} if segmentation is None else {"segmentation": []})
    ground_truth = load(content)
    assert f"annotation {crowd['id']}: it is a crowd without 'segmentation'" in caplog.text
    assert not without_mask(ground_truth)
    assert ground_truth.anns[crowd["id"]]["area"] == 50
    rows, columns = np.nonzero(ground_truth.annToMask(ground_truth.anns[crowd["id"]]))
    assert (set(rows), set(columns)) == (set(range(3, 8)), set(range(4, 14)))
    settings = EvaluationSettings(bootstrap=0)
    evaluation = evaluate_detections(ground_truth, stand_in(ground_truth), settings)
    assert evaluation.summary["segm_box_score"]["AP"] > 0
    assert evaluation.summary["maskiou"] is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: "{", r"a\.json is not JSON"),
        (lambda c: [1], r"a\.json: expected a JSON object"),
        (lambda c: c["annotations"][3].update(category_id=99), "annotation 4: category_id 99"),
        (lambda c: c["annotations"][3].update(id=1), "annotation id 1 is used more than once"),
        (lambda c: c["annotations"][3].update(bbox=[0, 0, 1]), "annotation 4: bbox"),
        (lambda c: c["annotations"][3].update(area=-5), "annotation 4: area -5 does not fit its"),
    ],
)
def test_the_rules_of_training_data_apply(content, load, change, message):
    with pytest.raises(UserError, match=message):
        load(change(content) or content)


def test_ids_of_minival_need_not_be_unique(content, load):
    """As in the files of COCO 2014; Detectron2 accepts them by their name, too."""
    content["annotations"][3]["id"] = content["annotations"][0]["id"]
    found = load(content, "instances_minival2014.json")
    assert len(found.anns) == len(content["annotations"])
    with pytest.raises(UserError, match="expected a JSON object"):
        load("[1]", "instances_minival2014.json")


def test_dataset_that_is_not_registered():
    with pytest.raises(UserError, match="'not_registered' is registered; nearest: [a-z]"):
        load_ground_truth("not_registered")


def lvis(content):
    """The content in LVIS's format."""
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"
        image |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    for annotation in content["annotations"]:
        del annotation["iscrowd"]
    for category in content["categories"]:
        category["frequency"] = "r"
    return content


def test_lvis_format(content, load):
    ground_truth = load(lvis(content))
    assert is_federated(ground_truth)
    assert {a["iscrowd"] for a in ground_truth.dataset["annotations"]} == {0}
    HotcocoEngine(ground_truth)
    content["images"][0]["coco_url"] = "none"
    with pytest.raises(UserError, match="image 1: coco_url is 'none'; it must be an address"):
        load(content)
