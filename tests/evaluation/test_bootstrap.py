import copy
from dataclasses import replace

import numpy as np
import pytest
from noisy_detections import noisy_detections
from pycocotools.coco import COCO

from msrcnn.data.shapes import make_split
from msrcnn.evaluation import ENGINES
from msrcnn.evaluation.bootstrap import gain_interval
from msrcnn.evaluation.mask_quality import true_maskiou

SAMPLES = 250


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
    engine = ENGINES["hotcoco"](dataset)
    matched = [
        engine.match(detections, "segm", ranking, 100, all_areas=False) for ranking in scores
    ]
    return gain_interval(*matched, samples)


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


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["shapes"], indirect=True)
def test_agrees_with_resampling_images_by_hand(dataset, capsys):
    detections, before, after = rankings(dataset)
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(SAMPLES):
        images = rng.choice(sorted(dataset.imgs), size=len(dataset.imgs)).tolist()
        sample, found, rows = resample(dataset, detections, images)
        engine = ENGINES["hotcoco"](sample)
        low, high = (
            engine.average_precision(found, "segm", ranking[rows], 100).metrics["AP"]
            for ranking in (before, after)
        )
        gains.append(high - low)
    by_hand = np.quantile(gains, [0.025, 0.975])
    width = by_hand[1] - by_hand[0]
    # Both are random: with this many samples, bounds vary by a few percent of the width.
    assert np.allclose(interval(dataset, 2000), by_hand, atol=0.2 * width)
    assert by_hand[0] > 0


def test_is_reproducible(dataset):
    assert interval(dataset, 50) == interval(copy.deepcopy(dataset), 50)


def test_interval_of_no_gain_is_zero(dataset):
    detections, before, _ = rankings(dataset)
    matched = ENGINES["hotcoco"](dataset).match(detections, "segm", before, 100)
    assert gain_interval(matched, matched, 50) == [0, 0]
