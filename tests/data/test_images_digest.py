import json
import shutil

import pytest
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from msrcnn.data import images_digest as module
from msrcnn.data.images_digest import images_digest


@pytest.fixture
def register(shapes_root, tmp_path):
    def register(images):
        name = f"images in {images}"
        annotations = shapes_root / "annotations" / "instances_train.json"
        register_coco_instances(name, {}, str(annotations), str(images))
        return name

    return register


@pytest.fixture
def copied(shapes_root, tmp_path):
    """Returns a folder with files of the same names and one size."""

    def copied(name, change=None):
        folder = tmp_path / name
        folder.mkdir()
        for path in sorted((shapes_root / "train").iterdir()):
            middle = b"1" if path.name == change else b"0"
            (folder / path.name).write_bytes(bytes(50) + middle + bytes(50))
        return folder

    return copied


def test_a_copy_has_the_same_digest_and_other_images_have_another(shapes_root, register, tmp_path):
    expected = images_digest(register(shapes_root / "train"))
    copy = shutil.copytree(shapes_root / "train", tmp_path / "copy", copy_function=shutil.copyfile)
    assert images_digest(register(copy)) == expected
    blank = shutil.copytree(copy, tmp_path / "blank")
    for path in blank.iterdir():
        Image.new("RGB", (128, 96)).save(path)
    assert images_digest(register(blank)) != expected


def test_files_of_the_same_size_differ_by_their_content(register, copied, shapes_root):
    content = json.loads((shapes_root / "annotations" / "instances_train.json").read_text())
    name = content["images"][0]["file_name"]
    assert images_digest(register(copied("one"))) == images_digest(register(copied("two")))
    assert images_digest(register(copied("three", name))) != images_digest(register(copied("four")))


def test_of_many_images_all_sizes_count(register, copied, shapes_root, monkeypatch):
    monkeypatch.setattr(module, "READ", 2)
    folder = copied("changed")
    content = json.loads((shapes_root / "annotations" / "instances_train.json").read_text())
    for image in content["images"][1:6]:  # the content of the first and the seventh is read
        path = folder / image["file_name"]
        path.write_bytes(path.read_bytes() + b"1")
    assert images_digest(register(folder)) != images_digest(register(copied("as before")))


def test_images_that_are_gone_or_not_on_a_disk(register, tmp_path):
    assert images_digest(register(tmp_path / "gone"))
    assert images_digest(register("s3://images")) == ""
