import argparse

from msrcnn.benchmark import data_check


def test_check_is_measured_with_and_without_the_caches(shapes_root):
    data = f"{shapes_root}/annotations/instances_val.json:{shapes_root}/val"
    result = data_check.measure(argparse.Namespace(data=data, images=600))
    assert result["images"] == 600
    assert result["annotations"] > 600
    first, again = result["first"], result["again"]
    assert first["image_seconds"] > again["image_seconds"] > 0
    assert min(first["annotation_seconds"], first["peak_mib"]) > 0
    assert "600 images" in data_check.table(result)
