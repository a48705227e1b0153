import dataclasses
import re

import pytest

from msrcnn.visualization.headline import headline
from msrcnn.visualization.text import MINUS


@pytest.mark.parametrize(
    ("gain", "interval", "expected"),
    [
        (1.234, [0.5, 2.0], r"gains 1\.23 points .*95% interval \+0\.50 to \+2\.00\)\."),
        (-1.234, [-2, -0.5], r"loses 1\.23 points .*95% interval -2\.00 to -0\.50\)\."),
        (0.2, [-0.1, 0.5], r"by \+0\.20 points \(.*-0\.10 to \+0\.50\)\. .*not statistically sig"),
        (0.0, [0.0, 0.0], "the difference is not statistically significant"),
        (3.0, None, r"by \+3\.00 points; its confidence interval was not computed"),
    ],
)
def test_headline_claims_a_gain_only_if_significant(evaluation, gain, interval, expected):
    summary = {**evaluation.summary, "delta": {"AP": gain, "ci95": interval}}
    sentence = headline(dataclasses.replace(evaluation, summary=summary))
    assert re.search(expected, sentence.replace(MINUS, "-"))
    assert ("gains" in sentence) == bool(interval and interval[0] > 0)
    perfect = summary["segm_oracle_matched"]["AP"] - summary["segm_box_score"]["AP"]
    assert sentence.endswith(f"would gain {perfect:.2f} points.")


@pytest.mark.parametrize(
    ("trained_for", "bound"), [("ignore", "segm_oracle_matched"), ("zero", "segm_oracle")]
)
def test_bound_is_that_of_what_the_head_was_trained_for(evaluation, trained_for, bound):
    maskiou = {**evaluation.summary["maskiou"], "false_positives": trained_for}
    oracle = {**evaluation.summary["segm_oracle"], "AP": 77.0}
    summary = {**evaluation.summary, "maskiou": maskiou, "segm_oracle": oracle}
    sentence = headline(dataclasses.replace(evaluation, summary=summary))
    perfect = summary[bound]["AP"] - summary["segm_box_score"]["AP"]
    assert sentence.endswith(f"would gain {perfect:.2f} points.")


@pytest.mark.parametrize(
    ("any_evaluation", "expected"),
    [
        ("plain Mask R-CNN", "predicts no MaskIoU"),
        ("box detector", "Masks are not evaluated"),
        ("no instance", "has no instances"),
        ("no detection", "There are no detections"),
    ],
    indirect=["any_evaluation"],
)
def test_headline_without_a_comparison(any_evaluation, expected):
    assert expected in headline(any_evaluation)
