from dataclasses import replace

import numpy as np
import pytest
from noisy_detections import noisy_detections

from msrcnn.errors import UserError
from msrcnn.evaluation import (
    EvaluationSettings,
    compare_detections,
    comparison_table,
    evaluate_detections,
)
from msrcnn.evaluation.mask_quality import true_maskiou


@pytest.fixture
def detections(ground_truth):
    """The same masks without mask scores, with random and with perfect mask scores."""
    random = noisy_detections(ground_truth)
    best = true_maskiou(ground_truth, random).best.astype(np.float32)
    perfect = replace(random, maskiou=best, mask_score=random.score * best)
    plain = replace(random, maskiou=None, mask_score=None, mask_confidence=None)
    return {"plain.json": plain, "random.npz": random, "perfect.npz": perfect}


def test_gains_over_the_first(ground_truth, detections):
    comparison = compare_detections(ground_truth, detections, EvaluationSettings(bootstrap=50))
    assert comparison["baseline"] == "plain.json"
    assert list(comparison["gains"]) == ["random.npz", "perfect.npz"]
    for name, gain in comparison["gains"].items():
        summary = evaluate_detections(
            ground_truth, detections[name], EvaluationSettings(bootstrap=50)
        ).summary
        assert gain["rankings"] == ["segm_box_score", "segm_mask_score"]
        # The masks are the same, so the gain is that of the mask score.
        assert gain["AP"] == summary["delta"]["AP"]
        assert gain["ci95"] == summary["delta"]["ci95"]
        found = comparison["evaluations"][name]
        assert found["segm_mask_score"] == summary["segm_mask_score"]
    assert comparison["gains"]["perfect.npz"]["AP"] > 0


def test_boxes_are_compared_if_one_set_has_no_masks(ground_truth, detections):
    boxes = replace(detections["plain.json"], segmentation=None)
    constant = replace(boxes, score=np.ones(len(boxes)))
    files = {"a": detections["perfect.npz"], "b": constant}
    gain = compare_detections(ground_truth, files)["gains"]
    assert gain["b"]["rankings"] == ["bbox", "bbox"]
    assert gain["b"]["ci95"][0] <= gain["b"]["AP"] <= gain["b"]["ci95"][1]


def test_table(ground_truth, detections):
    comparison = compare_detections(ground_truth, detections, EvaluationSettings(bootstrap=0))
    table = comparison_table(comparison)
    for name, summary in comparison["evaluations"].items():
        assert name in table
        assert f"{summary['segm_oracle']['AP']:.2f}" in table
    gain = comparison["gains"]["perfect.npz"]["AP"]
    assert f"perfect.npz: {gain:+.2f} AP over plain.json" in table
    assert "interval" not in table
    comparison = compare_detections(ground_truth, detections, EvaluationSettings(bootstrap=20))
    low, high = comparison["gains"]["random.npz"]["ci95"]
    assert f"(95% interval {low:+.2f} to {high:+.2f})" in comparison_table(comparison)


def test_detections_of_another_dataset_are_rejected(ground_truth, detections):
    detections["random.npz"].image_id[0] = 10**9
    with pytest.raises(UserError, match="image_id 1000000000"):
        compare_detections(ground_truth, detections)


def test_predictions_that_lack_images_are_not_compared(ground_truth, detections, caplog):
    some = detections["random.npz"]
    images = some.images[:-2]
    partial = some.take(np.flatnonzero(np.isin(some.image_id, images)), images)
    with pytest.raises(UserError, match=r"part\.npz has no predictions for 2 of \d+ images"):
        compare_detections(ground_truth, {"random.npz": some, "part.npz": partial})
    evaluate_detections(ground_truth, partial, EvaluationSettings(bootstrap=0))
    assert f"2 of {len(ground_truth.imgs)} images, the first with id" in caplog.text
    caplog.clear()
    unknown = replace(partial, images=None)
    evaluate_detections(ground_truth, unknown, EvaluationSettings(bootstrap=0))
    assert "not predicted on" not in caplog.text
