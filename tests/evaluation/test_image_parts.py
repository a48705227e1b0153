from dataclasses import replace

import numpy as np
import pytest
from noisy_detections import noisy_detections
from pycocotools.coco import COCO

from msrcnn.evaluation import ENGINES, image_parts
from msrcnn.evaluation.matching import match_detections


@pytest.fixture
def dataset(shapes_root):
    return COCO(str(shapes_root / "annotations" / "instances_val.json"))


def parts_of(dataset, detections, limit=100):
    return list(image_parts.image_parts(dataset, detections, "segm", detections.score, limit))


def shuffled(detections):
    order = np.random.default_rng(0).permutation(len(detections))
    return detections.take(order, detections.images)


def test_parts_have_every_image_annotation_and_detection_once(dataset, monkeypatch):
    monkeypatch.setattr(image_parts, "IMAGES", 2)
    detections = shuffled(noisy_detections(dataset))
    parts = parts_of(dataset, detections)
    assert [len(part.images) for part in parts[:-1]] == [2] * (len(parts) - 1)
    assert len(parts) > 2
    images = [image["id"] for part in parts for image in part.images]
    assert images == sorted(dataset.imgs)
    annotations = [a["id"] for part in parts for a in part.annotations]
    assert sorted(annotations) == sorted(dataset.anns)
    results = [each for part in parts for each in part.results]
    assert len(results) == len(detections)
    for part in parts:
        ids = {image["id"] for image in part.images}
        assert {each["image_id"] for each in (*part.annotations, *part.results)} <= ids
    expected = detections.results("segm", detections.score)
    key = str
    assert sorted(results, key=key) == sorted(expected, key=key)


def test_size_of_parts_changes_no_number(dataset, monkeypatch):
    detections = shuffled(noisy_detections(dataset))
    detections = replace(detections, score=detections.score.round(1))  # with ties
    found = []
    for size in (1, 2, 1000):
        monkeypatch.setattr(image_parts, "IMAGES", size)
        scores = detections.score.astype(float)
        precision = ENGINES["hotcoco"](dataset).average_precision(detections, "segm", scores, 100)
        matches = match_detections(dataset, detections, "segm", scores, 100)
        found.append([precision.precision, *(array for c in matches.categories for array in c)])
    assert found[0][0].max() > 0
    for others in found[1:]:
        assert all(np.array_equal(*pair) for pair in zip(found[0], others))


def test_limit_of_lvis_is_for_all_categories_of_an_image(dataset):
    detections = shuffled(noisy_detections(dataset))
    detections = replace(detections, score=detections.score.round(1))
    for image in dataset.dataset["images"]:
        image["neg_category_ids"] = image["not_exhaustive_category_ids"] = []
    found = [each for part in parts_of(dataset, detections, limit=3) for each in part.results]
    expected = []
    for image_id in sorted(dataset.imgs):
        of_image = detections.of_image(image_id)
        # Of equal scores, the first detections.
        best = sorted(range(len(of_image)), key=lambda row: -of_image.score[row])[:3]
        expected += of_image.results("segm", of_image.score, np.array(sorted(best), dtype=int))
    assert found == expected
    assert len(found) < len(detections)
