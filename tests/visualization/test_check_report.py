import copy
import re

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from msrcnn.data.coco_rules import check_coco
from msrcnn.data.coco_schema import NamedRecords, schema_problems
from msrcnn.visualization import check_report as module
from msrcnn.visualization import class_examples
from msrcnn.visualization.check_report import check_report
from msrcnn.visualization.overlay import class_color

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
    assert html.split("Classes")[0].count("<img") == 1
    ((overlay,),) = drawn
    assert overlay.bbox.tolist() == [12, 1, 3, 3]
    assert overlay.name == "cat"
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


class Listed(list):
    """A list that counts how often it is read."""

    reads = 0

    def __iter__(self):
        self.reads += 1
        return super().__iter__()


def test_records_are_read_once_for_all_messages(tmp_path):
    """Of a wrong image folder, every record is a message, and none can be drawn."""
    content = copy.deepcopy(VALID)
    content["images"] = [{**VALID["images"][0], "id": i} for i in range(10)]
    for each in content["annotations"]:
        each.update(image_id=each["id"], area=-5)
    findings = check_coco(content, tmp_path)
    assert sum(len(finding.messages) for finding in findings) > 18
    content = {kind: Listed(records) for kind, records in content.items()}
    assert "<img" not in check_report("a", content, tmp_path, findings).decode()
    assert max(records.reads for records in content.values()) <= 2


@pytest.mark.parametrize(
    "record", [{"id": 7}, {"id": "a b"}, {"id": "7: a"}, {"id": [1]}, {}, {"id": "x" * 5000}]
)
def test_the_record_of_a_message(record, tmp_path):
    content = {"images": [{"id": 70}, record], "categories": [], "annotations": []}
    *_, message = schema_problems(content)
    assert NamedRecords(content).of(message) == ("image", record)
    assert NamedRecords(content).of("'images' is empty") == (None, {})
    assert NamedRecords(3).of(message) == (None, {})
    assert "Error" in check_report("a", content, tmp_path, check_coco(content, tmp_path)).decode()


def test_nothing_found(tmp_path):
    assert "No problems." in check_report("a", VALID, tmp_path, []).decode()
    assert not re.search("Error|Warning", check_report("a", VALID, tmp_path, []).decode())


@pytest.fixture
def shapes(monkeypatch):
    """Lists the shapes of each image that is drawn as an example of a class."""
    drawn, original = [], class_examples.draw_instances

    def spy(pixels, shapes):
        drawn.append(shapes)
        return original(pixels, shapes)

    monkeypatch.setattr(class_examples, "draw_instances", spy)
    return drawn


def test_examples_of_each_class_with_all_annotations(report, tmp_path, shapes):
    content = copy.deepcopy(VALID)
    content["categories"] += [{"id": 9, "name": "catt"}, {"id": 1, "name": "none"}]
    first, second, third, *_ = content["annotations"]
    first["category_id"] = 9
    second["segmentation"] = {"size": [10, 20], "counts": [10, 5, 185]}
    del third["segmentation"]
    html = check_report("a", content, tmp_path, []).decode()
    headings = re.findall("<h3>(.*?)</h3>", html)
    assert headings == ["catt: 1 annotation", "cat: 8 annotations"]
    assert html.count("<img") == 2
    assert html.count("a.png: 9 annotations") == 2
    assert [[shape.label for shape in each] for each in shapes] == [["catt"] + ["cat"] * 8] * 2
    assert mask_util.decode(shapes[0][0].mask).sum() == 64
    assert mask_util.decode(shapes[0][1].mask).T.ravel()[:15].tolist() == [0] * 10 + [1] * 5
    assert shapes[0][2].mask is None


def test_colors_are_those_of_the_models_classes(report, tmp_path, shapes):
    """A model has the classes in the order of their ids, whatever their order in the file."""
    content = copy.deepcopy(VALID)
    content["categories"] += [{"id": 1, "name": "dog"}]
    content["annotations"][0]["category_id"] = 1
    check_report("a", content, tmp_path, [])
    expected = [class_color(0)] + [class_color(1)] * 8
    assert [[shape.color for shape in each] for each in shapes] == [expected] * 2


def test_examples_are_spread_over_the_file_and_a_single_class_is_not_named(tmp_path, shapes):
    content = copy.deepcopy(VALID)
    first = content["annotations"][0]
    content["images"] = [
        {**content["images"][0], "id": i, "file_name": f"{i}.png"} for i in range(30)
    ]
    content["annotations"] = [{**first, "id": i, "image_id": i} for i in range(30)]
    for i in range(30):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{i}.png")
    html = check_report("a", content, tmp_path, []).decode()
    assert re.findall("([0-9]+).png: 1 annotation<", html) == ["0", "10", "20"]
    assert {shape.label for each in shapes for shape in each} == {""}


def test_examples_of_lvis_are_named_by_their_address(tmp_path):
    (tmp_path / "val2017").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "val2017" / "a.png")
    content = copy.deepcopy(VALID)
    del content["images"][0]["file_name"]
    content["images"][0]["coco_url"] = "http://images.cocodataset.org/val2017/a.png"
    assert check_coco(content, tmp_path) == []
    assert "val2017/a.png: 9 annotations" in check_report("a", content, tmp_path, []).decode()


def test_a_mask_far_outside_is_not_drawn_as_an_example(tmp_path, shapes):
    """It is only a warning, but would take the memory of a large image."""
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    content = copy.deepcopy(VALID)
    content["annotations"][0]["segmentation"] = [[1, 1, 1e7, 1, 1e7, 1e7]]
    check_report("a", content, tmp_path, [])
    assert [each.mask is None for each in shapes[0]] == [True] + [False] * 8


def test_classes_of_a_file_with_errors_are_not_drawn(report):
    html, _ = report(bbox="x")
    assert "Classes" not in html


def test_picture_outside_of_the_image_folder_is_not_shown(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    content = copy.deepcopy(VALID)
    content["images"][0]["file_name"] = "../a.png"
    findings = check_coco(content, tmp_path / "images")
    page = check_report("a", content, tmp_path / "images", findings).decode()
    assert "leads out of the image directory" in page
    assert "<img" not in page
