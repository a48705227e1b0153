import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.structures import Boxes, Instances

from msrcnn.evaluation import Detections

CATEGORY_IDS = np.array([3, 7, 20])


def instances(size=2, **fields):
    result = Instances((10, 20))
    result.pred_boxes = Boxes(torch.tensor([[1.0, 2, 4, 8], [0, 0, 20, 10]])[:size])
    result.scores = torch.tensor([0.75, 0.1])[:size]
    result.pred_classes = torch.tensor([2, 0])[:size]
    for name, value in fields.items():
        result.set(name, value[:size])
    return result


def test_from_instances():
    scores = {"pred_maskiou": torch.tensor([0.5, 1]), "mask_scores": torch.tensor([0.375, 0.1])}
    found = Detections.from_instances(instances(**scores), 42, CATEGORY_IDS)
    assert found.images.tolist() == [42]
    assert found.image_id.tolist() == [42, 42]
    assert found.category_id.tolist() == [20, 3]
    assert found.bbox.tolist() == [[1, 2, 3, 6], [0, 0, 20, 10]]
    assert found.mask_score.tolist() == [0.375, np.float32(0.1)]
    assert found.maskiou.tolist() == [0.5, 1]
    assert found.segmentation is None
    assert found.mask_confidence is None


def test_from_instances_with_masks_or_rle():
    masks = torch.zeros(2, 10, 20, dtype=torch.bool)
    masks[0, 2:8, 1:4] = True
    found = Detections.from_instances(instances(pred_masks=masks), 1, CATEGORY_IDS)
    decoded = [mask_util.decode(rle) for rle in found.segmentation]
    assert np.array_equal(decoded, masks.numpy())
    again = instances(pred_masks_rle=found.segmentation)
    assert Detections.from_instances(again, 1, CATEGORY_IDS).segmentation == found.segmentation


def test_no_detections_keep_the_columns():
    output = instances(0, mask_scores=torch.zeros(2), pred_masks_rle=[{}, {}])
    found = Detections.from_instances(output, 5, CATEGORY_IDS)
    assert len(found) == 0
    assert found.bbox.shape == (0, 4)
    assert found.mask_score.shape == (0,)
    assert found.segmentation == []
    assert found.images.tolist() == [5]


def test_concatenate_sorts_by_image_and_counts_each_once():
    parts = [
        Detections.from_instances(instances(size), image_id, CATEGORY_IDS)
        for image_id, size in ((9, 2), (4, 1), (6, 0), (9, 1))
    ]
    found = Detections.concatenate(parts)
    assert found.images.tolist() == [4, 6, 9]
    assert found.image_id.tolist() == [4, 9, 9]
    assert found.score.tolist() == [0.75, 0.75, np.float32(0.1)]
    assert Detections.concatenate([]).images.tolist() == []
    # In two steps, as in distributed evaluation.
    halves = [Detections.concatenate(parts[:2]), Detections.concatenate(parts[2:])]
    again = Detections.concatenate(halves)
    assert again.image_id.tolist() == found.image_id.tolist()
    assert again.score.tolist() == found.score.tolist()


def test_concatenate_keeps_masks_with_their_detections():
    parts = []
    for image_id in (8, 2, 5):
        rles = [{"size": [10, 20], "counts": b"%d%d" % (image_id, i)} for i in range(2)]
        output = instances(pred_masks_rle=rles)
        parts.append(Detections.from_instances(output, image_id, CATEGORY_IDS))
    found = Detections.concatenate(parts)
    counts = [rle["counts"] for rle in found.segmentation]
    assert counts == [b"20", b"21", b"50", b"51", b"80", b"81"]
    assert [r["counts"] for r in found.of_image(5).segmentation] == [b"50", b"51"]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_coco_results(iou_type):
    rles = [{"size": [10, 20], "counts": b"ab"}, {"size": [10, 20], "counts": b"cd"}]
    found = Detections.from_instances(instances(pred_masks_rle=rles), 1, CATEGORY_IDS)
    first = found.results(iou_type, np.array([0.25, 0.5]))[0]
    shape = {
        "bbox": {"bbox": [1, 2, 3, 6]},
        "segm": {"segmentation": {"size": [10, 20], "counts": "ab"}},
    }
    assert first == {"image_id": 1, "category_id": 20, "score": 0.25, **shape[iou_type]}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (None, {(1, 5): [0], (2, 3): [2], (2, 7): [1, 3]}),
        ({2, 9}, {(2, 3): [2], (2, 7): [1, 3]}),
        ((), {}),
    ],
)
def test_by_image_and_category(images, expected):
    detections = Detections(
        images=None,
        image_id=np.array([1, 2, 2, 2]),
        category_id=np.array([5, 7, 3, 7]),
        bbox=np.zeros((4, 4)),
        score=np.zeros(4),
    )
    found = {key: rows.tolist() for key, rows in detections.by_image_and_category(images)}
    assert found == expected


def test_nothing_has_no_rows():
    columns = vars(Detections.nothing()).values()
    assert {len(column) for column in columns if column is not None} == {0}
