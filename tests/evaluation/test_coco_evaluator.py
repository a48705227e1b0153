import csv
import json
from dataclasses import replace

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
    METRICS,
    EvaluationSettings,
    MaskScoringEvaluator,
    evaluate_detections,
    load_predictions,
    metrics_table,
)
from msrcnn.evaluation.agreement import agreement_table
from msrcnn.evaluation.mask_quality import true_maskiou

KEYS = [
    "bbox",
    "bbox_mask_score",
    "segm_box_score",
    "segm_mask_score",
    "segm_mask_confidence",
    "segm_oracle_matched",
    "segm_oracle",
]
KEYS += ["delta", "maskiou", "box_score", "mask_confidence", "by_iou"]
KEYS += ["precision_recall", "tide", "confusion", "images", "seconds", "provenance"]


@pytest.fixture
def dataset(shapes_root):
    name = f"evaluator_{shapes_root.name}"
    path = str(shapes_root / "annotations" / "instances_val.json")
    if name not in DatasetCatalog.list():
        register_coco_instances(name, {}, path, str(shapes_root / "val"))
    return name, COCO(path)


def predictions(ground_truth, *, mask_scores=True, masks=True, seed=0):
    """Yields inputs and outputs of a model, one image at a time, with random scores."""
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
            instances.mask_confidence = torch.rand(len(annotations))
        if masks:
            shape = (0, info["height"], info["width"])
            crops = [
                np.roll(ground_truth.annToMask(a), rng.integers(0, 12), axis=0)[None]
                for a in annotations
            ]
            instances.pred_masks = torch.from_numpy(
                np.concatenate([np.zeros(shape), *crops])
            ).bool()
        yield [{"image_id": image_id}], [{"instances": instances}]


def run(dataset, output_dir, **kwargs):
    name, ground_truth = dataset
    torch.manual_seed(0)
    evaluator = MaskScoringEvaluator(name, str(output_dir), EvaluationSettings(bootstrap=50))
    evaluator.reset()
    for inputs, outputs in predictions(ground_truth, **kwargs):
        evaluator.process(inputs, outputs)
    results = evaluator.evaluate()
    return results, json.loads((output_dir / "evaluation.json").read_text())


def test_all_rankings_from_one_pass(dataset, tmp_path):
    results, evaluation = run(dataset, tmp_path)
    assert list(evaluation) == KEYS
    assert evaluation["images"] == 6
    assert evaluation["segm_box_score"] != evaluation["segm_mask_score"]
    gain = evaluation["segm_mask_score"]["AP"] - evaluation["segm_box_score"]["AP"]
    assert evaluation["delta"]["AP"] == gain
    low, high = evaluation["delta"]["ci95"]
    assert low < gain < high
    assert evaluation["bbox_mask_score"] != evaluation["bbox"]
    for key in KEYS[:7]:
        assert list(evaluation[key]) == list(METRICS)
        assert results[key]["AP"] == evaluation[key]["AP"]
        assert np.mean(evaluation["by_iou"][key]) == pytest.approx(evaluation[key]["AP"])
        assert evaluation["by_iou"][key][5] == evaluation[key]["AP75"]
    assert evaluation["segm_mask_confidence"] != evaluation["segm_mask_score"]
    for key in ("maskiou", "box_score", "mask_confidence"):
        assert evaluation[key]["n_all"] >= evaluation[key]["n"] > 10
        assert -1 <= evaluation[key]["pearson"] <= 1
        assert -1 <= evaluation[key]["pearson_all"] <= 1
    assert results["maskiou"]["pearson_all"] == evaluation["maskiou"]["pearson_all"]
    assert list(evaluation["seconds"]) == [
        *("inference", "results", "true_maskiou", "metrics", "errors", "bootstrap")
    ]
    # Detectron2 logs results of the form {task: {metric: number}}.
    assert all(isinstance(v, (int, float)) for each in results.values() for v in each.values())


def test_per_class_table(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    with (tmp_path / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rankings = KEYS[:7]
    categories = dataset[1].cats
    assert [(r["ranking"], int(r["category_id"])) for r in rows] == [
        (ranking, category_id) for ranking in rankings for category_id in sorted(categories)
    ]
    for ranking in rankings:
        of_ranking = [row for row in rows if row["ranking"] == ranking]
        for metric in METRICS:
            values = [float(row[metric]) for row in of_ranking if row[metric]]
            expected = evaluation[ranking][metric]
            assert (np.mean(values) if values else None) == pytest.approx(expected, abs=1e-4)
        assert sum(int(row["instances"]) for row in of_ranking) == sum(
            not a["iscrowd"] for a in dataset[1].dataset["annotations"]
        )


def test_result_files_give_the_same_metrics_with_pycocotools(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    ground_truth = dataset[1]
    for task, key in (("bbox", "bbox"), ("segm", "segm_mask_score")):
        path = tmp_path / "inference" / f"coco_results_{task}.json"
        expected = by_hand(ground_truth, json.loads(path.read_text()), task)
        for metric, value in evaluation[key].items():
            assert (-100 if value is None else value) == expected[metric]
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    score = detections.score.astype(float)
    true = true_maskiou(ground_truth, detections)
    matched = true.matched
    assert not np.isnan(matched).all()
    rankings = {
        "segm_box_score": score,
        "segm_mask_confidence": score * detections.mask_confidence,
        "segm_oracle_matched": score * np.where(np.isnan(matched), np.nanmean(matched), matched),
        "segm_oracle": score * true.best,
    }
    for key, ranking in rankings.items():
        expected = by_hand(ground_truth, detections.results("segm", ranking), "segm")
        assert evaluation[key]["AP"] == expected["AP"]


def test_plain_mask_rcnn(dataset, tmp_path):
    results, evaluation = run(dataset, tmp_path, mask_scores=False)
    assert evaluation["segm_mask_score"] is None
    assert evaluation["delta"] == {"AP": None, "ci95": None}
    assert evaluation["maskiou"] is None
    assert evaluation["segm_oracle"]["AP"] > 0  # the upper bound needs no predicted MaskIoU
    assert list(results) == ["bbox", "segm_box_score", "segm_oracle_matched", "segm_oracle"]
    assert (tmp_path / "inference" / "coco_results_segm.json").is_file()


def test_box_detector(dataset, tmp_path):
    results, evaluation = run(dataset, tmp_path, mask_scores=False, masks=False)
    assert evaluation["segm_box_score"] is None
    assert list(results) == ["bbox"]
    assert not (tmp_path / "inference" / "coco_results_segm.json").exists()


def test_no_detections(dataset, tmp_path):
    evaluator = MaskScoringEvaluator(dataset[0], str(tmp_path))
    evaluator.reset()
    for inputs, outputs in predictions(dataset[1]):
        evaluator.process(inputs, [{"instances": outputs[0]["instances"][:0]}])
    evaluator.evaluate()
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["bbox"]["AP"] == evaluation["segm_mask_score"]["AP"] == 0


def test_plain_model_without_detections_has_no_mask_score(dataset, tmp_path):
    evaluator = MaskScoringEvaluator(dataset[0], str(tmp_path))
    evaluator.reset()
    for inputs, outputs in predictions(dataset[1], mask_scores=False):
        evaluator.process(inputs, [{"instances": outputs[0]["instances"][:0]}])
    evaluator.evaluate()
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["segm_box_score"]["AP"] == 0
    assert evaluation["segm_mask_score"] is None


def reevaluate(dataset, tmp_path):
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    return evaluate_detections(dataset[1], detections, EvaluationSettings(bootstrap=50)).summary


def measured(summary):
    numbers = {key: summary[key] for key in summary if key not in ("seconds", "provenance")}
    quality = {**numbers["maskiou"]}
    quality.pop("false_positives", None)  # of the model, which saved predictions do not know
    return {**numbers, "maskiou": quality}


def test_saved_predictions_give_the_same_evaluation(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    assert measured(reevaluate(dataset, tmp_path)) == measured(evaluation)


def test_engines_give_the_same_evaluation(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    reference = evaluate_detections(
        dataset[1], detections, EvaluationSettings(engine="pycocotools", bootstrap=50)
    )
    assert measured(reference.summary) == measured(evaluation)


def test_without_bootstrap(dataset, tmp_path):
    run(dataset, tmp_path)
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    delta = evaluate_detections(dataset[1], detections, EvaluationSettings(bootstrap=0)).summary[
        "delta"
    ]
    assert delta["AP"] is not None
    assert delta["ci95"] is None


def test_number_of_images(dataset, tmp_path):
    """Those that were predicted; all of the dataset, if the file does not say which these are."""
    run(dataset, tmp_path)
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    for images, expected in ((detections.images[:4], 4), (None, 6)):
        rows = np.flatnonzero(np.isin(detections.image_id, detections.images[:4]))
        part = detections.take(rows, images)
        assert (
            evaluate_detections(dataset[1], part, EvaluationSettings(bootstrap=0)).summary["images"]
            == expected
        )


def test_negative_limit_means_no_limit(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    everything = evaluate_detections(
        dataset[1], detections, EvaluationSettings(max_dets=-1, bootstrap=0)
    ).summary
    assert everything["segm_mask_score"] == evaluation["segm_mask_score"]


def test_table_has_a_row_for_each_ranking(dataset, tmp_path):
    _, evaluation = run(dataset, tmp_path)
    table = metrics_table(evaluation)
    assert len(table.splitlines()) == 2 + 7
    assert f"{evaluation['segm_oracle']['AP50']:.2f}" in table


def test_agreement_is_printed_with_what_the_model_was_trained_for(dataset, tmp_path, caplog):
    evaluator = MaskScoringEvaluator(
        dataset[0], str(tmp_path), EvaluationSettings(bootstrap=0), false_positives="zero"
    )
    evaluator.reset()
    for inputs, outputs in predictions(dataset[1]):
        evaluator.process(inputs, outputs)
    with caplog.at_level("INFO"):
        evaluator.evaluate()
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["maskiou"]["false_positives"] == "zero"
    assert "false_positives" not in evaluation["box_score"]
    assert metrics_table(evaluation) in caplog.text
    assert agreement_table(evaluation) in caplog.text
    assert 'FALSE_POSITIVES "zero"' in caplog.text


def test_test_set_without_annotations(shapes_root, dataset, tmp_path, caplog):
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    del content["annotations"]
    (tmp_path / "info.json").write_text(json.dumps(content))
    name = f"test_set_{tmp_path.name}"
    register_coco_instances(name, {}, str(tmp_path / "info.json"), str(shapes_root / "val"))
    evaluator = MaskScoringEvaluator(name, str(tmp_path))
    evaluator.reset()
    for inputs, outputs in predictions(dataset[1]):
        evaluator.process(inputs, outputs)
    with caplog.at_level("INFO"):
        assert evaluator.evaluate() == {}
    assert "no annotations" in caplog.text
    assert json.loads((tmp_path / "inference" / "coco_results_segm.json").read_text())
    assert not (tmp_path / "evaluation.json").exists()


def test_annotations_without_masks_evaluate_boxes_only(shapes_root, dataset, tmp_path, caplog):
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    name = f"boxes_{tmp_path.name}"
    register_coco_instances(name, {}, str(tmp_path / "a.json"), str(shapes_root / "val"))
    _, evaluation = run((name, dataset[1]), tmp_path)
    assert evaluation["bbox"]["AP"] > 0
    assert evaluation["segm_box_score"] is evaluation["maskiou"] is None
    bare = [each["id"] for each in content["annotations"] if not each["iscrowd"]]
    assert (
        f"{len(bare)} of {len(content['annotations'])} annotations, the first with id {bare[0]}, "
        "have no segmentation: masks are not evaluated"
    ) in caplog.text


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("image_id", 999, "image_id 999"), ("category_id", 77, "category_id 77")],
)
def test_detections_of_another_dataset_are_rejected(dataset, tmp_path, column, value, message):
    run(dataset, tmp_path)
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    getattr(detections, column)[3] = value
    with pytest.raises(UserError, match=message):
        evaluate_detections(dataset[1], detections)


@pytest.mark.parametrize("column", ["score", "mask_score", "bbox"])
def test_values_that_are_not_finite_are_rejected(evaluation, column):
    values = getattr(evaluation.detections, column).copy()
    values[3] = np.nan
    detections = replace(evaluation.detections, **{column: values})
    image_id = detections.image_id[3]
    with pytest.raises(UserError, match=f"image {image_id} has a {column} that is not finite"):
        evaluate_detections(evaluation.ground_truth, detections)


def test_masks_of_another_size_are_rejected(dataset, tmp_path):
    run(dataset, tmp_path)
    detections = load_predictions(tmp_path / "inference" / "predictions.npz")
    detections.segmentation.size[0] = [7, 9]
    with pytest.raises(UserError, match=r"mask of size \[7, 9\]"):
        evaluate_detections(dataset[1], detections)


def test_model_with_other_classes_is_rejected(dataset, tmp_path):
    with pytest.raises(UserError, match="has 6 categories, but the model predicts 80"):
        MaskScoringEvaluator(dataset[0], str(tmp_path), num_classes=80)


def test_false_positives_keep_their_place_in_the_first_upper_bound(evaluation):
    """Their true MaskIoU is that of an average match, so that box score alone ranks them."""
    classes = evaluation.detections.category_id.copy()
    classes[::3] = classes[::3] % len(evaluation.ground_truth.cats) + 1  # of another class
    detections = replace(evaluation.detections, category_id=classes)
    found = evaluate_detections(
        evaluation.ground_truth, detections, EvaluationSettings(bootstrap=0)
    )
    matched, scores = found.true_maskiou.matched, found.scores
    false = np.isnan(matched)
    assert 0 < false.sum() < len(false)
    expected = scores["segm_box_score"] * np.where(false, matched[~false].mean(), matched)
    np.testing.assert_allclose(scores["segm_oracle_matched"], expected)
    assert found.summary["segm_oracle_matched"]["AP"] < found.summary["segm_oracle"]["AP"]
