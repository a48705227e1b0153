"""Conversion of the nuclei dataset (datasets/prepare_nuclei.py)."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image
from scripts import load_script, run_script

SCRIPT = "datasets/prepare_nuclei.py"


@pytest.fixture
def script():
    return load_script(SCRIPT)


@pytest.fixture
def stage1(tmp_path, nuclei_root, script, monkeypatch):
    """The first images of the real dataset, one file per mask, and their COCO records."""
    source, records, names = tmp_path / "stage1_train", {}, {}
    for split, number in (("train", 2), ("val", 1)):
        content = json.loads((nuclei_root / f"{split}.json").read_text())
        images = content["images"][:number]
        names[split] = [image["file_name"].removesuffix(".jpg") for image in images]
        records[split] = [a for a in content["annotations"] if a["image_id"] <= number]
        for image, name in zip(images, names[split], strict=True):
            folder = source / (name + "0" * 48)  # ids have 64 characters
            pixels = Image.open(nuclei_root / split / image["file_name"]).convert("RGBA")
            _save(pixels, folder / "images" / f"{folder.name}.png")
            for annotation in records[split]:
                if annotation["image_id"] == image["id"]:
                    mask = mask_util.decode(annotation["segmentation"]) * 255
                    _save(Image.fromarray(mask), folder / "masks" / f"{annotation['id']:064d}.png")
    monkeypatch.setattr(script, "SPLITS", names)
    return source, records


def _save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_annotations_equal_those_of_the_dataset(stage1, script, tmp_path):
    source, expected = stage1
    folders = script.find_images(source)
    for split, records in expected.items():
        line = script.convert_split(folders, split, tmp_path / "coco")
        content = json.loads((tmp_path / "coco" / f"{split}.json").read_text())
        assert content["annotations"] == records
        assert [image["file_name"][:-4] for image in content["images"]] == script.SPLITS[split]
        for image in content["images"]:
            with Image.open(tmp_path / "coco" / split / image["file_name"]) as written:
                assert (written.mode, written.size) == ("RGB", (image["width"], image["height"]))
        assert line == f"{split}: {len(content['images'])} images, {len(records)} instances"


def test_split_is_that_of_the_experiments(nuclei_root, script):
    for split, names in script.SPLITS.items():
        content = json.loads((nuclei_root / f"{split}.json").read_text())
        assert sorted(f"{name}.jpg" for name in names) == sorted(
            image["file_name"] for image in content["images"]
        )


def test_missing_images_are_one_error(tmp_path):
    done = run_script(SCRIPT, tmp_path, "--output", tmp_path / "nuclei")
    assert done.returncode == 1
    assert "562 of 562 images are missing" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "nuclei").exists()


def _image_folder(folder, masks):
    _save(Image.fromarray(np.full((6, 8, 3), 90, np.uint8)), folder / "images" / "a.png")
    for name, mask in masks.items():
        _save(Image.fromarray(mask), folder / "masks" / f"{name}.png")
    return folder


def test_empty_mask_is_left_out(script, tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:6] = 255
    folder = _image_folder(tmp_path, {"a": np.zeros_like(mask), "b": mask})
    _, (annotation,) = script.convert_image(folder)
    assert (annotation["bbox"], annotation["area"]) == ([2, 1, 4, 2], 8)


def test_mask_of_another_size_is_an_error(script, tmp_path):
    folder = _image_folder(tmp_path, {"a": np.ones((6, 6), np.uint8)})
    with pytest.raises(ValueError, match="a.png has another size"):
        script.convert_image(folder)


def test_damaged_mask_is_an_error(script, tmp_path):
    folder = _image_folder(tmp_path, {"a": np.ones((6, 8), np.uint8)})
    (folder / "masks" / "a.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a.png cannot be read .*; extract the archive again"):
        script.convert_image(folder)


def test_missing_image_is_an_error(script, tmp_path):
    folder = _image_folder(tmp_path, {})
    (folder / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match="has 0 PNG files instead of 1"):
        script.convert_image(folder)
