import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from noisy_detections import noisy_detections
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from msrcnn.errors import UserError
from msrcnn.evaluation import ENGINES, METRICS, Detections


def by_hand(ground_truth, results, iou_type):
    """Metrics of pycocotools, called as in its own demo."""
    evaluation = COCOeval(
        ground_truth, ground_truth.loadRes(json.loads(json.dumps(results))), iou_type
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(METRICS, (evaluation.stats[:6] * 100).tolist()))


def average_precision(engine, ground_truth, detections, iou_type, max_dets=100):
    return ENGINES[engine](ground_truth).average_precision(
        detections, iou_type, detections.score.astype(float), max_dets
    )


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("engine", ENGINES)
def test_metrics_equal_pycocotools(engine, ground_truth, iou_type):
    detections = noisy_detections(ground_truth)
    found = average_precision(engine, ground_truth, detections, iou_type).metrics
    results = detections.results(iou_type, detections.score)
    expected = by_hand(ground_truth, results, iou_type)
    assert 5 < found["AP"] < 95
    assert {k: -100 if v is None else v for k, v in found.items()} == expected


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("max_dets", [1, 10, 300, -1])
@pytest.mark.parametrize("seed", [1, 2])
def test_engines_agree_bit_for_bit(ground_truth, iou_type, max_dets, seed):
    """Compares every precision value, on datasets with crowds and empty images."""
    detections = noisy_detections(ground_truth, seed)
    precision = [
        average_precision(engine, ground_truth, detections, iou_type, max_dets).precision
        for engine in ENGINES
    ]
    assert np.array_equal(*precision)
    assert precision[0].max() > 0


def test_engines_agree_on_missing_instances(ground_truth):
    """Tests categories and images without instances or detections, and an empty mask."""
    content = copy.deepcopy(ground_truth.dataset)
    content["categories"].append({"id": 1000, "name": "absent"})
    emptied = content["annotations"][0]["image_id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != emptied]
    dataset = COCO()
    dataset.dataset = content
    dataset.createIndex()
    detections = noisy_detections(ground_truth)
    height, width = detections.segmentation[3]["size"]
    empty = {"size": [height, width], "counts": b""}
    empty["counts"] = bytes(_leb(height * width))
    masks = [*detections.segmentation]
    masks[3] = empty
    detections = replace(
        detections,
        segmentation=masks,
        category_id=np.where(np.arange(len(detections)) % 7, detections.category_id, 1000),
    )
    precision = [
        average_precision(engine, dataset, detections, "segm").precision for engine in ENGINES
    ]
    assert np.array_equal(*precision)


def _leb(value):
    """Yields the bytes of a number in COCO's compressed RLE."""
    while True:
        bits, value = value & 31, value >> 5
        more = value != 0 or bits & 16
        yield bits + 48 + 32 * bool(more)
        if not more:
            return


@pytest.mark.parametrize("engine", ENGINES)
def test_no_detections_have_zero_ap(engine, shapes_root):
    ground_truth = COCO(str(shapes_root / "annotations" / "instances_val.json"))
    nothing = replace(Detections.nothing(), segmentation=[])
    for iou_type in ("bbox", "segm"):
        metrics = average_precision(engine, ground_truth, nothing, iou_type).metrics
        assert metrics["AP"] == metrics["AP50"] == 0
        assert metrics["APl"] is None  # no large instances


def test_averages_by_category_and_by_iou(ground_truth):
    detections = noisy_detections(ground_truth)
    found = average_precision("hotcoco", ground_truth, detections, "segm")
    by_category = [found.of_category(i)["AP"] for i in range(len(found.categories))]
    by_category = [value for value in by_category if value is not None]
    assert np.mean(by_category) == pytest.approx(found.metrics["AP"])
    assert np.mean(found.by_iou) == pytest.approx(found.metrics["AP"])
    assert found.by_iou[0] == found.metrics["AP50"]
    assert found.by_iou[5] == found.metrics["AP75"]


@pytest.fixture
def lvis(ground_truth):
    """The same dataset in LVIS format."""
    content = copy.deepcopy(ground_truth.dataset)
    present = {}
    for annotation in content["annotations"]:
        present.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    ids = [category["id"] for category in content["categories"]]
    for index, image in enumerate(content["images"]):
        absent = [i for i in ids if i not in present.get(image["id"], ())]
        image["neg_category_ids"] = absent[:2]
        image["not_exhaustive_category_ids"] = sorted(present.get(image["id"], ()))[: index % 2]
    for index, category in enumerate(content["categories"]):
        category["frequency"] = "rcf"[index % 3]
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
    dataset = COCO()
    dataset.dataset = content
    dataset.createIndex()
    return dataset


def annotated_pairs(dataset):
    """Pairs of image id and category id for which LVIS evaluates detections."""
    pairs = {(a["image_id"], a["category_id"]) for a in dataset.dataset["annotations"]}
    for image in dataset.dataset["images"]:
        pairs |= {(image["id"], category_id) for category_id in image["neg_category_ids"]}
    return pairs


def false_positives(dataset):
    """A false positive of every category in every image, with the highest score."""
    pairs = np.array([(i, c) for i in sorted(dataset.imgs) for c in sorted(dataset.cats)])
    return Detections(
        images=np.array(sorted(dataset.imgs)),
        image_id=pairs[:, 0],
        category_id=pairs[:, 1],
        bbox=np.tile(np.float32([0, 0, 1, 1]), (len(pairs), 1)),
        score=np.full(len(pairs), 1.5, dtype=np.float32),
    )


def joined(*parts):
    columns = ("image_id", "category_id", "bbox", "score")
    return Detections(
        images=parts[0].images,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
    )


def test_lvis_ignores_categories_that_an_image_is_not_annotated_for(lvis):
    """LVIS AP equals COCO AP of the detections that remain."""
    for image in lvis.dataset["images"]:
        image["not_exhaustive_category_ids"] = []
    detections = joined(false_positives(lvis), noisy_detections(lvis))
    found = average_precision("hotcoco", lvis, detections, "bbox", -1)
    pairs = annotated_pairs(lvis)
    rows = zip(detections.image_id.tolist(), detections.category_id.tolist())
    remaining = detections.take(np.flatnonzero([pair in pairs for pair in rows]), detections.images)
    assert len(pairs) <= len(remaining) <= len(detections)
    plain = COCO()
    plain.dataset = copy.deepcopy(lvis.dataset)
    for image in plain.dataset["images"]:
        del image["neg_category_ids"]
    plain.createIndex()
    expected = average_precision("pycocotools", plain, remaining, "bbox", -1)
    assert np.allclose(found.precision, expected.precision)
    everything = average_precision("pycocotools", plain, detections, "bbox", -1)
    if len(remaining) < len(detections):  # datasets with several categories
        assert everything.metrics["AP"] < found.metrics["AP"]


def test_lvis_ignores_false_positives_of_categories_annotated_in_part(lvis):
    detections = joined(false_positives(lvis), noisy_detections(lvis))
    found = []
    for in_part in (False, True):
        for image in lvis.dataset["images"]:
            ids = sorted(lvis.cats) if in_part else []
            image["not_exhaustive_category_ids"] = ids
        found.append(average_precision("hotcoco", lvis, detections, "bbox", -1).metrics["AP"])
    assert found[0] < found[1]


def test_lvis_by_frequency(lvis):
    found = average_precision("hotcoco", lvis, noisy_detections(lvis), "segm", 300)
    for name, code in {"APr": "r", "APc": "c", "APf": "f"}.items():
        values = [
            found.of_category(index)["AP"]
            for index, category in enumerate(found.categories)
            if category["frequency"] == code
        ]
        values = [value for value in values if value is not None]
        expected = pytest.approx(np.mean(values)) if values else None
        assert found.metrics[name] == expected


def test_lvis_limits_detections_per_image_over_all_categories(lvis):
    detections = noisy_detections(lvis)
    best = np.concatenate(
        [
            rows[np.argsort(-detections.score[rows], kind="stable")[:3]]
            for rows in (np.flatnonzero(detections.image_id == i) for i in sorted(lvis.imgs))
        ]
    )
    best.sort()
    kept = detections.take(best, detections.images)
    limited = average_precision("hotcoco", lvis, detections, "segm", 3)
    assert limited.metrics == average_precision("hotcoco", lvis, kept, "segm", 300).metrics


def test_pycocotools_rejects_lvis(lvis):
    with pytest.raises(UserError, match=r"COCO_ENGINE.*hotcoco"):
        ENGINES["pycocotools"](lvis)
