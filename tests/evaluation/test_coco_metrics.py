import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from msrcnn.evaluation import METRICS, coco_metrics


def by_hand(ground_truth, results, iou_type):
    """The reference implementation as its own demo calls it."""
    evaluation = COCOeval(
        ground_truth, ground_truth.loadRes(json.loads(json.dumps(results))), iou_type
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(METRICS, (evaluation.stats[:6] * 100).tolist()))


def noisy_detections(ground_truth, seed=0):
    """Each instance found with a shifted box and mask and a random score, some not, some twice."""
    rng = np.random.default_rng(seed)
    boxes, masks = [], []
    for annotation in ground_truth.dataset["annotations"]:
        for _ in range(rng.choice([0, 1, 1, 2])):
            mask = ground_truth.annToMask(annotation)
            shift = rng.integers(-4, 5, size=2)
            mask = np.roll(mask, shift, axis=(0, 1))
            rle = mask_util.encode(np.asfortranarray(mask))
            common = {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"],
                "score": round(float(rng.random()), 2),  # ties happen
            }
            boxes.append({**common, "bbox": mask_util.toBbox(rle).tolist()})
            rle["counts"] = rle["counts"].decode()
            masks.append({**common, "segmentation": rle})
    return {"bbox": boxes, "segm": masks}


@pytest.fixture(params=["shapes", "coco"])
def ground_truth(request):
    if request.param == "shapes":
        root = request.getfixturevalue("shapes_root")
        return COCO(str(root / "annotations" / "instances_train.json"))
    root = request.getfixturevalue("coco_root")
    return COCO(str(root / "annotations" / "instances_val2017.json"))


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_equals_the_reference_to_the_last_digit(ground_truth, iou_type):
    results = noisy_detections(ground_truth)[iou_type]
    found = coco_metrics(ground_truth, results, iou_type)
    expected = by_hand(ground_truth, results, iou_type)
    assert 5 < found["AP"] < 95
    assert {k: -100 if v is None else v for k, v in found.items()} == expected


def test_results_are_left_alone(ground_truth):
    results = noisy_detections(ground_truth)["segm"]
    before = json.dumps(results)
    coco_metrics(ground_truth, results, "segm")
    assert json.dumps(results) == before


def test_no_detection_scores_zero(shapes_root):
    ground_truth = COCO(str(shapes_root / "annotations" / "instances_val.json"))
    metrics = coco_metrics(ground_truth, [], "segm")
    assert metrics["AP"] == metrics["AP50"] == 0
    assert metrics["APl"] is None  # no instance is that large


def test_limit_of_detections(coco_root):
    ground_truth = COCO(str(coco_root / "annotations" / "instances_val2017.json"))
    results = noisy_detections(ground_truth)["segm"]
    limited = coco_metrics(ground_truth, results, "segm", max_dets=1)["AP"]
    assert limited < coco_metrics(ground_truth, results, "segm", max_dets=100)["AP"]
