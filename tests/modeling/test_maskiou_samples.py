import pytest
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks, masks
from rectangles import SIZE, batch, ground_truth, losses_of

from msrcnn.modeling.cropped_masks import CroppedMasks
from msrcnn.modeling.mask_confidence import mask_confidence
from msrcnn.modeling.maskiou_loss import maskiou_loss
from msrcnn.modeling.maskiou_samples import TARGETS, class_targets
from msrcnn.modeling.maskiou_target import maskiou_targets
from msrcnn.modeling.roi_heads import SharedField

M, C = 28, 6


def proposals_of(instances, boxes, matched):
    """Builds foreground proposals of one image, matched to its instances."""
    boxes = torch.tensor(boxes, dtype=torch.float32)
    own = instances.gt_masks[matched]
    return Instances(
        SIZE,
        proposal_boxes=Boxes(boxes),
        gt_classes=instances.gt_classes[matched],
        gt_masks=CroppedMasks(own.crop_and_resize(boxes, M)),
        gt_mask_area=own.tensor.sum(dim=(1, 2)).float(),
        gt_image_instances=SharedField(instances, len(boxes)),
    )


@pytest.fixture
def image():
    """Three instances side by side, of classes 0, 1 and 0."""
    instances = ground_truth(3)
    instances.gt_classes = torch.tensor([0, 1, 0])
    return instances


@pytest.fixture
def samples(image):
    first, second, _ = image.gt_boxes.tensor.tolist()
    wide = [first[0], 10, second[2], 60]  # all of the first two instances, a part of the third
    proposals = [proposals_of(image, [first, wide], torch.tensor([0, 1]))]
    torch.manual_seed(0)
    return torch.rand(2, C), torch.randn(2, C, M, M), proposals


def test_target_class_only(samples):
    maskiou, logits, proposals = samples
    found = TARGETS["target_class"]()(maskiou, logits, proposals)
    assert torch.equal(found.prediction, torch.stack([maskiou[0, 0], maskiou[1, 1]]))
    p = proposals[0]
    pred = torch.stack([logits[0, 0], logits[1, 1]]) > 0
    expected = maskiou_targets(pred, p.gt_masks.crops, p.gt_mask_area, p.proposal_boxes.tensor)
    assert torch.equal(found.target, expected)
    assert torch.equal(found.area, p.gt_mask_area)


def test_class_targets_equal_a_loop_over_classes_and_instances(samples, image):
    maskiou, logits, proposals = samples
    target, area, positive = class_targets(maskiou, logits, proposals)
    boxes = proposals[0].proposal_boxes.tensor
    for row, box in enumerate(boxes):
        for label in range(C):
            values, areas = [], []
            for j in range(3):
                crop = image.gt_masks[j].crop_and_resize(box[None], M)
                if image.gt_classes[j] == label and crop.any():
                    areas.append(image.gt_masks.tensor[j].sum().float())
                    pred = (logits[row, label] > 0)[None]
                    values.append(maskiou_targets(pred, crop, areas[-1][None], box[None]).item())
            assert positive[row, label].item() == bool(values)
            assert target[row, label].item() == pytest.approx(max(values, default=0))
            assert area[row, label].item() == max(areas, default=0)
    assert positive.sum(dim=1).tolist() == [2, 2]
    assert len(set(area.flatten().tolist())) > 3  # the first and the last instance differ


def test_class_targets_draw_each_polygon_once(samples, image, monkeypatch):
    maskiou, logits, proposals = samples
    expected = class_targets(maskiou, logits, proposals)
    x0, y0, x1, y1 = image.gt_boxes.tensor.T.tolist()
    polygons = [[[a, b, c, b, c, d, a, d]] for a, b, c, d in zip(x0, y0, x1, y1)]
    image.gt_masks = PolygonMasks(polygons)
    drawn = []
    stock = masks.polygons_to_bitmask
    monkeypatch.setattr(masks, "polygons_to_bitmask", lambda *a: drawn.append(1) or stock(*a))
    found = class_targets(maskiou, logits, proposals)
    assert len(drawn) == len(polygons)
    assert all(map(torch.equal, found, expected))


def test_all_classes_and_positive_classes(samples):
    maskiou, logits, proposals = samples
    target, area, positive = class_targets(maskiou, logits, proposals)
    all_samples = TARGETS["all_classes"]()(maskiou, logits, proposals)
    assert torch.equal(all_samples.prediction, maskiou.flatten())
    assert torch.equal(all_samples.target, target.flatten())
    assert torch.equal(all_samples.area, area.where(positive, torch.tensor(32.0**2)).flatten())
    positive_samples = TARGETS["positive_classes"]()(maskiou, logits, proposals)
    trained = positive_samples.target >= 0
    assert torch.equal(trained, positive.flatten())
    assert torch.equal(positive_samples.prediction[trained], maskiou[positive])
    assert torch.equal(positive_samples.target[trained], target[positive])
    assert torch.equal(positive_samples.area, area.flatten())


@pytest.mark.parametrize("name", ["all_classes", "positive_classes"])
def test_each_output_is_trained_as_much_as_with_the_target_class_alone(name, samples):
    """The more classes are trained, the larger the loss; not the smaller each one's gradient."""
    maskiou, logits, proposals = samples
    gradients = {}
    for design in ("target_class", name):
        outputs = maskiou.clone().requires_grad_()
        found = TARGETS[design]()(outputs, logits, proposals)
        loss = maskiou_loss(*found[:2], threshold=-0.5, area=found.area, num_masks=found.num_masks)
        (gradients[design],) = torch.autograd.grad(loss, outputs)
    assert gradients["target_class"][0, 0] != 0
    assert torch.equal(gradients["target_class"][0, 0], gradients[name][0, 0])
    trained = [(gradients[design] != 0).sum() for design in ("target_class", name)]
    assert trained[1] > trained[0] == 2


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("agnostic", [False, True])
def test_training_step(tiny_cfg, build, storage, name, agnostic):
    tiny_cfg.MODEL.ROI_HEADS.NAME = "MaskScoringROIHeads"
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.TARGET = name
    tiny_cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = agnostic
    model = build(tiny_cfg)
    for images in ([ground_truth(2, "polygon"), ground_truth(0)], [ground_truth(0)]):
        losses = losses_of(model, batch(*images))
        sum(losses.values()).backward()
        assert torch.isfinite(losses["loss_maskiou"])


@pytest.mark.parametrize("name", ["multiply", "all_masks"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_inputs(tiny_cfg, build, storage, name, agnostic):
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.INPUT = name
    tiny_cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = agnostic
    model = build(tiny_cfg)
    channels = {"multiply": 64, "all_masks": 64 + (1 if agnostic else 6)}[name]
    assert model.roi_heads.mask_head.maskiou_head.maskiou_fcn1.in_channels == channels
    assert torch.isfinite(losses_of(model, batch(ground_truth(2)))["loss_maskiou"])
    assert model.eval()(batch(ground_truth(2)))[0]["instances"].has("mask_scores")


def test_lite_head(tiny_cfg, build, storage):
    full = build(tiny_cfg).roi_heads.mask_head.maskiou_head
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.NAME = "MaskIoULiteHead"
    model = build(tiny_cfg)
    head = model.roi_heads.mask_head.maskiou_head
    assert not any(isinstance(module, torch.nn.Conv2d) for module in head.modules())
    count = [sum(p.numel() for p in h.parameters()) for h in (head, full)]
    assert count[0] < count[1] / 5
    losses = losses_of(model, batch(ground_truth(2)))
    losses["loss_maskiou"].backward()
    # The head uses the feature of the mask head.
    assert model.roi_heads.mask_head.mask_fcn1.weight.grad.abs().sum() > 0
    assert model.eval()(batch(ground_truth(2)))[0]["instances"].has("mask_scores")


def test_lite_head_beside_a_mask_head_without_convolutions(tiny_cfg, build, storage):
    """It uses the pooled feature, whose channels are not those of the mask head."""
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.NAME = "MaskIoULiteHead"
    tiny_cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 0
    tiny_cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = tiny_cfg.MODEL.FPN.OUT_CHANNELS // 2
    model = build(tiny_cfg)
    assert torch.isfinite(losses_of(model, batch(ground_truth(2)))["loss_maskiou"])
    assert model.eval()(batch(ground_truth(2)))[0]["instances"].has("mask_scores")


def test_mask_confidence_head(tiny_cfg, build, storage):
    """It has no parameters and no gradient, but predicts scores."""
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.NAME = "MaskConfidenceHead"
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(tiny_cfg)
    assert not list(model.roi_heads.mask_head.maskiou_head.parameters())
    losses = losses_of(model, batch(ground_truth(2)))
    sum(losses.values()).backward()
    assert not losses["loss_maskiou"].requires_grad
    with torch.no_grad():
        (instances,) = model.eval().inference(batch(ground_truth(2)), do_postprocess=False)
    assert len(instances) > 0
    assert torch.allclose(instances.pred_maskiou, mask_confidence(instances.pred_masks))
