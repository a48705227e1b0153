import copy
import dataclasses
from collections import Counter

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from msrcnn.evaluation import Detections, EvaluationSettings, evaluate_detections
from msrcnn.visualization import mask_crop
from msrcnn.visualization.mask_choice import most_moved, most_overrated
from msrcnn.visualization.mask_crop import BACKGROUND, MIN_SIDE, SIDE, square_around
from msrcnn.visualization.mask_picture import PREDICTION, TRUTH, draw_mask

WITH_MASK_SCORES = ["mask scoring", "no detection", "no instance", "one class", "coco", "nuclei"]


def expected_masks(evaluation, priority):
    """Selects masks with plain Python: (index, rank by box score, rank by mask score) of each.

    Args:
        priority: function of an index and its two ranks. Masks are sorted by it in descending
            order; those with a priority of 0 or less are left out.
    """
    detections = evaluation.detections
    instances = [a for a in evaluation.ground_truth.anns.values() if not a["iscrowd"]]
    by_box_score = sorted(range(len(detections)), key=lambda i: -float(detections.score[i]))
    best = by_box_score[: len(instances)]
    by_mask_score = best
    if detections.mask_score is not None:
        by_mask_score = sorted(best, key=lambda i: -float(detections.mask_score[i]))
    ranked = [(i, best.index(i) + 1, by_mask_score.index(i) + 1) for i in best]
    ranked = sorted((r for r in ranked if priority(*r) > 0), key=lambda r: -priority(*r))
    shown, counts = [], Counter()
    for each in ranked:
        image_id = int(detections.image_id[each[0]])
        if counts[image_id] < 2 and len(shown) < 8:
            counts[image_id] += 1
            shown.append(each)
    return shown


@pytest.mark.parametrize("any_evaluation", WITH_MASK_SCORES, indirect=True)
def test_most_moved(any_evaluation):
    down, up = most_moved(any_evaluation)
    assert down == expected_masks(any_evaluation, lambda _, box, mask: mask - box)
    assert up == expected_masks(any_evaluation, lambda _, box, mask: box - mask)


@pytest.mark.parametrize(
    "any_evaluation", ["plain Mask R-CNN", "mask scoring", "no detection", "coco"], indirect=True
)
def test_most_overrated(any_evaluation):
    score, true = any_evaluation.detections.score, any_evaluation.true_maskiou.matched

    def priority(index, *_):
        return 0 if np.isnan(true[index]) else float(score[index]) - true[index]

    expected = expected_masks(any_evaluation, priority)
    assert most_overrated(any_evaluation) == [(i, rank, None) for i, rank, _ in expected]


def test_gallery_has_at_most_two_masks_per_image(evaluation):
    for masks in most_moved(evaluation):
        assert len(masks) == 8
        images = Counter(evaluation.detections.image_id[m.index] for m in masks)
        assert max(images.values()) <= 2


def test_ties_keep_their_order(evaluation):
    """If predicted MaskIoU is the same for all masks, no rank changes, even with tied scores."""
    detections = evaluation.detections
    score = np.round(detections.score, 1)
    tied = dataclasses.replace(
        detections, score=score, maskiou=np.full(len(score), 0.5), mask_score=score * 0.5
    )
    assert most_moved(
        evaluate_detections(evaluation.ground_truth, tied, EvaluationSettings(bootstrap=0))
    ) == ([], [])


# One image of 200 x 100 pixels. All boxes are (x, y, width, height).
WIDTH, HEIGHT = 200, 100
INSTANCE = (40, 20, 60, 40)


def rectangle(box, width=WIDTH, height=HEIGHT) -> dict:
    x, y, w, h = box
    mask = np.zeros((height, width), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return mask_util.encode(mask)


def one_detection(mask, box=None, *, instance=INSTANCE, width=WIDTH, height=HEIGHT):
    """Evaluates one detection in an image with at most one instance."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": 7, "width": width, "height": height, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "object"}],
        "annotations": [],
    }
    if instance is not None:
        x, y, w, h = instance
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        common = {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0}
        annotation = {**common, "bbox": list(instance), "area": w * h, "segmentation": [polygon]}
        coco.dataset["annotations"].append(annotation)
    coco.createIndex()
    one = np.ones(1, dtype=np.float32)
    detections = Detections(
        images=np.array([7]),
        image_id=np.array([7]),
        category_id=np.array([3]),
        bbox=np.array([box or mask], dtype=np.float32),
        score=one,
        maskiou=one,
        mask_score=one,
        segmentation=[rectangle(mask, width, height)],
    )
    return evaluate_detections(coco, detections, EvaluationSettings(bootstrap=0))


def gray_image(folder, width=WIDTH, height=HEIGHT):
    Image.new("RGB", (width, height), (120, 120, 120)).save(folder / "a.png")
    return folder


def count(picture, color) -> int:
    return int((np.asarray(picture) == color).all(axis=2).sum())


def filled(picture) -> np.ndarray:
    """Bool array of shape (H, W), true where a gray image has the tint of predictions."""
    pixels = np.asarray(picture).astype(int)
    expected = 120 + 0.45 * (np.array(PREDICTION) - 120)
    return (abs(pixels - expected) <= 2).all(axis=2)


def test_prediction_is_filled_and_ground_truth_outlined(tmp_path):
    half = (40, 20, 30, 40)  # left half of the instance
    picture, found = draw_mask(one_detection(half, INSTANCE), 0, gray_image(tmp_path))
    assert found
    assert picture.size == (SIDE, SIDE)
    # The crop is 60 pixels plus 20% on either side: 84. The instance is 60 x 40.
    scale = SIDE / 84
    assert filled(picture).sum() == pytest.approx(30 * 40 * scale**2, rel=0.1)
    columns = filled(picture).any(axis=0).nonzero()[0]
    assert columns.min() == pytest.approx(12 * scale, abs=5)
    assert columns.max() == pytest.approx(42 * scale, abs=5)
    line = (np.asarray(picture) == TRUTH).all(axis=2)
    rows, columns = line.any(axis=1).nonzero()[0], line.any(axis=0).nonzero()[0]
    assert np.ptp(columns) == pytest.approx(60 * scale, abs=5)
    assert np.ptp(rows) == pytest.approx(40 * scale, abs=5)
    assert line.mean() < 0.05  # an outline, not an area
    corner = np.asarray(picture)[:5, :5].reshape(-1, 3)
    assert set(map(tuple, corner.tolist())) == {(120, 120, 120)}


def test_without_a_match_the_overlapping_instance_is_outlined(tmp_path):
    evaluation = one_detection((90, 20, 60, 40))
    assert evaluation.true_maskiou.instance[0] == 0
    assert evaluation.true_maskiou.best[0] > 0
    assert count(draw_mask(evaluation, 0, gray_image(tmp_path))[0], TRUTH) > 100


@pytest.mark.parametrize("instance", [None, (150, 80, 10, 10)])
def test_without_an_overlapping_instance_nothing_is_outlined(tmp_path, instance):
    evaluation = one_detection((40, 20, 60, 40), instance=instance)
    picture, _ = draw_mask(evaluation, 0, gray_image(tmp_path))
    assert count(picture, TRUTH) == 0
    assert filled(picture).any()


def test_empty_mask_shows_its_box(tmp_path):
    evaluation = one_detection((0, 0, 0, 0), INSTANCE)
    picture, _ = draw_mask(evaluation, 0, gray_image(tmp_path))
    assert not filled(picture).any()
    assert count(picture, TRUTH) > 100


def test_unusable_images(tmp_path):
    evaluation = one_detection(INSTANCE)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    (tmp_path / "other").mkdir()
    gray_image(tmp_path / "other", width=WIDTH + 1)
    for root in (None, tmp_path, tmp_path / "broken", tmp_path / "other", tmp_path / "missing"):
        picture, found = draw_mask(evaluation, 0, root)
        assert not found
        assert count(picture, BACKGROUND) > 1000
        assert count(picture, TRUTH) > 100


@pytest.mark.parametrize(
    "name", ["nul\0.png", "x" * 300, "", "no/such/folder/a.png", "\udc80.png", None]
)
def test_invalid_file_names(tmp_path, name):
    evaluation = one_detection(INSTANCE)
    evaluation.ground_truth.imgs[7]["file_name"] = name
    assert not draw_mask(evaluation, 0, tmp_path)[1]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    image = Image.new("RGB", (HEIGHT, WIDTH), (120, 120, 120))
    image.save(tmp_path / "a.png", exif=exif)
    assert draw_mask(one_detection(INSTANCE), 0, tmp_path)[1]


def test_gray_and_palette_images(tmp_path):
    for mode in ("L", "P", "RGBA", "I;16"):
        Image.new(mode, (WIDTH, HEIGHT)).save(tmp_path / "a.png")
        assert draw_mask(one_detection(INSTANCE), 0, tmp_path)[1], mode


def test_huge_image(tmp_path, monkeypatch):
    """Only the masks in the picture are decoded, and cropped before they are resized."""
    width, height = 6000, 4000
    box = (3000, 2000, 120, 80)
    evaluation = one_detection(box, instance=(3010, 2000, 120, 80), width=width, height=height)
    detections = evaluation.detections
    others = [rectangle((i, i, 50, 50), width, height) for i in range(50)]
    masks = [*detections.segmentation, *others]
    detections = dataclasses.replace(detections, segmentation=masks)
    evaluation = dataclasses.replace(evaluation, detections=detections)
    gray_image(tmp_path, width, height)

    decoded, crops = [], []
    decode, crop = mask_util.decode, mask_crop._crop
    monkeypatch.setattr(mask_crop.mask_util, "decode", lambda rle: decoded.append(1) or decode(rle))

    def recorded(*args):
        crops.append(crop(*args))
        return crops[-1]

    monkeypatch.setattr(mask_crop, "_crop", recorded)
    picture, found = draw_mask(evaluation, 0, tmp_path)
    assert found
    assert len(decoded) == 2
    assert [crop.size for crop in crops] == [(182, 182)] * 3  # 130 pixels and context
    assert filled(picture).mean() == pytest.approx(120 * 80 / 182**2, rel=0.1)


def test_large_object_in_a_huge_image(tmp_path):
    """A mask that is reduced in size keeps its proportion of the picture."""
    width, height = 3000, 2000
    evaluation = one_detection((0, 0, 2990, 1990), instance=None, width=width, height=height)
    picture, _ = draw_mask(evaluation, 0, gray_image(tmp_path, width, height))
    # The crop is a square around the whole image, so a third of it is outside the image.
    assert count(picture, BACKGROUND) == pytest.approx(SIDE**2 / 3, rel=0.03)
    assert filled(picture).mean() == pytest.approx(2 / 3, rel=0.05)


boxes = st.tuples(
    *(st.floats(-50, 500), st.floats(-50, 500), st.floats(0.01, 400), st.floats(0.01, 400))
)


@given(
    st.lists(boxes, min_size=1, max_size=3),
    st.integers(1, 400),
    st.integers(1, 400),
)
def test_window_is_a_square_around_the_boxes_within_the_image(around, width, height):
    around = np.array(around)
    x0, y0, x1, y1 = square_around(around, width, height)
    assert abs((x1 - x0) - (y1 - y0)) <= 1
    assert MIN_SIDE <= x1 - x0 <= max(width, height, MIN_SIDE) + 1
    low = around[:, :2].min(axis=0).clip(0, [width, height])
    high = (around[:, :2] + around[:, 2:]).max(axis=0).clip(0, [width, height])
    assert (np.array([x0, y0]) <= low + 1).all()
    assert (np.array([x1, y1]) >= high - 1).all()
    # The window extends beyond the image only if it is larger than the image.
    assert x1 - x0 > width or (x0 >= 0 and x1 <= width)
    assert y1 - y0 > height or (y0 >= 0 and y1 <= height)


def test_drawing_does_not_modify_the_evaluation(evaluation):
    before = copy.deepcopy(evaluation.ground_truth.dataset)
    masks = copy.deepcopy(evaluation.detections.segmentation)
    draw_mask(evaluation, 0, None)
    assert evaluation.ground_truth.dataset == before
    assert evaluation.detections.segmentation == masks
