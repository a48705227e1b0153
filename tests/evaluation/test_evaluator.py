import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO
from test_coco_metrics import by_hand

from msrcnn.errors import UserError
from msrcnn.evaluation import (
    MaskScoringEvaluator,
    evaluate_records,
    load_ground_truth,
    load_records,
)
from msrcnn.evaluation.mask_quality import true_maskiou

KEYS = ["bbox", "segm_box_score", "segm_mask_score", "segm_mask_confidence", "segm_oracle"]
KEYS += ["delta", "maskiou", "images", "seconds"]


@pytest.fixture
def dataset(shapes_root):
    name = f"evaluator_{shapes_root.name}"
    path = str(shapes_root / "annotations" / "instances_val.json")
    if name not in DatasetCatalog.list():
        register_coco_instances(name, {}, path, str(shapes_root / "val"))
    return name, COCO(path)


def predictions(ground_truth, *, mask_scores=True, masks=True, seed=0):
    """Instances near the truth with random scores, one image at a time."""
    rng = np.random.default_rng(seed)
    for image_id, info in sorted(ground_truth.imgs.items()):
        annotations = [a for a in ground_truth.imgToAnns[image_id] if not a["iscrowd"]]
        instances = Instances((info["height"], info["width"]))
        boxes = np.array([a["bbox"] for a in annotations], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        instances.pred_boxes = Boxes(torch.from_numpy(boxes + rng.integers(-3, 4, boxes.shape)))
        instances.pred_classes = torch.tensor([a["category_id"] - 1 for a in annotations]).long()
        instances.scores = torch.from_numpy(rng.random(len(annotations), dtype=np.float32))
        if mask_scores:
            instances.pred_maskiou = torch.rand(len(annotations))
            instances.mask_scores = instances.scores * instances.pred_maskiou
        if masks:
            shape = (0, info["height"], info["width"])
            crops = [np.roll(ground_truth.annToMask(a), 2, axis=0)[None] for a in annotations]
            instances.pred_masks = torch.from_numpy(
                np.concatenate([np.zeros(shape), *crops])
            ).bool()
        yield [{"image_id": image_id}], [{"instances": instances}]


def run(dataset, output_dir, **kwargs):
    name, ground_truth = dataset
    torch.manual_seed(0)
    evaluator = MaskScoringEvaluator(name, str(output_dir))
    evaluator.reset()
    for inputs, outputs in predictions(ground_truth, **kwargs):
        evaluator.process(inputs, outputs)
    results = evaluator.evaluate()
    return results, json.loads((output_dir / "evaluation.json").read_text())


def test_both_rankings_from_one_pass(dataset, tmp_path):
    results, evaluation = run(dataset, tmp_path)
    assert list(evaluation) == KEYS
    assert evaluation["images"] == 6
    assert evaluation["segm_box_score"] != evaluation["segm_mask_score"]
    gain = evaluation["segm_mask_score"]["AP"] - evaluation["segm_box_score"]["AP"]
    assert evaluation["delta"] == {"AP": gain, "ci95": None}
    assert results["segm_mask_score"]["AP"] == evaluation["segm_mask_score"]["AP"]
    assert evaluation["maskiou"]["n"] > 10
    assert -1 <= evaluation["maskiou"]["pearson"] <= 1


def test_result_files_give_the_same_numbers_by_hand(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    ground_truth = dataset[1]
    for task, key in (("bbox", "bbox"), ("segm", "segm_mask_score")):
        path = tmp_path / "inference" / f"coco_results_{task}.json"
        expected = by_hand(ground_truth, json.loads(path.read_text()), task)
        for metric, value in evaluation[key].items():
            assert (-100 if value is None else value) == expected[metric]
    records = load_records(tmp_path / "inference" / "predictions.json")
    by_box_score = [
        {k: r[k] for k in ("image_id", "category_id", "segmentation", "score")} for r in records
    ]
    expected = by_hand(ground_truth, by_box_score, "segm")
    assert evaluation["segm_box_score"]["AP"] == expected["AP"]
    for result, true in zip(by_box_score, true_maskiou(ground_truth, records)[0]):
        result["score"] *= float(true)
    expected = by_hand(ground_truth, by_box_score, "segm")
    assert evaluation["segm_oracle"]["AP"] == expected["AP"]


def test_plain_mask_rcnn(dataset, tmp_path):
    results, evaluation = run(dataset, tmp_path, mask_scores=False)
    assert evaluation["segm_mask_score"] is None
    assert evaluation["delta"] == {"AP": None, "ci95": None}
    assert evaluation["maskiou"] is None
    assert evaluation["segm_oracle"]["AP"] > 0  # the upper bound needs no predicted MaskIoU
    assert list(results) == ["bbox", "segm_box_score"]
    assert (tmp_path / "inference" / "coco_results_segm.json").is_file()


def test_box_detector(dataset, tmp_path):
    results, evaluation = run(dataset, tmp_path, mask_scores=False, masks=False)
    assert evaluation["segm_box_score"] is None
    assert list(results) == ["bbox"]
    assert not (tmp_path / "inference" / "coco_results_segm.json").exists()


def test_no_detection_at_all(dataset, tmp_path):
    evaluator = MaskScoringEvaluator(dataset[0], str(tmp_path))
    evaluator.reset()
    for inputs, outputs in predictions(dataset[1]):
        evaluator.process(inputs, [{"instances": outputs[0]["instances"][:0]}])
    evaluator.evaluate()
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["bbox"]["AP"] == evaluation["segm_mask_score"]["AP"] == 0


def test_plain_model_without_a_detection_has_no_mask_score(dataset, tmp_path):
    evaluator = MaskScoringEvaluator(dataset[0], str(tmp_path))
    evaluator.reset()
    for inputs, outputs in predictions(dataset[1], mask_scores=False):
        evaluator.process(inputs, [{"instances": outputs[0]["instances"][:0]}])
    evaluator.evaluate()
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["segm_box_score"]["AP"] == 0
    assert evaluation["segm_mask_score"] is None


def test_annotations_without_areas(shapes_root, tmp_path):
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    areas = [annotation.pop("area") for annotation in content["annotations"]]
    (tmp_path / "a.json").write_text(json.dumps(content))
    name = f"without_areas_{tmp_path.name}"
    register_coco_instances(name, {}, str(tmp_path / "a.json"), str(shapes_root / "val"))
    found = [a["area"] for a in load_ground_truth(name).dataset["annotations"]]
    assert found == pytest.approx(areas, abs=3, rel=0.02)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*a\.json"):
        load_ground_truth(name)


def test_all_detections_count_where_the_limit_is_negative(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    records = load_records(tmp_path / "inference" / "predictions.json")
    everything = evaluate_records(dataset[1], records, max_dets=-1)
    assert everything["segm_mask_score"] == evaluation["segm_mask_score"]


def test_dataset_without_annotations_is_refused(tmp_path):
    with pytest.raises(UserError, match="no COCO annotation file"):
        MaskScoringEvaluator("not_registered", str(tmp_path))


@pytest.mark.parametrize("content", ["{", "{}", '[{"image_id": 1}]'])
def test_other_files_are_no_predictions(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(UserError, match=r"p\.json"):
        load_records(tmp_path / "p.json")
