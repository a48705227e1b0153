import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image
from pycocotools.coco import COCO

from msrcnn.data.coco_rules import check_coco, mask_format
from msrcnn.data.shapes import CATEGORIES, make_image, make_split


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    root = tmp_path_factory.mktemp("many")
    path = make_split(root, "train", 150, seed=0)
    return root, json.loads(path.read_text())


def test_is_a_valid_coco_dataset(split):
    root, content = split
    assert check_coco(content, root / "train") == []
    assert {c["name"] for c in content["categories"]} == set(CATEGORIES)
    image = content["images"][0]
    with Image.open(root / "train" / image["file_name"]) as pixels:
        assert pixels.size == (image["width"], image["height"])


def test_covers_every_kind_of_coco_annotation(split):
    _, content = split
    annotations = content["annotations"]
    ordinary = [a["segmentation"] for a in annotations if not a["iscrowd"]]
    crowds = [a for a in annotations if a["iscrowd"]]
    assert {type(s) for s in ordinary} == {list, dict}
    assert any(isinstance(s, list) and len(s) > 1 for s in ordinary)  # multi-part polygons
    assert mask_format(content) == "bitmask"
    assert crowds
    assert all(isinstance(a["segmentation"]["counts"], list) for a in crowds)
    annotated = {a["image_id"] for a in annotations}
    assert any(image["id"] not in annotated for image in content["images"])
    assert {a["category_id"] for a in annotations} == set(range(1, len(CATEGORIES) + 1))


def test_areas_boxes_and_masks_agree(split):
    root, _ = split
    coco = COCO(str(root / "annotations" / "instances_train.json"))
    for annotation in coco.loadAnns(coco.getAnnIds()):
        rle = coco.annToRLE(annotation)
        # Polygon coordinates are rounded to two digits.
        assert mask_util.area(rle) == pytest.approx(annotation["area"], abs=3, rel=0.02)
        assert np.allclose(mask_util.toBbox(rle), annotation["bbox"], atol=1.5)


def test_instances_of_an_image_do_not_overlap(split):
    root, _ = split
    coco = COCO(str(root / "annotations" / "instances_train.json"))
    for image_id in coco.imgs:
        masks = [coco.annToMask(a) for a in coco.imgToAnns[image_id]]
        if masks:
            cover = np.sum(masks, axis=0)
            assert (cover > 1).mean() < 0.01  # except for pixels on a shared edge


def test_is_seeded_and_a_larger_split_starts_with_a_smaller_one(tmp_path):
    small = json.loads(make_split(tmp_path / "a", "val", 3, seed=5).read_text())
    large = json.loads(make_split(tmp_path / "b", "val", 5, seed=5).read_text())
    kept = [a for a in large["annotations"] if a["image_id"] <= 3]
    assert kept == small["annotations"]
    name = small["images"][2]["file_name"]
    assert (tmp_path / "a" / "val" / name).read_bytes() == (tmp_path / "b/val" / name).read_bytes()
    other = json.loads(make_split(tmp_path / "c", "val", 3, seed=6).read_text())
    assert other["annotations"] != small["annotations"]


def test_train_and_val_differ(tmp_path):
    train = json.loads(make_split(tmp_path, "train", 2, seed=0).read_text())
    val = json.loads(make_split(tmp_path, "val", 2, seed=0).read_text())
    assert train["annotations"] != val["annotations"]


def test_image_is_rgb():
    image, _ = make_image(np.random.default_rng(0))
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
