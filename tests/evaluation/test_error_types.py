import numpy as np
import pytest
from noisy_detections import noisy_detections
from pycocotools.coco import COCO
from square_scene import detections, ground_truth

from msrcnn.evaluation import EvaluationSettings, error_types, evaluate_detections
from msrcnn.evaluation.ground_truth import of_images

COUNTS = {"Cls": 1, "Loc": 1, "Both": 0, "Dupe": 1, "Bkg": 2, "Miss": 1}


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("masks", [True, False])
def test_errors_of_a_known_scene(engine, masks):
    evaluation = evaluate_detections(
        ground_truth(), detections(masks), EvaluationSettings(engine=engine, bootstrap=0)
    )
    tide = evaluation.summary["tide"]
    assert list(tide) == (["segm_box_score", "segm_mask_score"] if masks else ["bbox"])
    for ranking, found in tide.items():
        assert found["counts"] == COUNTS
        assert found["AP50"] == pytest.approx(evaluation.summary[ranking]["AP50"])
        assert found["delta_ap"].keys() == {*COUNTS, "FP", "FN"}


def test_a_gain_is_in_percentage_points():
    """Without the poor overlap, the second cat is found: recall of cats doubles."""
    (found, _) = (
        evaluate_detections(ground_truth(), detections(), EvaluationSettings(bootstrap=0))
        .summary["tide"]
        .values()
    )
    # Cats: 1 right, then 1 duplicate and 1 of the wrong class before the 4th, which becomes right.
    before, after = (51 + 0) / 101, (51 + 50 * 2 / 4) / 101
    assert found["AP50"] == pytest.approx(100 * before / 2)  # dogs have an AP of 0
    assert found["delta_ap"]["Loc"] == pytest.approx(100 * (after - before) / 2)


def test_lvis_counts_no_errors_where_an_image_is_not_annotated():
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    lvis = ground_truth(**lists)
    assert evaluate_detections(lvis, detections(), EvaluationSettings(bootstrap=0)).summary["tide"][
        "segm_box_score"
    ]["counts"] == {**COUNTS, "Bkg": 0}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_large_datasets_are_sampled(shapes_root, monkeypatch, iou_type):
    dataset = COCO(str(shapes_root / "annotations" / "instances_val.json"))
    found = noisy_detections(dataset)
    everything = error_types.error_types(dataset, found, iou_type, found.score, 100)
    assert everything["images"] == len(dataset.imgs)
    monkeypatch.setattr(error_types, "MAX_IMAGES", 3)
    sampled = error_types.error_types(dataset, found, iou_type, found.score, 100)
    assert sampled["images"] == 3
    assert 0 < sum(sampled["counts"].values()) < sum(everything["counts"].values())
    # As of a dataset of these images alone.
    images = error_types._images(dataset)
    small = COCO()
    small.dataset = of_images(dataset, set(images))
    small.createIndex()
    rows = np.flatnonzero(np.isin(found.image_id, images))
    taken = found.take(rows, np.array(images))
    assert sampled == error_types.error_types(small, taken, iou_type, taken.score, 100)
