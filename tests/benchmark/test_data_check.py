import argparse
import json

import pytest

from msrcnn.benchmark import data_check
from msrcnn.benchmark.stand_in import repeat_dataset
from msrcnn.data import annotation_file, image_files
from msrcnn.errors import UserError


def test_check_is_measured_with_and_without_the_caches(shapes_root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # set by the benchmark; restored afterwards
    monkeypatch.setattr(annotation_file, "CACHED_FROM", 600)
    opened = []
    read_header = image_files.read_header

    def count(path, **kwargs):
        opened.append(path)
        return read_header(path, **kwargs)

    monkeypatch.setattr(image_files, "read_header", count)
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    content = repeat_dataset(content, 600)
    path = data_check._write(content, shapes_root / "val", tmp_path)
    result = {"images": 600, "annotations": len(content["annotations"])}
    for run, number in (("first", 600), ("again", 0)):
        annotation_file._checked.cache_clear()  # as in a new process
        result[run] = data_check._run(path, tmp_path)
        assert min(result[run].values()) > 0
        assert len(opened) == number
        opened.clear()
    assert "600 images" in data_check.table(result)


def test_data_are_checked_before_they_are_copied(shapes_root, tmp_path):
    """A file name could lead out of the folder that they are copied to."""
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    content["images"][0]["file_name"] = "../a.jpg"
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = f"{tmp_path / 'a.json'}:{shapes_root / 'val'}"
    with pytest.raises(UserError, match=r"'../a.jpg' leads out of the image directory"):
        data_check.measure(argparse.Namespace(data=data, images=3))
