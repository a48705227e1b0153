"""Training of the MaskIoU head on the detections of the current model."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from rectangles import SIZE, batch, empty_ground_truth, ground_truth, losses_of
from zoo_configs import framework_cfg

from msrcnn.engine import use_scoring_parts
from msrcnn.modeling import MaskScoringHead
from msrcnn.modeling.detection_samples import (
    DetectionSampler,
    draw_detections,
    evaluation_mode,
    match_instances,
    without_duplicates,
)
from msrcnn.modeling.maskiou_loss import area_weights
from msrcnn.modeling.maskiou_samples import NEUTRAL_AREA

M, C = 28, 6
# The instances of ground_truth(2): class 0 with A, class 1 with B.
A, B = [8.0, 10, 30, 60], [28.0, 10, 52, 60]
HALF_A, LESS_OF_A = [8.0, 10, 30, 35], [8.0, 10, 30, 34]


def detections_of(*found):
    """Detections of an image, given as (box, class)."""
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(torch.tensor([box for box, _ in found]).reshape(-1, 4))
    instances.pred_classes = torch.tensor([c for _, c in found], dtype=torch.int64)
    return instances


@pytest.fixture
def images():
    """Detections and instances of an image, and of one without instances."""
    first = detections_of((A, 0), (A, 1), (B, 1), (HALF_A, 0), (LESS_OF_A, 0))
    return [first, detections_of((A, 0))], [ground_truth(2), empty_ground_truth()]


def test_matched_with_the_nearest_instance_of_the_class(images):
    first, second = (match_instances(*image) for image in zip(*images))
    assert first.tolist() == [0, -1, 1, 0, -1]  # an IoU of 0.5 is enough
    assert second.tolist() == [-1]


def test_first_detection_of_an_instance_counts(images):
    """Detections come by decreasing score."""
    match = torch.tensor([2, -1, 0, 2, -1, 0, 1, 2])
    assert without_duplicates(match).tolist() == [2, -1, 0, -1, -1, -1, 1, -1]
    assert without_duplicates(match[:0]).shape == (0,)
    sampler = DetectionSampler(
        num_proposals=10, limit=10, false_positives=True, one_per_instance=True
    )
    with EventStorage():
        samples, _ = sampler(*images)
    # HALF_A matches the same instance as A.
    assert sorted(samples.gt_instance.tolist()) == [-1, -1, -1, 0, 1]


@pytest.mark.parametrize(
    ("limit", "false_positives", "sizes"),
    [
        (10, True, [3 + 2, 1]),
        (4, True, [3 + 1, 1]),
        (2, True, [2, 1]),  # matched ones come first
        (10, False, [3, 0]),
        (2, False, [2, 0]),
    ],
)
def test_draw(images, limit, false_positives, sizes):
    matches = [match_instances(*image) for image in zip(*images)]
    rows = draw_detections(matches, limit, false_positives=false_positives)
    assert [len(r) for r in rows] == sizes
    assert all(len(set(r.tolist())) == len(r) for r in rows)
    matched = {0, 2, 3} & set(rows[0].tolist())
    assert len(matched) == min(limit, 3)


def test_two_false_positives_per_match_over_the_batch():
    matches = [torch.tensor([-1] * 10), torch.tensor([0] + [-1] * 10)]
    torch.manual_seed(0)
    drawn = [draw_detections(matches, 8, false_positives=True) for _ in range(20)]
    assert all(len(first) + len(second) == 3 for first, second in drawn)
    assert all(0 in second for _, second in drawn)
    assert {len(first) for first, _ in drawn} == {0, 1, 2}
    nothing = draw_detections(matches[:1], 8, false_positives=True)
    assert nothing[0].tolist() == []


class GivenMaskIoU(torch.nn.Module):
    """Predicts 0.1, 0.2, ... for the samples."""

    uses_mask_features = False

    def forward(self, features, mask_logits, classes):
        return (torch.arange(1, len(classes) + 1) / 10)[:, None].expand(-1, C)


@pytest.mark.parametrize("thresh", [0.0, 0.3])
@pytest.mark.parametrize("loss_type", ["l2", "area_weighted_l2"])
def test_loss_by_hand(images, storage, thresh, loss_type):
    head = MaskScoringHead(
        ShapeSpec(channels=8, height=14, width=14),
        num_classes=C,
        conv_dims=[8],
        maskiou_head=GivenMaskIoU(),
        maskiou_loss_type=loss_type,
        maskiou_loss_weight=3.0,
        maskiou_thresh=thresh,
    )
    detections, targets = images
    sampler = DetectionSampler(num_proposals=10, limit=10, false_positives=True)
    samples = sampler(detections, targets)
    assert storage.latest()["maskiou/num_matched"][0] == 3 / 2
    assert storage.latest()["maskiou/num_unmatched"][0] == 3 / 2
    logits = torch.full((6, C, M, M), -1.0)
    logits[..., : M // 2] = 1  # the left half of every box
    loss = head.detection_losses(None, logits, samples, targets)["loss_maskiou"]

    expected = []
    for index, (box, instance) in enumerate(
        (box, instance)
        for image in samples
        for box, instance in zip(image.proposal_boxes.tensor.tolist(), image.gt_instance.tolist())
    ):
        # Half of a whole instance; half of HALF_A, with as much of the instance outside.
        target = 0.0 if instance < 0 else 0.25 if box == HALF_A else 0.5
        area = NEUTRAL_AREA if instance < 0 else [22.0 * 50, 24.0 * 50][instance]
        if instance < 0 or target > thresh:
            expected.append((0.5 * ((index + 1) / 10 - target) ** 2, area))
    assert len(expected) == (6 if thresh == 0 else 5)
    losses, areas = (torch.tensor(column) for column in zip(*expected))
    if loss_type == "area_weighted_l2":
        losses = area_weights(areas) * losses
    assert loss.item() == pytest.approx(3 * losses.mean().item(), rel=1e-5)


# --- in a model ----------------------------------------------------------------------------


@pytest.fixture
def cfg(tiny_cfg):
    """The smallest model, trained on detections from the first iteration."""
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    head = tiny_cfg.MODEL.ROI_MASKIOU_HEAD
    head.SAMPLES, head.FALSE_POSITIVES, head.INPUT_SCALARS = "detections", "zero", True
    use_scoring_parts(tiny_cfg)
    return tiny_cfg


def given_detections(model, monkeypatch, *detections):
    """Lets the box inference return these detections."""

    def detect(features, proposals):
        assert not torch.is_grad_enabled()
        assert not any(module.training for module in model.roi_heads.modules())
        assert all(len(p) <= model.roi_heads.detection_sampler.num_proposals for p in proposals)
        assert not any(p.has("gt_classes") for p in proposals)
        return list(detections)

    monkeypatch.setattr(model.roi_heads, "_detect", detect)


def test_only_the_maskiou_head_learns_from_detections(cfg, build, storage, monkeypatch):
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 7
    model = build(cfg).train()
    norm = model.roi_heads.mask_head.maskiou_head.scalar_norm
    before = norm.mean.clone()
    model.roi_heads.box_head.eval()  # as TRAIN_ONLY sets parts
    given_detections(model, monkeypatch, detections_of((A, 0), (B, 2)))
    sizes = []
    model.roi_heads.mask_head.maskiou_head.register_forward_hook(
        lambda module, inputs, output: sizes.append(len(output))
    )
    torch.manual_seed(2)
    losses = model(batch(ground_truth(2)))
    assert sizes == [2]  # no proposal
    assert model.roi_heads.mask_head.training
    assert not model.roi_heads.box_head.training
    losses["loss_maskiou"].backward(retain_graph=True)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (".maskiou_head." in name), name
    assert torch.equal(norm.mean, before)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert storage.latest()["maskiou/num_matched"][0] == 1
    assert storage.latest()["maskiou/num_unmatched"][0] == 1


@pytest.mark.parametrize("truth", [empty_ground_truth, lambda: ground_truth(2)])
def test_nothing_to_train_on(cfg, build, storage, monkeypatch, truth):
    model = build(cfg)
    given_detections(model, monkeypatch, detections_of())
    losses = losses_of(model, batch(truth()))
    assert losses["loss_maskiou"] == 0
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def test_proposals_come_first_and_the_detector_is_the_same(cfg, build, storage, monkeypatch):
    """Until DETECTIONS_FROM, losses are bit for bit those of proposals; then all others are."""
    cfg.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM = 1
    switching = build(cfg)
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_MASKIOU_HEAD.SAMPLES = "proposals"
    stock = build(cfg)
    stock.load_state_dict(switching.state_dict())
    given_detections(switching, monkeypatch, detections_of((A, 0)))
    expected = losses_of(stock, batch(ground_truth(2)))
    found = losses_of(switching, batch(ground_truth(2)))
    assert list(found) == list(expected)
    assert found == expected
    storage.step()
    found = losses_of(switching, batch(ground_truth(2)))
    assert found.pop("loss_maskiou") != expected.pop("loss_maskiou")
    assert found == expected


def test_evaluation_mode_restores_every_part():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model[1].eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False]


def test_mixed_precision(cfg, build, storage, monkeypatch):
    """Box inference without gradient must not leave weights without one in autocast's cache."""
    model = build(cfg)
    infer = model.roi_heads._detect
    given_detections(model, monkeypatch, detections_of((A, 0), (B, 2)))
    given = model.roi_heads._detect
    monkeypatch.setattr(model.roi_heads, "_detect", lambda *a: infer(*a) and given(*a))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(model, batch(ground_truth(2)))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("nms_type", ["nms", "soft_linear"])
@pytest.mark.parametrize("name", ["fpn", "cascade"])
def test_detections_are_those_of_inference(name, nms_type, build, storage, monkeypatch):
    cfg = framework_cfg(name, SAMPLES="detections", FALSE_POSITIVES="zero", INPUT="high_res")
    cfg.MODEL.ROI_HEADS.NMS_TYPE = nms_type
    cfg.TEST.DETECTIONS_PER_IMAGE = 30
    model = build(cfg)
    calls, detect = [], model.roi_heads._detect

    def spy(features, proposals):
        detections = detect(features, proposals)
        calls.append((features, proposals, detections))
        return detections

    monkeypatch.setattr(model.roi_heads, "_detect", spy)
    losses = losses_of(model, batch(ground_truth(2), ground_truth(1)))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    ((features, proposals, found),) = calls
    assert [len(p) for p in proposals] == [20, 20]
    latest = storage.latest()
    total = latest["maskiou/num_matched"][0] + latest["maskiou/num_unmatched"][0]
    assert total == sum(map(len, found)) / 2 > 0
    with torch.no_grad():
        expected, _ = model.eval().roi_heads(None, features, proposals)
    for ours, theirs in zip(found, expected):
        assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
        assert torch.equal(ours.pred_classes, theirs.pred_classes)
        assert torch.equal(ours.scores, theirs.scores)
