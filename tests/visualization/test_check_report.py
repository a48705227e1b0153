import copy
import re

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from msrcnn.data.coco_rules import check_coco
from msrcnn.visualization import check_report as module
from msrcnn.visualization.check_report import check_report

VALID = {
    "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {
            "id": i,
            "image_id": 7,
            "category_id": 3,
            "bbox": [1, 1, 8, 8],
            "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]],
        }
        for i in range(1, 10)
    ],
}


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Returns a function that reports on VALID with an annotation changed, and what was drawn."""
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    drawn, original = [], module.draw_overlays

    def spy(pixels, scale, overlays):
        drawn.append(overlays)
        return original(pixels, scale, overlays)

    monkeypatch.setattr(module, "draw_overlays", spy)

    def report(**values):
        content = copy.deepcopy(VALID)
        content["annotations"][0].update(values)
        findings = check_coco(content, tmp_path)
        return check_report("a <b>", content, tmp_path, findings).decode(), drawn

    return report


def test_examples_are_drawn_with_box_and_mask(report):
    html, drawn = report(bbox=[12, 1, 3, 3])
    assert "Warning: 1 record" in html
    assert html.count("the record drawn") == 1
    ((overlay,),) = drawn
    assert overlay.bbox.tolist() == [12, 1, 3, 3]
    assert np.argwhere(overlay.mask).tolist() == [[y, x] for y in range(1, 9) for x in range(1, 9)]


def test_text_of_the_file_is_escaped(report):
    html, _ = report(iscrowd="<script>alert(1)</script>")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<title>a &lt;b&gt;</title>" in html


@pytest.mark.parametrize(
    "values",
    [
        {"bbox": [float("nan")] * 4},
        {"bbox": "x"},
        {"bbox": [1, 1, 1e300, 1]},
        {"segmentation": [[1, None]]},
        {"segmentation": [[1e300, 1, 2, 2, 3, 3]]},
        {"segmentation": {"size": [10, 20], "counts": "damaged"}},
        {"segmentation": {"size": [10, 20], "counts": [0, 500]}},
        {"segmentation": {"size": [20, 10], "counts": [0, 200]}},
        {"image_id": 99},
        {"image_id": [7]},
        {"id": "x" * 5000},
    ],
)
def test_what_cannot_be_drawn_is_left_out(report, values):
    html, _ = report(**values)
    assert "Error: 1 record" in html


def test_few_examples_of_many(report, tmp_path):
    content = copy.deepcopy(VALID)
    content["annotations"] *= 5
    html = check_report("a", content, tmp_path, check_coco(content, tmp_path)).decode()
    assert "Error: 36 records" in html
    assert "and 16 more" in html


def test_nothing_found(tmp_path):
    assert "No problems." in check_report("a", VALID, tmp_path, []).decode()
    assert not re.search("<h2", check_report("a", VALID, tmp_path, []).decode())  # no image file


@pytest.mark.parametrize("classes", [1, 2])
def test_images_are_drawn_with_all_masks(tmp_path, monkeypatch, classes):
    """Shifted masks and wrong classes are seen only in pictures, in a file without problems too."""
    drawn, original = [], module.draw_instances

    def spy(pixels, shapes):
        drawn.append(shapes)
        return original(pixels, shapes)

    monkeypatch.setattr(module, "draw_instances", spy)
    content = copy.deepcopy(VALID)
    content["categories"] += [{"id": 4, "name": "dog"}][: classes - 1]
    square = [0] * 10 + [1] * 5
    content["annotations"][1]["segmentation"] = {"size": [10, 20], "counts": [10, 5, 185]}
    del content["annotations"][2]["segmentation"]
    content["images"].append({"id": 8, "file_name": "empty.png", "width": 20, "height": 10})
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    page = check_report("a", content, tmp_path, []).decode()
    assert page.count("<img") == 1
    assert "a.png: 9 annotations" in page
    (shapes,) = drawn
    assert mask_util.decode(shapes[0].mask).sum() == 64
    assert mask_util.decode(shapes[1].mask).T.ravel()[:15].tolist() == square
    assert shapes[2].mask is None
    assert {shape.label for shape in shapes} == {"cat" if classes == 2 else ""}


def test_images_drawn_are_spread_over_the_file(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    content = copy.deepcopy(VALID)
    first = content["annotations"][0]
    content["images"] = [dict(content["images"][0], id=i) for i in range(1, 31)]
    content["annotations"] = [dict(first, id=i, image_id=i) for i in range(1, 31)]
    assert check_report("a", content, tmp_path, []).decode().count("<img") == module.PICTURES


def test_picture_outside_of_the_image_folder_is_not_shown(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    content = copy.deepcopy(VALID)
    content["images"][0]["file_name"] = "../a.png"
    findings = check_coco(content, tmp_path / "images")
    page = check_report("a", content, tmp_path / "images", findings).decode()
    assert "leads out of the image directory" in page
    assert "<img" not in page
