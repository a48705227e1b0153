import copy
import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from msrcnn.data.registered import check_data, checked_dataset, dataset_content
from msrcnn.engine.trainer import Trainer
from msrcnn.errors import UserError
from msrcnn.evaluation import load_ground_truth


@pytest.fixture
def dicts(shapes_root):
    """Dataset dicts as the tutorial of Detectron2 makes them, with numbers of NumPy."""
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    records = []
    for image in content["images"]:
        record = {key: image[key] for key in ("height", "width")}
        record |= {"file_name": shapes_root / "val" / image["file_name"], "image_id": image["id"]}
        record["annotations"] = [
            {
                "bbox": np.array(BoxMode.convert(a["bbox"], 1, 0)),
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": np.int64(a["category_id"] - 1),
                "segmentation": a["segmentation"],
                "iscrowd": a["iscrowd"],
            }
            for a in content["annotations"]
            if a["image_id"] == image["id"]
        ]
        records.append(record)
    return records


@pytest.fixture
def registered(tmp_path):
    """Registers a function that returns dataset dicts."""
    names = []

    def register(records, **metadata):
        names.append(f"{tmp_path.name}_{len(names)}")
        DatasetCatalog.register(names[-1], lambda: copy.deepcopy(records))
        MetadataCatalog.get(names[-1]).set(**metadata)
        return names[-1]

    yield register
    for name in names:
        DatasetCatalog.remove(name)


CLASSES = ["disc", "box", "triangle", "ring", "star", "cross"]


def test_function_is_evaluated_as_its_file_would_be(shapes_root, dicts, registered):
    name = registered(dicts, thing_classes=CLASSES)
    expected = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    found = load_ground_truth(name).dataset
    assert len(found["annotations"]) == len(expected["annotations"]) > 0
    for a, b in zip(found["annotations"], expected["annotations"]):
        assert a["bbox"] == pytest.approx(b["bbox"])
        assert a["category_id"] == b["category_id"] - 1
        assert a["area"] == pytest.approx(b["area"], abs=3, rel=0.02)
    checked_dataset(name).with_images("")


def test_compressed_bytes_are_rle(dicts, registered):
    """Detectron2 accepts both the bytes that pycocotools returns and their text."""
    mask = np.zeros((dicts[0]["height"], dicts[0]["width"]), np.uint8, order="F")
    mask[10:20, 10:20] = 1
    annotation = dict(dicts[0]["annotations"][0], segmentation=mask_util.encode(mask))
    dicts[0]["annotations"] = [annotation | {"bbox": [10, 10, 20, 20], "iscrowd": 0}]
    content = dataset_content(registered(dicts[:1], thing_classes=CLASSES))
    assert isinstance(content["annotations"][0]["segmentation"]["counts"], str)


def changed(key, value):
    def change(records):
        owner = records[0] if key in records[0] else records[0]["annotations"][0]
        if value is ...:
            del owner[key]
        else:
            owner[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("bbox_mode", ...), "image 1: an annotation has bbox_mode None; it must be"),
        (changed("image_id", ...), "the image at index 0 has no 'image_id'"),
        (changed("annotations", ...), "image 1 has no list of 'annotations'; give an empty one"),
        (changed("annotations", None), "image 1 has no list of 'annotations'; give an empty one"),
        (changed("image_id", "a"), "image a: id is 'a'; it must be a whole number"),
        (changed("height", ...), "image 1 has no 'height'"),
        (changed("file_name", "no.png"), "image 1: 'no.png' does not exist"),
        (changed("category_id", 6), "annotation 1: category_id 6 is not the id of a category"),
        (changed("bbox", [1, 2]), "annotation 1: bbox is .*; it must be"),
        (changed("bbox", None), "annotation 1: bbox is null"),
        (changed("segmentation", ...), "annotation 1 has no 'segmentation'"),
        (changed("segmentation", []), "annotation 1 has no 'segmentation'"),
        (changed("segmentation", np.zeros((9, 8))), "image 1: a mask is an array; encode it"),
    ],
)
@pytest.mark.parametrize("direct", [False, True])
def test_problems_of_a_function_are_named_before_training(
    tiny_cfg, tmp_path, dicts, registered, change, message, direct
):
    """Also for a trainer that is built without the command line."""
    change(dicts)
    tiny_cfg.DATASETS.TRAIN = (registered(dicts, thing_classes=CLASSES),)
    tiny_cfg.DATASETS.TEST, tiny_cfg.OUTPUT_DIR = (), str(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        Trainer(tiny_cfg) if direct else check_data(tiny_cfg, ["TRAIN"])


def test_paths_of_images_may_be_path_objects(tiny_cfg, dicts, registered):
    tiny_cfg.DATASETS.TRAIN = (registered(dicts, thing_classes=CLASSES),)
    check_data(tiny_cfg, ["TRAIN"])
    assert all("image" in each for each in next(iter(Trainer.build_train_loader(tiny_cfg))))


def test_function_of_a_test_set(dicts, registered):
    for record in dicts:
        del record["annotations"]
    name = registered(dicts, thing_classes=CLASSES)
    assert "annotations" not in load_ground_truth(name).dataset
    with pytest.raises(UserError, match="'annotations' is missing"):
        checked_dataset(name).for_training()


def test_function_that_returns_nothing(registered):
    with pytest.raises(UserError, match="its function returned null; it must return a list of"):
        checked_dataset(registered(None, thing_classes=CLASSES))


def test_boxes_suffice_for_a_detector_and_for_evaluation(tiny_cfg, dicts, registered):
    for record in dicts:
        for annotation in record["annotations"]:
            del annotation["segmentation"]
    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.TEST = (registered(dicts, thing_classes=CLASSES),)
    check_data(tiny_cfg, ["TEST"])
    with pytest.raises(UserError, match="none of the 11 instances has a 'segmentation'"):
        check_data(tiny_cfg, ["TRAIN"])
    tiny_cfg.MODEL.MASK_ON = False
    check_data(tiny_cfg, ["TRAIN"])


def test_training_needs_data(tiny_cfg):
    tiny_cfg.DATASETS.TRAIN = ()
    check_data(tiny_cfg, [])
    with pytest.raises(UserError, match="DATASETS.TRAIN is empty: give --train-data"):
        check_data(tiny_cfg, ["TRAIN"])


def test_function_without_class_names(dicts, registered):
    with pytest.raises(UserError, match=r"thing_classes = \['cat', 'dog'\]"):
        checked_dataset(registered(dicts))


def test_registered_files_go_by_the_rules(tiny_cfg, shapes_root, tmp_path):
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    register_coco_instances(f"{tmp_path}", {}, str(tmp_path / "a.json"), str(shapes_root / "val"))
    tiny_cfg.DATASETS.TRAIN = (str(tmp_path),)

    def check():
        (tmp_path / "a.json").write_text(json.dumps(content))
        check_data(tiny_cfg, ["TRAIN"])

    check()
    tiny_cfg.INPUT.MASK_FORMAT = "polygon"
    with pytest.raises(UserError, match="has RLE masks: set INPUT.MASK_FORMAT bitmask"):
        check()
    tiny_cfg.INPUT.MASK_FORMAT = "bitmask"
    content["annotations"][0]["bbox"][0] = float("nan")
    with pytest.raises(UserError, match=r"a\.json: annotation 1: bbox\[0\] is nan"):
        check()
    content["annotations"] = []
    with pytest.raises(UserError, match="no instance to train on"):
        check()
