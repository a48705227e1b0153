"""The probability that a mask is correct, from its score."""

import math

import numpy as np
import pytest
import square_scene
import torch
from pycocotools.cocoeval import COCOeval
from stand_ins import stand_in

from msrcnn.engine.config_values import check_values
from msrcnn.errors import UserError
from msrcnn.modeling.mask_score import mask_probability
from msrcnn.scores.calibration import (
    MIN_SAMPLES,
    calibration_error,
    fit_calibration,
    right_masks,
)

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_probability_keeps_the_order(kind):
    scores = np.linspace(0, 1, 101)
    found = np.asarray(mask_probability(kind(scores), 2.0, 3.0))
    assert found[0] == 0
    assert (np.diff(found) > 0).all()
    expected = 1 / (1 + np.exp(-(2.0 * np.log(scores[1:]) + 3.0)))
    np.testing.assert_allclose(found[1:], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize(("slope", "offset"), [(20.0, 100.0), (40.0, 200.0), (2.0, -800.0)])
def test_probability_of_extreme_fits(kind, slope, offset):
    scores = np.array([0.0, 1e-3, 0.01, 1.0], dtype=np.float32)
    found = np.asarray(mask_probability(kind(scores), slope, offset))
    expected = [0, *(math.exp(-np.logaddexp(0, -slope * math.log(s) - offset)) for s in scores[1:])]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_fit_finds_the_curve_that_made_the_data():
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    probability = mask_probability(scores, 1.7, 1.2)
    right = (rng.random(len(scores)) < probability).astype(float)
    right[::10] = np.nan
    found = fit_calibration(scores, right)
    assert found == pytest.approx((1.7, 1.2), abs=0.1)
    before, after = (
        calibration_error(each, right) for each in (scores, mask_probability(scores, *found))
    )
    assert after < 0.02 < before


def test_targets_of_the_fit_are_those_of_platt():
    """30 right and 10 wrong masks of the same score; a score of 0 has no logarithm."""
    scores = np.repeat([0.5, 0.0], [40, 5])
    right = np.repeat([1.0, 0.0, 1.0], [30, 10, 5])
    found = mask_probability(scores[:1], *fit_calibration(scores, right))
    assert found == pytest.approx((30 * 31 / 32 + 10 * 1 / 12) / 40, abs=1e-4)


def test_too_few_samples_give_none():
    scores = np.linspace(0.1, 1, 40)
    for positives in (0, MIN_SAMPLES - 1, 40 - MIN_SAMPLES + 1, 40):
        assert fit_calibration(scores, np.arange(40) >= 40 - positives) is None
    assert fit_calibration(scores, (np.arange(40) >= 20).astype(float)) is not None
    assert fit_calibration(scores, np.full(40, np.nan)) is None


def test_scores_that_say_nothing_never_turn_the_order():
    scores = np.linspace(0.1, 1, 40)
    slope, _ = fit_calibration(scores, (np.arange(40) < 20).astype(float))  # the lower ones right
    assert slope > 0


def test_calibration_error_by_hand():
    # In [0, 0.1): mean 0.05, none right; in [0.8, 0.9): mean 0.85, half right; the last is unknown.
    probability = np.array([0.05, 0.05, 0.85, 0.85, 0.3])
    right = np.array([0, 0, 0, 1, np.nan])
    assert calibration_error(probability, right) == pytest.approx((2 * 0.05 + 2 * 0.35) / 4)
    assert calibration_error(np.array([1.0]), np.array([1.0])) == 0


def test_right_masks_are_those_of_cocos_evaluation(ground_truth):
    detections = stand_in(ground_truth)
    scores = detections.mask_score
    right = right_masks(ground_truth, detections, scores)
    results = ground_truth.loadRes(detections.results("segm", scores))
    evaluation = COCOeval(ground_truth, results, "segm")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.maxDets = [10_000]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    expected = {}
    for each in filter(None, evaluation.evalImgs):
        for row, match, ignored in zip(
            each["dtIds"], each["dtMatches"][0], each["dtIgnore"][0], strict=True
        ):
            expected[row] = np.nan if ignored else float(match > 0)
    theirs = np.array([expected[row + 1] for row in range(len(detections))])
    known = ~np.isnan(right) & ~np.isnan(theirs)
    assert known.mean() > 0.9
    assert 0 < right[known].mean() < 1
    assert np.array_equal(right[known], theirs[known])


def test_right_masks_of_a_known_scene():
    """A duplicate is wrong, and a detection on a crowd of its class is neither right nor wrong."""
    found = square_scene.detections()
    right = right_masks(square_scene.ground_truth(), found, found.mask_score)
    np.testing.assert_array_equal(right, [1, 0, 0, 0, np.nan, 0, 0])


@pytest.mark.parametrize("value", [(1.0,), (0, 1), (-1.0, 2.0), ("a", "b")])
def test_calibrations_that_are_none(tiny_cfg, value):
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION = value
    with pytest.raises(UserError, match="CALIBRATION is .*a slope above 0 and an offset"):
        check_values(tiny_cfg)


def test_model_predicts_it_and_keeps_everything_else(tiny_cfg, build):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    inputs = [{"image": torch.full((3, 96, 96), 100, dtype=torch.uint8)}]
    found = []
    for calibration in ((), (2.0, 3.0)):
        tiny_cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION = calibration
        with torch.no_grad():
            (output,) = build(tiny_cfg).eval()(inputs)
        found.append(output["instances"])
    plain, calibrated = found
    assert not plain.has("mask_probability")
    assert len(plain) > 3
    for field in ("scores", "mask_scores", "pred_maskiou", "pred_masks"):
        assert torch.equal(plain.get(field), calibrated.get(field))
    expected = mask_probability(calibrated.mask_scores, 2.0, 3.0)
    assert torch.equal(calibrated.mask_probability, expected)
