import json

import numpy as np
import pytest
from conftest import ROOT

from msrcnn.evaluation.agreement import SCORES, agreement_table, quality_statistics
from msrcnn.evaluation.mask_quality import TrueMaskIoU


def true(matched, area=None, matched_or_zero=None):
    matched = np.array(matched)
    area = np.full(len(matched), 50.0) if area is None else np.array(area, dtype=float)
    or_zero = np.nan_to_num(matched) if matched_or_zero is None else np.array(matched_or_zero)
    return TrueMaskIoU(matched, matched, or_zero, np.ones(len(matched), dtype=int), area)


def test_no_detections():
    agreement = {"pearson": None, "spearman": None, "mae": None, "n": 0}
    assert quality_statistics(np.zeros(0), true([])) == {
        **agreement,
        "calibration": [],
        "by_size": dict.fromkeys(["small", "medium", "large"], agreement),
        **{f"{key}_all": value for key, value in agreement.items()},
        "calibration_all": [],
    }


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


def test_all_detections():
    """Those without an instance count as 0, but for one that may be an object."""
    nan = np.nan
    predicted = np.array([0.9, 0.5, 0.2, 0.1, 0.7])
    found = quality_statistics(
        predicted, true([0.8, 0.6, nan, nan, nan], matched_or_zero=[0.8, 0.6, 0, 0, nan])
    )
    assert (found["n"], found["n_all"]) == (2, 4)
    assert found["mae"] == pytest.approx(0.1)
    assert found["mae_all"] == pytest.approx((0.1 + 0.1 + 0.2 + 0.1) / 4)
    kept, target = predicted[:4], [0.8, 0.6, 0, 0]
    assert found["pearson_all"] == pytest.approx(np.corrcoef(kept, target)[0, 1])
    # Ranks 4, 3, 2, 1 against 4, 3, 1.5, 1.5.
    assert found["spearman_all"] == pytest.approx(4.5 / (5 * 4.5) ** 0.5)
    assert [(b["true"], b["n"]) for b in found["calibration"]] == [(0.6, 1), (0.8, 1)]
    assert [(b["true"], b["n"]) for b in found["calibration_all"]] == [
        *((0, 1), (0, 1)),
        *((0.6, 1), (0.8, 1)),
    ]


def rows(table):
    """Values of a printed table, by score and set of detections."""
    found, score = {}, None
    for line in table.splitlines()[2:]:
        score = next((label for label in SCORES.values() if line.startswith(label)), score)
        for scope in ("matched detections", "all detections"):
            if f" {scope} " in line:
                found[score, scope] = line.split(f" {scope} ")[1].split()
    return found


def test_table(evaluation):
    table = agreement_table(evaluation.summary)
    found = rows(table)
    assert len(found) == 6
    for key, label in SCORES.items():
        for scope, suffix in (("matched detections", ""), ("all detections", "_all")):
            statistics = evaluation.summary[key]
            values = [f"{statistics[name + suffix]:.3f}" for name in ("pearson", "spearman", "mae")]
            assert found[label, scope] == [*values, f"{statistics['n' + suffix]:,}"]
    for scope in ("matched", "all"):
        assert f"\n{scope} detections: How well" in table


@pytest.mark.parametrize(
    ("false_positives", "scope"), [("ignore", "matched"), ("zero", "all"), (None, None)]
)
def test_table_says_what_the_model_was_trained_for(evaluation, false_positives, scope):
    maskiou = {**evaluation.summary["maskiou"], "false_positives": false_positives}
    table = agreement_table({**evaluation.summary, "maskiou": maskiou})
    notes = " ".join(table.split()).split("all detections: How well")
    assert ["trained to predict" in note for note in notes] == [scope == "matched", scope == "all"]
    if false_positives is not None:
        assert f'FALSE_POSITIVES "{false_positives}"' in table


def test_table_of_an_older_file():
    path = ROOT / "docs" / "results" / "nuclei_maskiou_head.json"
    summary = json.loads(path.read_text())["evaluation"]
    assert "pearson_all" not in summary["maskiou"]
    table = agreement_table(summary)
    assert {scope for _, scope in rows(table)} == {"matched detections"}
    assert f"{summary['maskiou']['pearson']:.3f}" in table


def test_nothing_to_compare(any_evaluation):
    summary = any_evaluation.summary
    compared = any(summary[key] and summary[key]["n"] for key in SCORES)
    assert bool(agreement_table(summary)) == compared
