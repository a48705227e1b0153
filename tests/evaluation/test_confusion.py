import dataclasses

import pytest
from square_scene import CAT, COW, DOG, detections, ground_truth

from msrcnn.evaluation import EvaluationSettings, evaluate_detections
from msrcnn.evaluation.confusion import confusion
from msrcnn.evaluation.mask_quality import true_maskiou

# By class of the instance and of the detection; None: no instance, or no detection.
CELLS = {
    (CAT, CAT): 1,
    (CAT, None): 1,  # the detection beside it overlaps too little
    (DOG, CAT): 1,
    (DOG, None): 1,
    (None, CAT): 3,  # the duplicate, the one beside its instance, and one on background
}


def as_dict(found):
    cells = {(cell["true"], cell["predicted"]): cell["n"] for cell in found["cells"]}
    assert len(cells) == len(found["cells"])
    return cells


@pytest.mark.parametrize("masks", [True, False])
def test_confusions_of_a_known_scene(masks):
    summary = evaluate_detections(
        ground_truth(), detections(masks), EvaluationSettings(bootstrap=0)
    ).summary
    found = summary["confusion"]
    assert as_dict(found) == CELLS
    assert found["iou_type"] == ("segm" if masks else "bbox")


def test_masks_without_annotated_masks_are_compared_as_boxes():
    truth = ground_truth()
    for each in truth.dataset["annotations"]:
        del each["segmentation"]
    assert as_dict(confusion(truth, detections(), None)) == CELLS


def test_a_crowd_is_no_instance_of_another_class():
    found = detections()
    found.category_id[4] = DOG  # a dog on a crowd of cows
    truth = ground_truth()
    cells = as_dict(confusion(truth, found, true_maskiou(truth, found)))
    assert cells == {**CELLS, (None, DOG): 1}
    assert not any(COW in pair for pair in cells)


def test_lvis_counts_no_detection_of_a_class_that_was_not_verified():
    lvis = ground_truth(neg_category_ids=[], not_exhaustive_category_ids=[])
    for found in (detections(), detections(masks=False)):
        true = None if found.segmentation is None else true_maskiou(lvis, found)
        assert as_dict(confusion(lvis, found, true)) == {**CELLS, (None, CAT): 2}
    lvis = ground_truth(neg_category_ids=[CAT], not_exhaustive_category_ids=[])
    assert as_dict(confusion(lvis, found, None)) == CELLS


def test_score_at_the_threshold_counts():
    found = detections()
    found.score[-1] = 0.5
    truth = ground_truth()
    cells = as_dict(confusion(truth, found, true_maskiou(truth, found)))
    assert cells == {**CELLS, (None, DOG): 1}


def test_no_detections():
    nothing = dataclasses.replace(detections(False).take([], None))
    expected = {(CAT, None): 2, (DOG, None): 2}
    assert as_dict(confusion(ground_truth(), nothing, None)) == expected
