import dataclasses
import json
import multiprocessing

import hotcoco.mask
import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO
from stand_ins import index, stand_in

from msrcnn.evaluation import Detections
from msrcnn.evaluation.mask_quality import (
    duplicates,
    instances_by_class,
    on_incomplete,
    true_maskiou,
)

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
        "matched_or_zero": [1, 0.5, 0, 0, nan, 0],
        "instance": [11, 12, 12, 0, 0, 0],
        "area": [1100, 1200, 1200, nan, nan, nan],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(found, name), np.array(values)[order], name)


def test_of_the_detections_of_an_instance_the_best_scored_is_no_duplicate(ground_truth):
    records = [
        (detection((0, 0, 10, 8)), 0.6),  # the first instance a second time
        (detection((0, 0, 10, 10)), 0.7),
        (detection((10, 0, 20, 10)), 0.5),  # the second instance
        (detection((0, 0, 10, 9)), 0.6),  # the first instance a third time
        (detection((0, 0, 10, 4)), 0.9),  # of an IoU too small to match
        (detection((0, 10, 10, 20)), 0.4),  # on an instance of another class
        (detection((0, 10, 10, 20), category_id=2), 0.3),
        (detection((0, 10, 10, 20), category_id=2), 0.3),  # the same score: the first counts
        (detection((10, 10, 20, 20), category_id=3), 0.2),  # on the crowd
        (detection((0, 0, 10, 10), image_id=2), 0.8),
    ]
    found = columns([record for record, _ in records])
    found.score[:] = [score for _, score in records]
    expected = [True, False, False, True, False, False, False, True, False, False]
    assert duplicates(instances_by_class(ground_truth), found).tolist() == expected


def test_no_detections(ground_truth):
    found = true_maskiou(ground_truth, columns([]))
    assert [a.shape for a in found] == [(0,)] * 5


@pytest.fixture
def without_crowds(shapes_root):
    """The content of an annotation file."""
    content = json.loads((shapes_root / "annotations" / "instances_train.json").read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 0
    return content


def test_detections_on_crowds_are_no_false_positives(without_crowds):
    content = without_crowds
    ground_truth = index(content)
    detections = stand_in(ground_truth)
    assert not on_incomplete(ground_truth, detections).any()
    crowd = content["annotations"][0]
    crowd["iscrowd"] = 1
    found = on_incomplete(index(content), detections)
    on_it = (detections.image_id == crowd["image_id"]) & (
        detections.category_id == crowd["category_id"]
    )
    assert found.any()
    assert not found[~on_it].any()
    # LVIS names the categories whose instances are not all annotated.
    content["images"][0]["not_exhaustive_category_ids"] = [2]
    image_id = content["images"][0]["id"]
    found = on_incomplete(index(content), detections)
    lvis = (detections.image_id == image_id) & (detections.category_id == 2)
    assert found[lvis].all()


def test_categories_that_lvis_did_not_verify_are_no_false_positives(without_crowds):
    """Neither annotated in the image nor verified to be absent."""
    content = without_crowds
    detections = stand_in(index(content))
    image_id = int(detections.image_id[0])
    own = detections.image_id == image_id
    annotated = [a["category_id"] for a in content["annotations"] if a["image_id"] == image_id]
    absent = next(c["id"] for c in content["categories"] if c["id"] not in annotated)
    category_id = detections.category_id.copy()
    category_id[own] = absent
    detections = dataclasses.replace(detections, category_id=category_id)
    image = next(each for each in content["images"] if each["id"] == image_id)
    for verified, expected in (([], True), ([absent], False)):
        image["neg_category_ids"] = verified
        found = on_incomplete(index(content), detections)
        assert (found[own] == expected).all()
        assert not found[~own].any()


def test_only_enough_of_a_detection_on_a_crowd_counts(ground_truth):
    """The crowd of class 3 covers the right half of the lower half of the image."""
    on_crowd = [((10, 10, 20, 20), 3), ((5, 10, 15, 20), 3), ((4, 10, 14, 20), 3)]
    other_class = [((10, 10, 20, 20), 1)]
    detections = columns([detection(box, category_id=c) for box, c in on_crowd + other_class])
    assert on_incomplete(ground_truth, detections).tolist() == [True, True, False, False]


def test_matched_detections_count_even_if_annotations_are_incomplete(ground_truth):
    for image in ground_truth.dataset["images"]:
        image["not_exhaustive_category_ids"] = [1]
    found = true_maskiou(ground_truth, columns(RECORDS))
    nan = np.nan
    np.testing.assert_array_equal(found.matched_or_zero, [1, 0.5, 0, nan, nan, nan])


def test_a_process_forked_from_an_evaluation_does_not_wait_for_its_threads(ground_truth):
    """The pass of a fit runs in such processes, in a training after its evaluations."""
    many = [detection((0, 0, i % 10 + 1, 10)) for i in range(60)]
    masks = [record["segmentation"] for record in many]
    hotcoco.mask.iou(masks, masks, [0] * len(masks))  # starts its threads
    annotations = ground_truth.dataset["annotations"]
    annotations += [
        {**each, "id": i, "iscrowd": 0, "area": 100} for i, each in enumerate(many, start=20)
    ]
    detections = columns(many)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=true_maskiou, args=(ground_truth, detections))
    process.start()
    process.join(300)
    process.kill()
    process.join()
    assert process.exitcode == 0
