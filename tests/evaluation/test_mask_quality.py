import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO

from msrcnn.evaluation import Detections
from msrcnn.evaluation.mask_quality import TrueMaskIoU, quality_statistics, true_maskiou

SIZE = 20


def rectangle(x0, y0, x1, y1):
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return mask_util.encode(mask)


def detection(mask_box, box=None, category_id=1, image_id=1):
    x0, y0, x1, y1 = box or mask_box
    bbox = [x0, y0, x1 - x0, y1 - y0]
    segmentation = rectangle(*mask_box)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "segmentation": segmentation,
    }


@pytest.fixture
def ground_truth():
    """Two instances of class 1, one of class 2, a crowd of class 3."""
    instances = [((0, 0, 10, 10), 1, 0), ((10, 0, 20, 10), 1, 0), ((0, 10, 10, 20), 2, 0)]
    instances.append(((10, 10, 20, 20), 3, 1))
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i, "height": SIZE, "width": SIZE} for i in (1, 2)],
        "categories": [{"id": i} for i in (1, 2, 3)],
        "annotations": [
            {**detection(box, category_id=c), "id": i, "iscrowd": crowd, "area": 100 * i}
            for i, (box, c, crowd) in enumerate(instances, start=11)
        ],
    }
    coco.createIndex()
    return coco


RECORDS = [
    detection((0, 0, 10, 10)),  # perfect
    detection((10, 0, 20, 5)),  # half of the second instance, in half its box
    detection((0, 0, 5, 10), box=(10, 0, 20, 10)),  # half of the first mask, on the second's box
    detection((0, 10, 10, 20)),  # on the instance of another class
    detection((10, 10, 20, 20), category_id=3),  # on the crowd
    detection((0, 0, 10, 10), image_id=2),  # in an image without instances
]


def columns(records):
    return Detections(
        images=np.array([1, 2]),
        image_id=np.array([r["image_id"] for r in records], dtype=int),
        category_id=np.array([r["category_id"] for r in records], dtype=int),
        bbox=np.array([r["bbox"] for r in records], dtype=np.float32).reshape(-1, 4),
        score=np.zeros(len(records), dtype=np.float32),
        segmentation=[r["segmentation"] for r in records],
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 2, 4, 1, 3, 0]])
def test_true_maskiou(ground_truth, order):
    found = true_maskiou(ground_truth, columns([RECORDS[i] for i in order]))
    nan = np.nan
    expected = {
        "best": [1, 0.5, 0.5, 0, 0, 0],
        "matched": [1, 0.5, 0, nan, nan, nan],
        "instance": [11, 12, 12, 0, 0, 0],
        "area": [1100, 1200, 1200, nan, nan, nan],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(found, name), np.array(values)[order], name)


def test_no_detections(ground_truth):
    found = true_maskiou(ground_truth, columns([]))
    assert [a.shape for a in found] == [(0,)] * 4
    nothing = {"pearson": None, "spearman": None, "mae": None, "n": 0}
    statistics = quality_statistics(np.zeros(0), found)
    by_size = dict.fromkeys(["small", "medium", "large"], nothing)
    assert statistics == {**nothing, "calibration": [], "by_size": by_size}


def true(matched, area=None):
    matched = np.array(matched)
    area = np.full(len(matched), 50.0) if area is None else np.array(area, dtype=float)
    return TrueMaskIoU(matched, matched, np.ones(len(matched), dtype=int), area)


def test_statistics():
    predicted = np.array([0.1, 0.4, 0.4, 0.9, 0.5])
    found = quality_statistics(predicted, true([0.2, 0.3, 0.5, 0.8, np.nan]))
    assert found["n"] == 4
    assert found["mae"] == pytest.approx(0.1)
    assert found["pearson"] == pytest.approx(0.25 / (0.33 * 0.21) ** 0.5)  # covariance, variances
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert found["spearman"] == pytest.approx(0.94868, abs=1e-5)


@pytest.mark.parametrize("score", [0.5, 0.1])
def test_equal_values_have_no_correlation(score):
    found = quality_statistics(np.full(3, score), true([0.2, 0.5, 0.8]))
    assert found["pearson"] is found["spearman"] is None
    assert found["mae"] == pytest.approx(np.abs(score - np.array([0.2, 0.5, 0.8])).mean())


@pytest.mark.parametrize("matched", [[], [0.3]])
def test_fewer_than_two_values_have_no_correlation(matched):
    found = quality_statistics(np.full(len(matched), 0.5), true(matched))
    assert found["pearson"] is found["spearman"] is None


@pytest.mark.parametrize("predicted", [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5 + 1e-15], [0.1, 0.2, 0.4]])
def test_correlation_does_not_warn(predicted, recwarn):
    quality_statistics(np.array(predicted), true([0.2, 0.5, 0.8]))
    quality_statistics(np.array(predicted)[:2], true([0.2, 0.5]))
    assert not recwarn.list


def test_calibration():
    predicted = np.array([0.0, 0.05, 0.31, 0.39, 1.0, 0.95, 0.5])
    calibration = quality_statistics(predicted, true([0.1, 0.3, 0.2, 0.4, 1, 0.8, np.nan]))
    assert [bin["n"] for bin in calibration["calibration"]] == [2, 2, 2]
    assert [bin["predicted"] for bin in calibration["calibration"]] == pytest.approx(
        [0.025, 0.35, 0.975]
    )
    assert [bin["true"] for bin in calibration["calibration"]] == pytest.approx([0.2, 0.3, 0.9])


def test_by_size():
    predicted = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    area = [10, 32**2 - 1, 32**2, 96**2, np.nan]
    found = quality_statistics(predicted, true([0.2, 0.4, 0.3, 0.1, np.nan], area))["by_size"]
    assert {name: each["n"] for name, each in found.items()} == {
        "small": 2,
        "medium": 1,
        "large": 1,
    }
    assert found["small"]["mae"] == pytest.approx(0.15)
    assert found["small"]["pearson"] == pytest.approx(1)
    assert found["large"]["mae"] == pytest.approx(0.3)
