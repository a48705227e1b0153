import math

import pytest
import torch
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_device import DEVICE, PretendDevice

from msrcnn.benchmark.soft_nms_time import Operators
from msrcnn.config import get_msrcnn_cfg
from msrcnn.modeling import SoftNMS, soft_nms
from msrcnn.modeling.soft_nms import soft_nms_inference


def reference(boxes, scores, classes, nms_type, sigma, iou_thresh, min_score):
    """The published algorithm in plain Python, class by class; sorted by decreasing score."""

    def iou(a, b):
        w = min(a[2], b[2]) - max(a[0], b[0])
        h = min(a[3], b[3]) - max(a[1], b[1])
        if w <= 0 or h <= 0:
            return 0.0
        areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return w * h / (areas - w * h)

    found = []
    for label in sorted(set(classes)):
        left = [[s, i] for i, (s, c) in enumerate(zip(scores, classes)) if c == label]
        while left:
            best = max(left, key=lambda entry: (entry[0], -entry[1]))
            left.remove(best)
            found.append(tuple(best))
            for entry in left:
                overlap = iou(boxes[best[1]], boxes[entry[1]])
                if nms_type == "soft_gaussian":
                    entry[0] *= math.exp(-(overlap**2) / sigma)
                elif overlap >= iou_thresh:
                    entry[0] *= 1 - overlap
    return sorted((f for f in found if f[0] >= min_score), key=lambda f: -f[0])


def candidates(number, num_classes, seed, spread=60):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator, dtype=torch.float64) * spread
    size = 5 + 30 * torch.rand(number, 2, generator=generator, dtype=torch.float64)
    scores = torch.rand(number, generator=generator, dtype=torch.float64)
    classes = torch.randint(num_classes, (number,), generator=generator)
    return torch.cat([corner, corner + size], dim=1).float(), scores, classes


def compare(boxes, scores, classes, nms_type, topk):
    soft_nms = SoftNMS(nms_type, sigma=0.5, iou_thresh=0.3, min_score=0.01)
    keep, kept = soft_nms(boxes, scores, classes, topk)
    expected = reference(
        boxes.tolist(), scores.tolist(), classes.tolist(), nms_type, 0.5, 0.3, 0.01
    )[:topk]
    assert torch.allclose(kept, torch.tensor([e[0] for e in expected]).to(kept), atol=1e-5)
    # Boxes of different classes with equal scores may be in any order.
    assert len({int(i) for i in keep}) == len(keep)
    expected_scores = {i: score for score, i in expected}
    for index, score in zip(keep.tolist(), kept.tolist()):
        if index in expected_scores:
            assert score == pytest.approx(expected_scores[index], abs=1e-5)
        else:  # one of several boxes with the same score at the cutoff
            assert score == pytest.approx(expected[-1][0], abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(0, 60),
    num_classes=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    nms_type=st.sampled_from(["soft_linear", "soft_gaussian"]),
    topk=st.integers(1, 80),
)
def test_equals_the_published_algorithm(number, num_classes, seed, nms_type, topk):
    compare(*candidates(number, num_classes, seed), nms_type, topk)


@pytest.mark.parametrize("nms_type", ["soft_linear", "soft_gaussian"])
@pytest.mark.parametrize("number", [0, 1, 2, 1500])
def test_number_of_boxes(number, nms_type):
    compare(*candidates(number, 3, 0, spread=200), nms_type, 100)


@pytest.mark.parametrize("nms_type", ["soft_linear", "soft_gaussian"])
def test_identical_boxes_and_ties(nms_type):
    boxes, scores, classes = candidates(12, 2, 1)
    boxes, scores = boxes[:1].expand(12, 4).contiguous(), torch.full((12,), 0.8)
    compare(boxes, scores, classes, nms_type, 12)


def test_boxes_without_area():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10]])
    classes = torch.zeros(3, dtype=torch.int64)
    keep, kept = SoftNMS("soft_linear")(boxes, torch.tensor([0.9, 0.8, 0.7]), classes, -1)
    assert keep.tolist() == [0, 1, 2]
    assert kept.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_steps_are_bounded_by_the_detections_kept(monkeypatch):
    calls = []
    stock = SoftNMS._factors
    monkeypatch.setattr(SoftNMS, "_factors", lambda *a: calls.append(1) or stock(*a))
    SoftNMS("soft_linear")(*candidates(3000, 10, 0), 100)
    assert len(calls) == 100


@pytest.mark.parametrize("nms_type", ["soft_linear", "soft_gaussian"])
def test_a_step_takes_few_operators(nms_type):
    """A GPU is bound by their number; no more than 900 for 300 boxes of which 100 are kept."""
    with Operators() as operators:
        SoftNMS(nms_type)(*candidates(300, 10, 0), 100)
    assert operators.count <= 900


@pytest.mark.parametrize("nms_type", ["soft_linear", "soft_gaussian"])
def test_all_pairs_at_once_give_the_same_as_those_of_each_step(nms_type, monkeypatch):
    boxes, scores, classes = candidates(200, 3, 0)
    found = []
    for limit in (200, 199):
        monkeypatch.setattr(soft_nms, "MATRIX_BOXES_CPU", limit)
        with Operators() as operators:
            found.append((SoftNMS(nms_type)(boxes, scores, classes, 50), operators.count))
    (one, few), (other, many) = found
    assert all(map(torch.equal, one, other))
    assert few < many


def test_inference_without_overlap_equals_plain_nms():
    """Without overlaps nothing is suppressed, so the result must equal Detectron2's."""
    torch.manual_seed(0)
    corner = torch.arange(40).float()[:, None] * 20
    one = torch.cat([corner, corner, corner + 10, corner + 10], dim=1)
    for boxes in (one, one.repeat(1, 3)):  # class-agnostic and class-specific regression
        scores = torch.rand(40, 4).softmax(dim=1)
        boxes[3], scores[7] = float("nan"), float("inf")
        arguments = ([boxes], [scores], [(700, 790)])
        theirs, rows = fast_rcnn_inference(*arguments, 0.3, 0.5, 20)
        ours, own_rows = soft_nms_inference(*arguments, 0.3, SoftNMS("soft_linear"), 20)
        assert len(ours[0]) == len(theirs[0]) > 5
        assert torch.equal(ours[0].pred_boxes.tensor, theirs[0].pred_boxes.tensor)
        assert torch.equal(ours[0].scores, theirs[0].scores)
        assert torch.equal(ours[0].pred_classes, theirs[0].pred_classes)
        if not torch.isnan(boxes).any():
            assert torch.equal(own_rows[0], rows[0])


@pytest.mark.parametrize("columns", [4, 12])
def test_image_without_boxes(columns):
    found, rows = soft_nms_inference(
        [torch.zeros(0, columns)], [torch.zeros(0, 4)], [(10, 10)], 0.1, SoftNMS("soft_linear"), 5
    )
    assert len(found[0]) == len(rows[0]) == 0
    assert found[0].has("scores")


def test_a_box_is_kept_once_without_a_minimum_score():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).expand(4, 4)
    soft_nms = SoftNMS("soft_linear", min_score=0.0)
    keep, _ = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.zeros(4), -1)
    assert sorted(keep.tolist()) == [0, 1, 2, 3]


def test_the_host_waits_once_for_all_steps():
    with PretendDevice() as device:
        SoftNMS("soft_gaussian")(*(x.to(DEVICE) for x in candidates(30, 2, 0)), 20)
    assert len(device.reads) == 1, device.reads


def test_defaults_are_those_of_the_config():
    cfg = get_msrcnn_cfg()
    cfg.MODEL.ROI_HEADS.NMS_TYPE = "soft_gaussian"
    assert vars(SoftNMS.from_config(cfg)) == vars(SoftNMS("soft_gaussian"))


def test_unknown_type():
    with pytest.raises(ValueError, match="'soft_linear', 'soft_gaussian'"):
        SoftNMS("hard")
