import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.file_io import PathHandler, PathManager
from other_classes import NAMES, only, read, with_ids, with_names, write

from msrcnn.data.custom import use_custom_data
from msrcnn.data.dataset_classes import dataset_classes, training_images
from msrcnn.errors import UserError


def names_of_annotations(images, names):
    return [[names[a["category_id"]] for a in image["annotations"]] for image in images]


@pytest.fixture
def expected(shapes_root):
    """The class name of every annotation, image by image."""
    content = read(shapes_root, "train")
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        found[annotation["image_id"]].append(names[annotation["category_id"]])
    return [labels for _, labels in sorted(found.items())]


def test_several_files_with_other_ids(tiny_cfg, shapes_root, tmp_path, expected):
    content = read(shapes_root, "train")
    flags = [
        write(with_ids(content, ids), tmp_path / f"{ids[0]}.json", shapes_root, "train")
        for ids in ([1, 2, 3, 4, 5, 6], [7, 3, 90, 1, 0, 2], [6, 5, 4, 3, 2, 1])
    ]
    use_custom_data(tiny_cfg, flags)
    tiny_cfg.DATASETS.CLASS_NAMES = model = (*NAMES[3:], *NAMES[:3])
    assert names_of_annotations(training_images(tiny_cfg), model) == expected * 3


class Remote(PathHandler):
    def __init__(self, folder):
        self.folder = folder

    def _get_supported_prefixes(self):
        return ["remote://"]

    def _get_local_path(self, path, **kwargs):
        return str(self.folder / path.removeprefix("remote://"))


def test_a_file_of_another_machine_names_its_classes(shapes_root):
    """Wherever Detectron2 reads it from."""
    PathManager.register_handler(Remote(shapes_root / "annotations"), allow_override=True)
    MetadataCatalog.get("of another machine").json_file = "remote://instances_val.json"
    assert dataset_classes("of another machine") == list(NAMES)


def test_a_registered_function_may_return_the_same_objects(tiny_cfg):
    image = {"height": 9, "width": 9, "annotations": [{"category_id": 0}, {"category_id": 1}]}
    DatasetCatalog.register("always the same", lambda: [image])
    MetadataCatalog.get("always the same").thing_classes = ["a", "b"]
    tiny_cfg.DATASETS.TRAIN, tiny_cfg.DATASETS.CLASS_NAMES = ("always the same",), ("b", "a")
    for _ in range(2):
        (found,) = training_images(tiny_cfg)
        assert [each["category_id"] for each in found["annotations"]] == [1, 0]


def test_other_names(tiny_cfg, shapes_root, tmp_path):
    content = with_names(read(shapes_root, "train"), {NAMES[1]: "other"})
    use_custom_data(tiny_cfg, [write(content, tmp_path / "a.json", shapes_root, "train")])
    tiny_cfg.DATASETS.CLASS_NAMES = NAMES
    with pytest.raises(
        UserError, match=r"a.json' has classes that are not in DATASETS.CLASS_NAMES"
    ):
        training_images(tiny_cfg)


def test_nothing_to_train_on(tiny_cfg, shapes_root, tmp_path):
    content = only(read(shapes_root), [])
    content["categories"] = [{"id": 1, "name": "a"}]
    path = tmp_path / "empty.json"
    path.write_text(json.dumps(content))
    register_coco_instances("nothing on it", {}, str(path), str(shapes_root / "val"))
    tiny_cfg.DATASETS.TRAIN = ("nothing on it",)
    with pytest.raises(UserError, match="no image of dataset 'nothing on it' has an instance"):
        training_images(tiny_cfg)


def test_names_of_a_file_that_is_not_coco(tmp_path):
    (tmp_path / "list.json").write_text('{"categories": [7]}')
    register_coco_instances("not COCO", {}, str(tmp_path / "list.json"), str(tmp_path))
    with pytest.raises(UserError, match=r"list\.json is not in COCO format"):
        dataset_classes("not COCO")
    assert dataset_classes("never heard of") == []
