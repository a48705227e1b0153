import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO

from msrcnn.evaluation.mask_quality import maskiou_statistics, true_maskiou

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
            {**detection(box, category_id=c), "id": i, "iscrowd": crowd}
            for i, (box, c, crowd) in enumerate(instances, start=1)
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


def test_best_maskiou(ground_truth):
    assert true_maskiou(ground_truth, RECORDS)[0].tolist() == [1, 0.5, 0.5, 0, 0, 0]


def test_matched_maskiou(ground_truth):
    expected = [1, 0.5, 0, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(true_maskiou(ground_truth, RECORDS)[1], expected)


def test_no_detections(ground_truth):
    assert [a.shape for a in true_maskiou(ground_truth, [])] == [(0,), (0,)]
    assert maskiou_statistics(np.zeros(0), np.zeros(0)) == {
        "pearson": None,
        "spearman": None,
        "mae": None,
        "n": 0,
    }


def test_statistics():
    predicted = np.array([0.1, 0.4, 0.4, 0.9, 0.5])
    true = np.array([0.2, 0.3, 0.5, 0.8, np.nan])
    found = maskiou_statistics(predicted, true)
    assert found["n"] == 4
    assert found["mae"] == pytest.approx(0.1)
    assert found["pearson"] == pytest.approx(0.25 / (0.33 * 0.21) ** 0.5)  # covariance, variances
    # Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3.
    assert found["spearman"] == pytest.approx(0.94868, abs=1e-5)


def test_no_spread_has_no_correlation():
    found = maskiou_statistics(np.array([0.5, 0.5]), np.array([0.2, 0.8]))
    assert found["pearson"] is found["spearman"] is None
    assert found["mae"] == pytest.approx(0.3)
