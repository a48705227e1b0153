import json

from msrcnn.benchmark import data_check
from msrcnn.benchmark.stand_in import repeat_dataset
from msrcnn.data import annotation_file


def test_check_is_measured_with_and_without_the_caches(shapes_root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # set by the benchmark; restored afterwards
    monkeypatch.setattr(annotation_file, "CACHED_FROM", 600)
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    content = repeat_dataset(content, 600)
    path = data_check._write(content, shapes_root / "val", tmp_path)
    result = {"images": 600, "annotations": len(content["annotations"])}
    for run in ("first", "again"):
        annotation_file._checked.cache_clear()  # as in a new process
        result[run] = data_check._run(path, tmp_path)
        assert min(result[run].values()) > 0
    assert result["first"]["image_seconds"] > 2 * result["again"]["image_seconds"]
    assert "600 images" in data_check.table(result)
