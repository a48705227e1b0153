import copy
import dataclasses

import numpy as np
import pytest
from report_page import page_of
from square_scene import CAT, COW, DOG, detections, ground_truth

from msrcnn.evaluation import EvaluationSettings, evaluate_detections
from msrcnn.visualization.instances_picture import LONG_SIDE, Shape, draw_instances
from msrcnn.visualization.mask_choice import MAX_PER_IMAGE, NUM_MASKS
from msrcnn.visualization.miss_choice import (
    false_positives,
    missed_instances,
    most_overlapping,
    overlapped_instance,
)
from msrcnn.visualization.miss_section import miss_section
from msrcnn.visualization.overlay import MIN_SCORE
from msrcnn.visualization.sample_section import (
    LISTED,
    NUM_IMAGES,
    sample_section,
    sampled_images,
)


@pytest.fixture(scope="module")
def scene():
    return evaluate_detections(ground_truth(), detections(), EvaluationSettings(bootstrap=0))


def test_missed_instances_are_the_largest_that_nothing_matches(scene):
    # The dog at (30, 0) has only a detection of a cat; the cat at (60, 0) one beside it.
    assert [a["id"] for a in missed_instances(scene)] == [4, 2]  # two per image


def test_false_positives_have_the_highest_scores(scene):
    # Neither the detection on the crowd, of score 0.95, nor the duplicate, which matches.
    expected = [2, 3, 5, 6]
    assert false_positives(scene) == expected
    image_id = scene.detections.image_id[expected]
    assert np.bincount(image_id).max() == MAX_PER_IMAGE


def test_what_overlaps_most(scene):
    instances = scene.ground_truth.anns
    assert most_overlapping(scene, instances[2]) == (2, 1.0)
    assert most_overlapping(scene, instances[3]) == (3, pytest.approx(1 / 3))
    assert most_overlapping(scene, instances[4]) is None
    assert most_overlapping(scene, {**instances[4], "image_id": 2})[0] == 6
    annotation, iou = overlapped_instance(scene, 2)
    assert (annotation["id"], iou) == (2, 1.0)
    assert overlapped_instance(scene, 5) is None  # an image without instances
    assert overlapped_instance(scene, 4) is None  # only on a crowd
    no_crowd = copy.deepcopy(scene.ground_truth)
    no_crowd.anns[5]["iscrowd"] = 0
    annotation, iou = overlapped_instance(dataclasses.replace(scene, ground_truth=no_crowd), 4)
    assert (annotation["id"], iou) == (5, pytest.approx(20**2 / 40**2))


def test_section_of_misses(scene):
    text = page_of(miss_section(scene, None)).sections["Worst misses"]
    missed, wrong = text.split("False positives with the highest box scores")
    assert "dogArea900Overlapped bynothing1.png" in missed
    assert "dogArea400Overlapped bycatMaskIoU1.00Box score0.80Mask score0.401.png" in missed
    assert "catBox score0.80Mask score0.40OverlapsdogMaskIoU1.001.png" in wrong
    assert "catBox score0.60Mask score0.30Overlapsnothing2.png" in wrong


def test_at_most_so_many_misses(any_evaluation):
    if any_evaluation.true_maskiou is not None:
        assert len(missed_instances(any_evaluation)) <= NUM_MASKS
        assert len(false_positives(any_evaluation)) <= NUM_MASKS


def test_sample_is_of_any_images(evaluation):
    sampled = sampled_images(evaluation)
    assert len(set(sampled)) == NUM_IMAGES < len(evaluation.ground_truth.imgs)
    assert sampled == sampled_images(evaluation)
    # The choice does not depend on the predictions, but on the images that have some.
    few = evaluation.detections.take(np.zeros(0, dtype=int), np.array([1, 5]))
    assert sorted(sampled_images(dataclasses.replace(evaluation, detections=few))) == [1, 5]
    unknown = dataclasses.replace(evaluation.detections, images=None)
    assert sampled_images(dataclasses.replace(evaluation, detections=unknown)) == sampled


def test_scores_of_a_sample(scene):
    page = page_of(sample_section(scene, None))
    mask_scores = [f"{value:.2f}" for value in scene.detections.mask_score]
    assert page.tables["Detections in 1.png"] == [
        ["detection", "box score", "mask score"],
        ["1 cow", "0.95", mask_scores[4]],
        *(["2 cat", "0.90", mask_scores[0]], ["3 cat", "0.85", mask_scores[1]]),
        *(["4 cat", "0.80", mask_scores[2]], ["5 cat", "0.70", mask_scores[3]]),
    ]
    assert page.tables["Detections in 2.png"][1:] == [["1 cat", "0.60", "0.30"]]
    text = page.sections["Sample of predictions"]
    assert "Instances: 1 cat, 2 dog, 3 cat, 4 dog, 5 cow (crowd)" in text
    assert "Instances: none" in text
    assert f"at least {MIN_SCORE}" in text


def test_long_lists_of_a_sample_end(evaluation):
    found = evaluation.detections
    number = int((found.score >= MIN_SCORE).sum())
    assert number > LISTED
    of_one = dataclasses.replace(
        found, image_id=np.full(len(found), 1), images=np.array([1]), segmentation=None
    )
    page = page_of(sample_section(dataclasses.replace(evaluation, detections=of_one), None))
    assert f"and {number - LISTED} more" in page.text


def test_instances_are_drawn_in_place():
    truth = ground_truth()
    red, blue = (1.0, 0, 0), (0, 0, 1.0)
    scale = LONG_SIDE / 100
    pixels = np.full((100, 100, 3), 100, dtype=np.uint8)
    masks = {i: truth.annToRLE(truth.anns[i]) for i in (CAT, DOG, COW)}
    boxes = {i: np.array(truth.anns[i]["bbox"], dtype=float) for i in masks}
    shapes = [
        Shape(masks[CAT], boxes[CAT], red, ""),
        Shape(masks[DOG], boxes[DOG], blue, ""),
        Shape(None, boxes[COW], red, "7"),
    ]
    drawn = np.asarray(draw_instances(pixels, shapes)).astype(int)
    assert drawn.shape == (LONG_SIDE, LONG_SIDE, 3)
    is_red = drawn[..., 0] > drawn[..., 2] + 50
    is_blue = drawn[..., 2] > drawn[..., 0] + 50
    rows, columns = is_blue.nonzero()
    assert (rows.min(), rows.max() + 1) == pytest.approx((0, 20 * scale), abs=2)
    assert (columns.min(), columns.max() + 1) == pytest.approx((30 * scale, 50 * scale), abs=2)
    assert is_red[: int(20 * scale), : int(20 * scale)].mean() > 0.95  # filled
    box = is_red[: int(20 * scale), int(60 * scale) : int(80 * scale)]
    assert 0 < box.mean() < 0.15  # an outline
    middle = drawn[int(8 * scale) : int(12 * scale), int(68 * scale) : int(72 * scale)]
    assert middle.min() < 10  # the label: black and white
    assert middle.max() > 240
    assert (drawn[int(50 * scale) :] == 100).all()


def test_later_shapes_are_on_top():
    truth = ground_truth()
    shape = Shape(truth.annToRLE(truth.anns[1]), np.array([0, 0, 20.0, 20]), (1.0, 0, 0), "")
    top = shape._replace(color=(0, 0, 1.0))
    pixels = np.zeros((100, 100, 3), dtype=np.uint8)
    drawn = np.asarray(draw_instances(pixels, [shape, top]))
    assert drawn[..., 0].max() == 0
    assert drawn[..., 2].max() > 100
