import json

import pytest

from msrcnn.ablation.breakdown import breakdown
from msrcnn.errors import UserError
from msrcnn.evaluation import student_interval

NOTHING = {"AP": None, "APs": None, "APm": None, "APl": None}


def agreement(pearson, calibration):
    values = {"pearson": pearson, "spearman": 0.5, "mae": 0.1, "calibration": calibration}
    return values | {f"{name}_all": value for name, value in values.items()}


def evaluation(box, mask, *, confidence=None):
    """Returns an evaluation with small instances only."""

    def metrics(ap):
        return {**NOTHING, "AP": ap, "APs": ap + 1}

    by_iou = {"bbox": [50.0] * 10, "segm_box_score": [box + 9.0 - 2 * i for i in range(10)]}
    by_iou["segm_mask_score"] = [mask + 9.0 - 2 * i for i in range(10)]
    calibration = [{"predicted": 0.1, "true": 0.4, "n": 1}, {"predicted": 0.6, "true": 0.5, "n": 3}]
    return {
        "segm_box_score": metrics(box),
        "segm_mask_score": metrics(mask),
        "segm_mask_confidence": confidence and metrics(confidence),
        "segm_oracle_matched": metrics(50.0),
        "segm_oracle": metrics(60.0),
        "maskiou": agreement(0.7, calibration),
        "box_score": agreement(None, []),
        "mask_confidence": None,
        "by_iou": by_iou,
    }


@pytest.fixture
def table(tmp_path):
    def table(name, box, mask):
        path = tmp_path / f"{name}.csv"
        lines = ["ranking,category_id,category,instances,AP"]
        for ranking, ap in (("bbox", 50), ("segm_box_score", box), ("segm_mask_score", mask)):
            lines += [f'{ranking},1,"cup, mug",5,{ap}', f"{ranking},2,never seen,0,"]
        path.write_text("\n".join(lines) + "\n")
        return path

    return table


@pytest.fixture
def found(table):
    evaluations = [evaluation(40, 42, confidence=41), evaluation(30, 33, confidence=30)]
    return breakdown(evaluations, [table("a", 20, 25), table("b", 10, 11)])


def test_gains_are_between_rankings_of_the_same_seed(found):
    group = found["all"]["all"]
    assert group["AP"] == {
        "segm_box_score": 35,
        "segm_mask_score": 37.5,
        "segm_mask_confidence": 35.5,
        "segm_oracle_matched": 50,
        "segm_oracle": 60,
    }
    assert group["gain"]["mean"] == 2.5
    assert group["gain"]["std"] == pytest.approx(0.5**0.5)
    assert group["gain"]["ci95"] == student_interval([2, 3])
    assert group["free_gain"]["mean"] == 0.5


def test_groups_by_size_threshold_and_class(found):
    assert list(found["size"]) == ["small"]  # there are no others
    assert found["size"]["small"]["AP"]["segm_mask_score"] == 38.5
    assert list(found["iou"]) == [f"{0.5 + 0.05 * i:.2f}" for i in range(10)]
    assert found["iou"]["0.50"]["AP"]["segm_box_score"] == 44
    assert found["iou"]["0.95"]["AP"]["segm_box_score"] == 26
    assert "free_gain" not in found["iou"]["0.95"]  # not evaluated here
    assert list(found["class"]) == ["cup, mug"]
    assert found["class"]["cup, mug"]["gain"]["mean"] == 3


def test_agreement_and_calibration(found):
    maskiou = found["agreement"]["maskiou"]
    assert maskiou["pearson"] == 0.7
    assert maskiou["calibration_error"] == pytest.approx((0.3 + 3 * 0.1) / 4)
    assert found["agreement"]["box_score"]["pearson"] is None
    assert found["agreement"]["box_score"]["calibration_error_all"] is None
    assert found["agreement"]["mask_confidence"]["mae"] is None


def test_one_seed_has_no_interval(table):
    found = breakdown([evaluation(40, 42)], [table("a", 20, 25)])
    assert found["all"]["all"]["gain"] == {"mean": 2, "std": None, "ci95": None}
    json.dumps(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*: No such file or directory"),
        (b"ranking,AP\nbbox,5\n", "damaged .*category"),
        (b"ranking,category,AP\nbbox,cup,high\n", "damaged .*'high'"),
        (b"ranking,category,AP\nbbox,\xff,5\n", "damaged .*utf-8"),
    ],
)
def test_a_table_of_classes_that_cannot_be_read_is_named(content, message, tmp_path):
    path = tmp_path / "per_class.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{message}.*: delete 'result.json' beside it") as caught:
        breakdown([evaluation(40, 42)], [path])
    assert str(path) in str(caught.value)


def test_without_mask_score_there_is_none():
    plain = {**evaluation(40, 42), "segm_mask_score": None}
    assert breakdown([plain], []) is None
    assert breakdown([], []) is None
