import copy
from dataclasses import replace

import numpy as np
import pytest
from noisy_detections import noisy_detections
from pycocotools.coco import COCO
from stand_ins import first_images, index, stand_in

from msrcnn.data.shapes import make_split
from msrcnn.evaluation import ENGINES, EvaluationSettings, bootstrap, evaluate_detections
from msrcnn.evaluation.bootstrap import ap_interval, average_precision, draw, gain_interval
from msrcnn.evaluation.mask_quality import true_maskiou
from msrcnn.evaluation.matching import match_detections
from msrcnn.evaluation.result_files import _gain_line
from msrcnn.visualization.headline import headline


@pytest.fixture(scope="module", params=["shapes", "coco"])
def dataset(request, tmp_path_factory):
    if request.param == "coco":
        root = request.getfixturevalue("coco_root")
        return COCO(str(root / "annotations" / "instances_val2017.json"))
    return COCO(str(make_split(tmp_path_factory.mktemp("shapes"), "train", 60, seed=1)))


def rankings(dataset):
    """Detections, random scores, and scores that increase with the true MaskIoU."""
    detections = noisy_detections(dataset)
    before = detections.score.astype(float)
    return detections, before, before * true_maskiou(dataset, detections).best


def interval(dataset, samples):
    detections, *scores = rankings(dataset)
    matches = [match_detections(dataset, detections, "segm", each, 100) for each in scores]
    return gain_interval(*matches, samples)


def resample(dataset, detections, images):
    """Dataset and detections with the given images, where repeated images get new ids."""
    content = {**dataset.dataset, "images": [], "annotations": []}
    rows, ids = [], []
    for new_id, image_id in enumerate(images, start=1):
        content["images"].append({**dataset.imgs[image_id], "id": new_id})
        for annotation in dataset.imgToAnns[image_id]:
            new = {**annotation, "image_id": new_id, "id": len(content["annotations"]) + 1}
            content["annotations"].append(new)
        of_image = np.flatnonzero(detections.image_id == image_id)
        rows.append(of_image)
        ids.append(np.full(len(of_image), new_id))
    rows = np.concatenate(rows)
    sample = COCO()
    sample.dataset = content
    sample.createIndex()
    selected = detections.take(rows, np.arange(1, len(images) + 1))
    return sample, replace(selected, image_id=np.concatenate(ids)), rows


def of_one_class(dataset):
    """The dataset with its first class only."""
    first, *_ = dataset.dataset["categories"]
    annotations = [a for a in dataset.dataset["annotations"] if a["category_id"] == first["id"]]
    return index({**dataset.dataset, "categories": [first], "annotations": annotations})


@pytest.mark.parametrize("selected", [lambda dataset: dataset, of_one_class])
def test_samples_are_the_same_as_datasets_of_these_images(dataset, selected):
    """AP of a sample is that of a dataset in which images are repeated, for each ranking."""
    dataset = selected(dataset)
    detections, *scores = rankings(dataset)
    counts = draw(len(dataset.imgs), 4)
    assert counts.max() > 1  # with repeated images
    for ranking in scores:
        # Without ties: those of an image that is repeated have no order of their own.
        ranking = ranking + np.random.default_rng(0).random(len(ranking)) * 1e-9
        matches = match_detections(dataset, detections, "segm", ranking, 100)
        found = average_precision(matches, counts)
        for drawn, ap in zip(counts.T, found):
            images = np.repeat(sorted(dataset.imgs), drawn).tolist()
            sample, taken, rows = resample(dataset, detections, images)
            engine = ENGINES["hotcoco"](sample)
            expected = engine.average_precision(taken, "segm", ranking[rows], 100).metrics["AP"]
            assert ap * 100 == pytest.approx(expected, abs=1e-5)  # float32, in percent


def test_interval_is_that_of_the_gains_of_the_samples(dataset):
    detections, *scores = rankings(dataset)
    matches = [match_detections(dataset, detections, "segm", each, 100) for each in scores]
    before, after = (average_precision(each, draw(len(dataset.imgs), 60)) for each in matches)
    expected = np.quantile(after - before, [0.025, 0.975]) * 100
    assert np.allclose(gain_interval(*matches, 60), expected)
    assert 0 < expected[0] < expected[1]
    ap = ap_interval(dataset, detections, "segm", scores[1], max_dets=100, samples=60)
    assert np.allclose(ap, np.quantile(after, [0.025, 0.975]) * 100)


@pytest.mark.parametrize(("images", "too_few"), [(1, True), (19, True), (20, False)])
def test_no_interval_from_few_images(dataset, monkeypatch, images, too_few):
    monkeypatch.setattr(bootstrap, "MIN_IMAGES", 20)
    dataset = first_images(dataset, images)
    assert (interval(dataset, 10) is None) == too_few
    evaluation = evaluate_detections(dataset, stand_in(dataset), EvaluationSettings(bootstrap=10))
    assert (evaluation.summary["delta"]["ci95"] is None) == too_few
    reason = f"no interval: {images} image{'' if images == 1 else 's'}, at least 20 needed"
    for text in (headline(evaluation), _gain_line(evaluation.summary)):
        assert (reason in text) == too_few
        assert ("95% interval" in text) != too_few


def test_is_reproducible(dataset):
    assert interval(dataset, 50) == interval(copy.deepcopy(dataset), 50)


def test_interval_of_no_gain_is_zero(dataset):
    detections, before, _ = rankings(dataset)
    matches = match_detections(dataset, detections, "segm", before, 100)
    assert gain_interval(matches, matches, 50) == [0, 0]
