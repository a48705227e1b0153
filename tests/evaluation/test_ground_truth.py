import json

import pytest
from detectron2.data.datasets import register_coco_instances

from msrcnn.errors import UserError
from msrcnn.evaluation import load_ground_truth
from msrcnn.evaluation.ground_truth import has_annotations, has_masks


@pytest.fixture
def content(shapes_root):
    return json.loads((shapes_root / "annotations" / "instances_val.json").read_text())


@pytest.fixture
def load(tmp_path):
    """Writes a dataset, registers it and loads it."""

    def load(content):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        path = folder / "a.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        name = f"ground_truth {folder}"
        register_coco_instances(name, {}, str(path), str(tmp_path))
        return load_ground_truth(name)

    return load


def test_areas_are_filled_in(content, load):
    areas = [annotation.pop("area") for annotation in content["annotations"]]
    found = [a["area"] for a in load(content).dataset["annotations"]]
    assert found == pytest.approx(areas, abs=3, rel=0.02)


@pytest.mark.parametrize("ids", [lambda i: None, lambda i: i, lambda i: 7])
def test_missing_or_invalid_ids_are_renumbered(content, load, ids):
    for index, annotation in enumerate(content["annotations"]):
        annotation["id"] = ids(index)
        if annotation["id"] is None:
            del annotation["id"]
    ground_truth = load(content)
    found = [a["id"] for a in ground_truth.dataset["annotations"]]
    assert len(ground_truth.anns) == len(set(found)) == len(content["annotations"])
    assert 0 not in found


def test_valid_ids_are_kept(content, load):
    expected = [a["id"] for a in content["annotations"]]
    assert [a["id"] for a in load(content).dataset["annotations"]] == expected


def test_annotations_and_masks_may_be_missing(content, load):
    assert has_annotations(load(content))
    assert has_masks(load(content))
    del content["annotations"][0]["segmentation"]
    assert not has_masks(load(content))
    del content["annotations"]
    assert not has_annotations(load(content))


def test_area_without_a_mask_is_that_of_the_box(content, load):
    for annotation in content["annotations"]:
        del annotation["area"], annotation["segmentation"]
    for annotation in load(content).dataset["annotations"]:
        assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]


def test_unreadable_file(load):
    with pytest.raises(UserError, match=r"cannot read .*a\.json"):
        load("{")
    with pytest.raises(UserError, match=r"a\.json' is not in COCO format"):
        load("[1]")


def test_unknown_category(content, load):
    content["annotations"][3]["category_id"] = 99
    with pytest.raises(UserError, match="has category_id 99, which is not in 'categories'"):
        load(content)


def test_dataset_without_an_annotation_file_is_rejected():
    with pytest.raises(UserError, match="no COCO annotation file"):
        load_ground_truth("not_registered")
