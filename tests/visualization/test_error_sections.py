import copy
import dataclasses

import pytest
from report_page import page_of
from square_scene import detections, ground_truth
from stand_ins import index

from msrcnn.evaluation import EvaluationSettings, evaluate_detections
from msrcnn.visualization.confusion_section import MAX_CLASSES, MAX_PAIRS, confusion_section
from msrcnn.visualization.error_section import MEANINGS, error_section


@pytest.fixture(scope="module")
def scene():
    return evaluate_detections(ground_truth(), detections(), EvaluationSettings(bootstrap=0))


def with_classes(evaluation, number):
    """The scene with more classes, of which all but the last are confused with the next one."""
    others = [{"id": i, "name": f"class {i}"} for i in range(4, number + 1)]
    content = copy.deepcopy(evaluation.ground_truth.dataset)
    content["categories"] += others
    cells = [{"true": i, "predicted": i + 1, "n": i} for i in range(1, number)]
    summary = copy.deepcopy(evaluation.summary)
    summary["confusion"]["cells"] = [*cells, {"true": 1, "predicted": None, "n": 7}]
    return dataclasses.replace(evaluation, ground_truth=index(content), summary=summary)


def test_table_of_errors(scene):
    header, *rows = page_of(error_section(scene)).tables["AP50 that each type of error costs"]
    assert header[1:] == [
        *("gain, masks by box score", "gain, masks by mask score"),
        *("errors, masks by box score", "errors, masks by mask score"),
    ]
    tide = scene.summary["tide"].values()
    for (name, *cells), (error, meaning) in zip(rows, MEANINGS.items(), strict=True):
        assert name == meaning
        assert cells[:2] == [f"{found['delta_ap'][error]:.2f}" for found in tide]
        counts = [str(found["counts"].get(error, "")) for found in tide]
        assert cells[2:] == counts


def test_matrix_of_all_classes(scene):
    page = page_of(confusion_section(scene))
    assert page.tables["Confusion matrix"] == [
        ["", "cat", "dog", "cow", "missed"],
        ["cat", "1", "", "", "1"],
        ["dog", "1", "", "", "1"],
        ["cow", "", "", "", ""],
        ["no instance", "3", "", "", ""],
    ]
    assert page.tables["Most frequent confusions"][1:] == [["dog predicted as cat", "1", "50.0"]]
    assert "most confused of" not in page.text


def test_shades_are_shares_of_the_row(scene):
    page = page_of(confusion_section(scene))
    shades = [each["class"] for _, each in page.elements if "shade" in each.get("class", "")]
    # One of two instances, twice in two rows; all of the detections without an instance.
    assert shades == ["right shade2", *["wrong shade2"] * 3, "wrong shade4"]


def test_matrix_of_many_classes_shows_the_most_confused(scene):
    page = page_of(confusion_section(with_classes(scene, 1203)))
    header, *rows = page.tables["Confusion matrix"]
    shown = [f"class {i}" for i in range(1203 - MAX_CLASSES, 1203)]
    # The last class is confused with one other only.
    assert header == ["", *shown, "others", "missed"]
    assert [name for name, *_ in rows] == [*shown, "others", "no instance"]
    numbers = [int(cell.replace(",", "") or 0) for _, *cells in rows for cell in cells]
    assert sum(numbers) == sum(range(1203)) + 7
    assert f"{MAX_CLASSES} most confused of 1203 classes" in page.text
    shaded = [each["class"] for _, each in page.elements if "shade" in each.get("class", "")]
    assert not any(each.startswith("right") for each in shaded)  # nothing is known to be right
    _, *pairs = page.tables["Most frequent confusions"]
    assert len(pairs) == MAX_PAIRS
    assert pairs[0][:2] == ["class 1202 predicted as class 1203", "1,202"]
