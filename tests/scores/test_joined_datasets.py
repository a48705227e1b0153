import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data.datasets import register_coco_instances
from other_classes import NAMES, only, read, with_ids

from msrcnn.evaluation.category_ids import category_ids
from msrcnn.scores.joined_datasets import JoinedDatasets
from msrcnn.scores.sample_cache import SampleCache
from msrcnn.scores.sample_pass import collect_samples


@pytest.fixture
def register(shapes_root, tmp_path):
    def register(name, content):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        name = f"{name} of {tmp_path}"
        path = tmp_path / f"{name.split()[0]}.json"
        register_coco_instances(name, {}, str(path), str(shapes_root / "val"))
        return name

    return register


def described(truth, image_id):
    """Returns the class and the area of each instance of an image."""
    found = truth.imgToAnns[image_id]
    areas = [mask_util.area(truth.annToRLE(each)) for each in found]
    return sorted(zip([truth.cats[each["category_id"]]["name"] for each in found], areas))


def test_images_and_names_of_two_datasets(shapes_root, register):
    content = read(shapes_root)
    names = [register("one", content), register("two", with_ids(content, [9, 3, 4, 1, 0, 2]))]
    one, both = JoinedDatasets(names[:1]), JoinedDatasets(names)
    truth, single = both.ground_truth, one.ground_truth
    assert len(truth.imgs) == 2 * len(single.imgs)
    assert len(truth.anns) == 2 * len(single.anns)
    images = both.images()
    assert [image["image_id"] for image in images] == sorted(truth.imgs)
    for image, again in zip(images, one.images() * 2):
        assert image["file_name"] == again["file_name"]
        assert described(truth, image["image_id"]) == described(single, again["image_id"])
    assert category_ids(truth, names[0], NAMES).tolist() == [1, 2, 3, 4, 5, 6]


def test_detections_of_absent_classes_are_no_samples(
    tiny_cfg, build, shapes_root, register, tmp_path
):
    content = read(shapes_root)
    tiny_cfg.DATASETS.TRAIN = (register("few", only(content, NAMES[:3])),)
    tiny_cfg.DATASETS.CLASS_NAMES = NAMES
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 0.0, 40
    tiny_cfg.DATALOADER.NUM_WORKERS = 0
    model = build(tiny_cfg).eval()
    data = JoinedDatasets(tiny_cfg.DATASETS.TRAIN)
    cache = SampleCache(tmp_path / "few", {})
    collect_samples(tiny_cfg, model, data.ground_truth, data.images()[:2], cache, max_bytes=2**30)
    classes = cache.small["classes"]
    assert 0 < len(cache) < 80
    assert set(classes) <= {0, 1, 2}
    assert np.array_equal(cache.detections.category_id, classes + 1)
