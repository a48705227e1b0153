import json
import os

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from msrcnn.data import annotation_file, header_cache, user_cache
from msrcnn.data.annotation_file import checked_file
from msrcnn.data.image_files import image_problems
from msrcnn.errors import UserError

SIZE = (20, 10)
RECORDS = [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, used for datasets of any size; returns the files in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(header_cache, "CACHED_FROM", 1)
    monkeypatch.setattr(annotation_file, "CACHED_FROM", 1)
    return lambda: [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.fixture
def opened(monkeypatch):
    """The images that were opened."""
    paths, original = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path: paths.append(path) or original(path))
    return paths


def draw(path, size=SIZE, seconds=0):
    """Saves an image that is some seconds older than an hour."""
    Image.new("RGB", size).save(path)
    time = path.stat().st_mtime - 3600 - seconds
    os.utime(path, (time, time))


def test_sound_images_are_opened_once_while_they_do_not_change(tmp_path, cache, opened):
    draw(tmp_path / "a.png")
    for _ in range(2):
        assert image_problems(RECORDS, tmp_path) == []
    assert len(opened) == 1
    assert len(cache()) == 1
    draw(tmp_path / "a.png", (10, 20), seconds=5)
    (message,) = image_problems(RECORDS, tmp_path)
    assert "width and height are swapped" in message
    assert "does not exist" not in message
    draw(tmp_path / "a.png")
    (message,) = image_problems([{**RECORDS[0], "width": 21}], tmp_path)
    assert "20 x 10 pixels, but the annotations say 21 x 10" in message


def test_faulty_and_new_images_are_not_kept(tmp_path, cache, opened):
    (tmp_path / "a.png").write_text("no image")
    os.utime(tmp_path / "a.png", (0, 0))
    for _ in range(2):
        assert len(image_problems(RECORDS, tmp_path)) == 1
    Image.new("RGB", SIZE).save(tmp_path / "a.png")  # may be written again within the same tick
    for _ in range(2):
        assert image_problems(RECORDS, tmp_path) == []
    assert len(opened) == 4
    assert cache() == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"made_with": [], "key": 1}'])
def test_damaged_cache_is_not_used(tmp_path, cache, opened, content):
    draw(tmp_path / "a.png")
    assert image_problems(RECORDS, tmp_path) == []
    (path,) = cache()
    path.write_text(content)
    assert image_problems(RECORDS, tmp_path) == []
    assert len(opened) == 2
    assert json.loads(path.read_text())["content"]


def test_cache_of_another_version_is_not_used(tmp_path, cache, opened, monkeypatch):
    draw(tmp_path / "a.png")
    image_problems(RECORDS, tmp_path)
    monkeypatch.setattr(user_cache, "MADE_WITH", ["later"])
    image_problems(RECORDS, tmp_path)
    assert len(opened) == 2


def test_cache_that_cannot_be_written(tmp_path, monkeypatch, cache):
    (tmp_path / "cache").write_text("a file instead of a folder")
    draw(tmp_path / "a.png")
    assert image_problems(RECORDS, tmp_path) == []


def test_small_datasets_leave_no_files(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(header_cache, "CACHED_FROM", 2)
    draw(tmp_path / "a.png")
    assert image_problems(RECORDS, tmp_path) == []
    assert cache() == []


def test_decoding_finds_damage_in_the_middle_whatever_the_cache_says(tmp_path, cache):
    path = tmp_path / "a.bmp"
    draw(path)
    time = path.stat().st_mtime_ns
    records = [{**RECORDS[0], "file_name": "a.bmp"}]
    assert image_problems(records, tmp_path) == []
    path.write_bytes(path.read_bytes()[:-100])
    os.utime(path, ns=(time, time))
    assert image_problems(records, tmp_path) == []  # the header is sound
    (message,) = image_problems(records, tmp_path, decode=True)
    assert "cannot be read as an image (image file is truncated" in message


def test_pipes_folders_and_broken_links_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    records = [{**RECORDS[0], "file_name": name} for name in ("pipe", "folder", "link")]
    pipe, folder, link = image_problems(records, tmp_path)
    assert "it is not a file" in pipe
    assert "it is not a file" in folder
    assert "No such file" in link


def test_large_annotation_files_are_read_once_while_they_do_not_change(
    tmp_path, cache, monkeypatch
):
    content = {
        "images": RECORDS,
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3]}],
    }
    draw(tmp_path / "a.png")
    path = tmp_path / "a.json"

    def check():
        annotation_file._checked.cache_clear()  # as in another process
        checked = checked_file(path, tmp_path)
        with pytest.raises(UserError, match="annotation 1 has no 'segmentation'"):
            checked.for_training()
        checked.for_training(masks=False)
        checked.with_images(tmp_path)
        return checked.mask_format

    path.write_text(json.dumps(content))
    os.utime(path, (1, 1))
    first = check()
    monkeypatch.setattr(annotation_file, "read_coco", None)
    assert check() == first == "polygon"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mask = np.zeros((RECORDS[0]["height"], RECORDS[0]["width"]), dtype=np.uint8, order="F")
    mask[1:4, 1:4] = 1
    rle = mask_util.encode(mask)
    rle["counts"] = rle["counts"].decode()
    content["annotations"].append({**content["annotations"][0], "id": 2, "segmentation": rle})
    path.write_text(json.dumps(content))
    assert check() == "bitmask"
    content["categories"][0]["name"] = ""
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="category 1: name is ''"):
        check()
