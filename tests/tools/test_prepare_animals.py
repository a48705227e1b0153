"""Conversion of the animals dataset (datasets/prepare_animals.py)."""

import json
import re

import pytest
from PIL import Image
from scripts import load_script, run_script

from msrcnn.data.coco_records import CocoRecords

SCRIPT = "datasets/prepare_animals.py"


@pytest.fixture
def script():
    return load_script(SCRIPT)


def photos_of(content, letter):
    return [
        each for each in content["images"] if re.search(rf"_{letter}\d+\.jpg$", each["file_name"])
    ]


@pytest.fixture
def public(tmp_path, animals_root, script):
    """Some photos of the real dataset in the layout of the public one, and their records.

    They have twice the size, except for those that were not shrunk.
    """
    records = {}
    for split, folders in script.FOLDERS.items():
        content = json.loads((animals_root / f"{split}.json").read_text())
        records[split] = CocoRecords(content["categories"])
        for folder, letter in folders.items():
            first, second, *rest = photos_of(content, letter)
            small = [each for each in rest if min(each["width"], each["height"]) < 320][:1]
            known = [
                (
                    image,
                    [each for each in content["annotations"] if each["image_id"] == image["id"]],
                )
                for image in (first, second, *small)
            ]
            for image, annotations in known:
                without_ids = [
                    {key: value for key, value in each.items() if key not in ("id", "image_id")}
                    for each in annotations
                ]
                size = image["width"], image["height"]
                records[split].add(image["file_name"], *size, without_ids)
            _write_folder(
                tmp_path / "dataset" / folder, animals_root / split, known, content["categories"]
            )
    return tmp_path / "dataset", {split: each.content for split, each in records.items()}


def _write_folder(folder, photos, known, categories):
    folder.mkdir(parents=True)
    images, annotations = [], []
    for image, instances in known:
        scale = 2 if min(image["width"], image["height"]) == 320 else 1
        width, height = image["width"] * scale, image["height"] * scale
        stem, number = re.fullmatch(r"(.*)_[tv](\d+)\.jpg", image["file_name"]).groups()
        name = f"{stem}.rf.0123abcd.jpg"
        Image.open(photos / image["file_name"]).resize((width, height)).save(folder / name)
        record = {"id": int(number), "file_name": name, "width": width, "height": height}
        images.append(record)
        for each in instances:
            scaled = {
                "image_id": record["id"],
                "segmentation": [[scale * value for value in p] for p in each["segmentation"]],
                "bbox": [scale * value for value in each["bbox"]],
            }
            annotations.append({**each, **scaled})
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def test_records_equal_those_of_the_dataset(public, tmp_path):
    source, expected = public
    done = run_script(SCRIPT, source, "--output", tmp_path / "animals")
    assert done.returncode == 0, done.stderr
    for split, content in expected.items():
        written = json.loads((tmp_path / "animals" / f"{split}.json").read_text())
        assert written == content
        for image in content["images"]:
            with Image.open(tmp_path / "animals" / split / image["file_name"]) as photo:
                assert photo.size == (image["width"], image["height"])
        images, annotations = len(content["images"]), len(content["annotations"])
        line = f"Complete: {split}: {images} images, {annotations} instances"
        assert line in done.stdout.splitlines()


def test_names_and_numbers_are_those_of_the_experiments(animals_root, script):
    for split, folders in script.FOLDERS.items():
        content = json.loads((animals_root / f"{split}.json").read_text())
        for folder, letter in folders.items():
            names = [each["file_name"] for each in photos_of(content, letter)]
            numbers = [int(re.search(r"(\d+)\.jpg", name)[1]) for name in names]
            unused = script.UNUSED.get(folder, ())
            complete = range(len(numbers) + len(unused))
            assert numbers == [each for each in complete if each not in unused]


def test_missing_photo_is_an_error(public, script, tmp_path):
    source, _ = public
    photo = sorted((source / "test").glob("*.jpg"))[0]
    photo.unlink()
    with pytest.raises(ValueError, match=f"{photo.name} cannot be read .*; get the dataset again"):
        script.convert_split(source, "val", tmp_path / "animals")
    assert not (tmp_path / "animals" / "val.json").exists()


def test_photo_of_another_size_is_an_error(public, script, tmp_path):
    source, _ = public
    photo = sorted((source / "train").glob("*.jpg"))[0]
    Image.new("RGB", (20, 30)).save(photo)
    with pytest.raises(ValueError, match=r"has \(20, 30\) pixels instead of"):
        script.convert_split(source, "train", tmp_path / "animals")


def test_wrong_folder_is_one_error(tmp_path):
    done = run_script(SCRIPT, tmp_path, "--output", tmp_path / "animals")
    assert done.returncode == 1
    assert "cannot read" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "animals").exists()
