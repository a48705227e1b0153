import pytest
from square_scene import detections, ground_truth

from msrcnn.evaluation import evaluate_detections

COUNTS = {"Cls": 1, "Loc": 1, "Both": 0, "Dupe": 1, "Bkg": 2, "Miss": 1}


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("masks", [True, False])
def test_errors_of_a_known_scene(engine, masks):
    evaluation = evaluate_detections(ground_truth(), detections(masks), engine=engine, bootstrap=0)
    tide = evaluation.summary["tide"]
    assert list(tide) == (["segm_box_score", "segm_mask_score"] if masks else ["bbox"])
    for ranking, found in tide.items():
        assert found["counts"] == COUNTS
        assert found["AP50"] == pytest.approx(evaluation.summary[ranking]["AP50"])
        assert found["delta_ap"].keys() == {*COUNTS, "FP", "FN"}


def test_a_gain_is_in_percentage_points():
    """Without the poor overlap, the second cat is found: recall of cats doubles."""
    (found, _) = (
        evaluate_detections(ground_truth(), detections(), bootstrap=0).summary["tide"].values()
    )
    # Cats: 1 right, then 1 duplicate and 1 of the wrong class before the 4th, which becomes right.
    before, after = (51 + 0) / 101, (51 + 50 * 2 / 4) / 101
    assert found["AP50"] == pytest.approx(100 * before / 2)  # dogs have an AP of 0
    assert found["delta_ap"]["Loc"] == pytest.approx(100 * (after - before) / 2)


def test_lvis_counts_no_errors_where_an_image_is_not_annotated():
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    lvis = ground_truth(**lists)
    assert evaluate_detections(lvis, detections(), bootstrap=0).summary["tide"]["segm_box_score"][
        "counts"
    ] == {**COUNTS, "Bkg": 0}
