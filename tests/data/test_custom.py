import json
import os
import shlex

import pytest
from detectron2.data import DatasetCatalog

from msrcnn.data.availability import check_datasets
from msrcnn.data.coco_rules import check_annotations
from msrcnn.data.custom import use_custom_data
from msrcnn.data.dataset_classes import dataset_classes
from msrcnn.errors import UserError


def flag(root, split):
    return f"{root}/annotations/instances_{split}.json:{root}/{split}"


def test_custom_data_in_one_flag(tiny_cfg, shapes_root):
    use_custom_data(tiny_cfg, [flag(shapes_root, "train")], [flag(shapes_root, "val")])
    assert tiny_cfg.INPUT.MASK_FORMAT == "bitmask"
    (name,) = tiny_cfg.DATASETS.TRAIN
    assert len(DatasetCatalog.get(name)) == 12
    assert dataset_classes(name)[0] == "disc"
    assert len(DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])) == 6


def test_the_command_in_a_message_lists_every_problem(tiny_cfg, shapes_root, tmp_path, run_command):
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    for annotation in content["annotations"][:5]:
        annotation["category_id"] = 77
    annotations = tmp_path / "with space.json"
    annotations.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"\(4 more; `msrcnn check .*` lists them\)") as error:
        use_custom_data(tiny_cfg, val=[f"{annotations}:{shapes_root}/val"])
    command = str(error.value).split("`")[1]
    _, out, _ = run_command(*shlex.split(command)[1:])
    for annotation in content["annotations"][:5]:
        assert f"annotation {annotation['id']}" in out


def test_a_file_is_read_again_once_changed(tiny_cfg, shapes_root, tmp_path, monkeypatch):
    read = []

    def spy(content):
        read.append(len(content["categories"]))
        return check_annotations(content)

    monkeypatch.setattr("msrcnn.data.annotation_file.check_annotations", spy)
    annotations = tmp_path / "a.json"
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    annotations.write_text(json.dumps(content))
    for _ in range(3):
        use_custom_data(tiny_cfg, val=[f"{annotations}:{shapes_root}/val"])
    assert read == [6]
    content["categories"].append({"id": 99, "name": "new"})
    annotations.write_text(json.dumps(content))
    os.utime(annotations, ns=(0, annotations.stat().st_mtime_ns + 1))  # whatever the clock's steps
    use_custom_data(tiny_cfg, val=[f"{annotations}:{shapes_root}/val"])
    assert read == [6, 7]
    assert dataset_classes(tiny_cfg.DATASETS.TEST[0])[-1] == "new"


def test_home_after_the_colon(tiny_cfg, shapes_root, monkeypatch):
    """Where no shell replaces it."""
    monkeypatch.setenv("HOME", str(shapes_root))
    use_custom_data(tiny_cfg, [flag("~", "train")])
    assert tiny_cfg.DATASETS.TRAIN == (flag(shapes_root.resolve(), "train"),)


def test_rle_of_one_class(tiny_cfg, nuclei_root):
    tiny_cfg.INPUT.MASK_FORMAT = "polygon"
    val = f"{nuclei_root}/val.json:{nuclei_root}/val"
    use_custom_data(tiny_cfg, train=[val])
    assert tiny_cfg.INPUT.MASK_FORMAT == "bitmask"


@pytest.mark.parametrize("given", ["polygon", "bitmask"])
def test_validation_data_leave_the_mask_format_of_training(tiny_cfg, coco_root, shapes_root, given):
    """RLE of shapes, polygons of COCO."""
    tiny_cfg.INPUT.MASK_FORMAT = given
    for val in (flag(shapes_root, "val"), flag(coco_root, "val2017")):
        use_custom_data(tiny_cfg, val=[val])
        assert tiny_cfg.INPUT.MASK_FORMAT == given
    assert tiny_cfg.DATASETS.TRAIN == ("shapes_train",)  # untouched


@pytest.mark.parametrize("given", ["polygon", "bitmask"])
def test_polygons_of_coco_can_be_trained_on_in_both_formats(tiny_cfg, coco_root, given):
    tiny_cfg.INPUT.MASK_FORMAT = given
    use_custom_data(tiny_cfg, train=[flag(coco_root, "train2017")])
    assert tiny_cfg.INPUT.MASK_FORMAT == given
    assert tiny_cfg.DATASETS.TEST == ()


def test_no_flag_changes_nothing(tiny_cfg):
    before = tiny_cfg.clone()
    use_custom_data(tiny_cfg)
    assert tiny_cfg == before


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no-colon.json", "not of the form ANN.json:IMAGES"),
        ("/nowhere/a.json:/tmp", "annotation file '/nowhere/a.json' does not exist"),
    ],
)
def test_bad_flag(tiny_cfg, value, message):
    with pytest.raises(UserError, match=message):
        use_custom_data(tiny_cfg, train=[value])


def test_missing_image_folder(tiny_cfg, shapes_root):
    with pytest.raises(UserError, match="image folder .* does not exist"):
        use_custom_data(tiny_cfg, train=[f"{shapes_root}/annotations/instances_val.json:/nowhere"])


def test_file_that_is_not_json(tiny_cfg, tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is not JSON"):
        use_custom_data(tiny_cfg, train=[f"{tmp_path}/a.json:{tmp_path}"])


def test_record_and_file_are_named(tiny_cfg, shapes_root, tmp_path):
    content = json.loads((shapes_root / "annotations/instances_val.json").read_text())
    content["annotations"][1]["category_id"] = 99
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"bad\.json: annotation 2: category_id 99"):
        use_custom_data(tiny_cfg, val=[f"{tmp_path}/bad.json:{shapes_root}/val"])


def test_paths_with_colons(tiny_cfg, shapes_root, tmp_path):
    folder = tmp_path / "a:b" / "12:30"
    folder.mkdir(parents=True)
    source = shapes_root / "annotations" / "instances_val.json"
    (folder / "ann:1.json").write_text(source.read_text())
    (folder / "img:1").symlink_to(shapes_root / "val")
    use_custom_data(tiny_cfg, val=[f"{folder}/ann:1.json:{folder}/img:1"])
    (name,) = tiny_cfg.DATASETS.TEST
    assert name == f"{folder}/ann:1.json:{shapes_root}/val"
    assert len(DatasetCatalog.get(name)) == 6


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("a:b:c", "'a:b:c' could be 'a' and 'b:c' or 'a:b' and 'c': rename"),
        ("a:c:", "'a:c:' is not of the form ANN.json:IMAGES"),
        ("a:b:d", "no colon in it has an existing file before it"),
    ],
)
def test_colons_that_cannot_be_split(tiny_cfg, tmp_path, monkeypatch, flag, message):
    monkeypatch.chdir(tmp_path)
    for file in ("a", "a:b"):
        (tmp_path / file).touch()
    for folder in ("c", "b:c"):
        (tmp_path / folder).mkdir()
    with pytest.raises(UserError, match=message):
        use_custom_data(tiny_cfg, train=[flag])


def test_several_datasets(tiny_cfg, shapes_root, coco_root):
    """One has RLE, which needs bitmasks."""
    flags = [flag(coco_root, "val2017"), flag(shapes_root, "train")]
    use_custom_data(tiny_cfg, flags)
    assert tiny_cfg.DATASETS.TRAIN == tuple(flags)
    assert tiny_cfg.INPUT.MASK_FORMAT == "bitmask"


def test_named_datasets_are_evaluated_on(tiny_cfg, shapes_root):
    """Those of the config file are of other data than the flag, those of the user are not."""
    data = [flag(shapes_root, "train")]
    for keep, expected in ((True, ("mine",)), (False, ())):
        tiny_cfg.DATASETS.TEST = ("mine",)
        use_custom_data(tiny_cfg, data, keep_test=keep)
        assert tiny_cfg.DATASETS.TEST == expected
    tiny_cfg.DATASETS.TEST = ("mine",)
    use_custom_data(tiny_cfg, data, data, keep_test=True)
    assert tiny_cfg.DATASETS.TEST == tuple(data)


def test_datasets_of_a_saved_config(tiny_cfg, shapes_root):
    """Only those that the run uses must be on this machine."""
    annotations, images = flag(shapes_root, "val").split(":")
    tiny_cfg.DATASETS.TEST = (f"{annotations}:{images}/../val",)
    tiny_cfg.DATASETS.TRAIN = ("/nowhere/a.json:/nowhere/b",)
    use_custom_data(tiny_cfg)
    check_datasets(tiny_cfg.DATASETS.TEST)
    assert len(DatasetCatalog.get(tiny_cfg.DATASETS.TEST[0])) == 6
    with pytest.raises(UserError, match=r"annotation file '/nowhere/a\.json' does not exist"):
        check_datasets(tiny_cfg.DATASETS.TRAIN)
