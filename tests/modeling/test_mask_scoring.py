import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from rectangles import SIZE, batch, empty_ground_truth, ground_truth, losses_of
from zoo_configs import zoo_cfg

from msrcnn.modeling import MaskScoringHead

# --- training ------------------------------------------------------------------------------


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
def test_training_step(tiny_cfg, build, storage, mask_format):
    model = build(tiny_cfg)
    losses = losses_of(model, batch(ground_truth(3, mask_format), ground_truth(1, mask_format)))
    assert {"loss_mask", "loss_maskiou"} <= losses.keys()
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    latest = storage.latest()
    target, prediction, error = (
        latest[f"maskiou/{name}"][0] for name in ("target", "prediction", "abs_error")
    )
    assert 0 < target < 1
    assert error >= abs(target - prediction) - 1e-6  # a mean is below that of absolute values
    assert 0 < error < 1


def test_area_from_the_mapper_equals_the_computed_one(tiny_cfg, build, storage):
    model = build(tiny_cfg)
    without, given = ground_truth(), ground_truth()
    given.gt_mask_area = given.gt_masks.tensor.sum(dim=(1, 2)).float()
    computed = losses_of(model, batch(without))["loss_maskiou"]
    assert losses_of(model, batch(given))["loss_maskiou"] == computed
    given.gt_mask_area = 9 * given.gt_mask_area  # the field is what is used
    assert losses_of(model, batch(given))["loss_maskiou"] != computed


@pytest.mark.parametrize(
    "images",
    [
        [empty_ground_truth()],
        [empty_ground_truth(), ground_truth(2)],
        [ground_truth(0)],
        [ground_truth(1)],
    ],
    ids=["no-annotations", "one-without", "no-instances", "batch-of-one"],
)
def test_images_without_instances(tiny_cfg, build, storage, images):
    model = build(tiny_cfg)
    losses = losses_of(model, batch(*images))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()  # every parameter takes part, as data-parallel training wants
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("num_classes", [1, 6])
def test_one_class_and_class_agnostic_masks(tiny_cfg, build, storage, num_classes, agnostic):
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    tiny_cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = agnostic
    model = build(tiny_cfg)
    losses = losses_of(model, batch(ground_truth(2, num_classes=num_classes)))
    assert torch.isfinite(losses["loss_maskiou"])
    assert model.roi_heads.mask_head.maskiou_head.maskiou.out_features == num_classes
    detections = model.eval()(batch(ground_truth(2)))[0]["instances"]
    assert detections.has("mask_scores")


def head_and_samples(num_samples=4, **kwargs):
    """A mask head on its own, with features and proposals that match instances."""
    from detectron2.layers import ShapeSpec

    from msrcnn.modeling import MaskIoUHead

    torch.manual_seed(0)
    shape, mask_shape = ShapeSpec(channels=8, height=14, width=14), ShapeSpec(6, 28, 28)
    scorer = MaskIoUHead(shape, mask_shape, num_classes=6, conv_dims=[8] * 4, fc_dims=[16, 16])
    head = MaskScoringHead(shape, num_classes=6, conv_dims=[8, 8], maskiou_head=scorer, **kwargs)
    proposals = ground_truth(num_samples)
    proposals.proposal_boxes = proposals.gt_boxes
    return head, torch.randn(num_samples, 8, 14, 14, requires_grad=True), proposals


def test_maskiou_gradient_reaches_feature_and_mask_head(storage):
    head, features, proposals = head_and_samples()
    torch.nn.init.normal_(head.predictor.weight)
    head(features, [proposals])["loss_maskiou"].backward()
    assert features.grad.abs().sum() > 0
    # Through the concatenated mask: the authors' code does not detach it.
    assert head.predictor.weight.grad.abs().sum() > 0
    assert head.maskiou_head.maskiou.weight.grad.abs().sum() > 0


def test_loss_weight(storage):
    head, features, proposals = head_and_samples()
    once = head(features, [proposals])["loss_maskiou"]
    head.maskiou_loss_weight = 3.0
    assert head(features, [proposals])["loss_maskiou"].item() == pytest.approx(3 * once.item())


def test_crop_is_rasterised_once(storage, monkeypatch):
    head, features, proposals = head_and_samples()
    calls = []
    stock = BitMasks.crop_and_resize
    monkeypatch.setattr(BitMasks, "crop_and_resize", lambda *a: calls.append(1) or stock(*a))
    head(features, [proposals])
    assert len(calls) == 1


# --- inference -----------------------------------------------------------------------------


def test_scores_and_mask_scores(tiny_cfg, build):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(tiny_cfg).eval()
    detections = model(batch(ground_truth(), ground_truth()))
    for output in detections:
        instances = output["instances"]
        assert len(instances) > 0
        assert ((instances.pred_maskiou >= 0) & (instances.pred_maskiou <= 1)).all()
        assert torch.equal(instances.mask_scores, instances.scores * instances.pred_maskiou)


def test_box_scores_are_untouched(tiny_cfg, build):
    """With and without the head, boxes, classes, box scores and masks are the same."""
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    scoring = build(tiny_cfg).eval()
    tiny_cfg.MODEL.MASKIOU_ON = False
    plain = build(tiny_cfg).eval()
    plain.load_state_dict(scoring.state_dict(), strict=False)
    inputs = batch(ground_truth())
    a, b = scoring(inputs)[0]["instances"], plain(inputs)[0]["instances"]
    assert torch.equal(a.scores, b.scores)
    assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
    assert torch.equal(a.pred_masks, b.pred_masks)
    assert not b.has("mask_scores")


def test_no_detection(tiny_cfg, build):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    instances = build(tiny_cfg).eval()(batch(ground_truth()))[0]["instances"]
    assert len(instances) == 0
    assert instances.mask_scores.shape == (0,)


def test_given_boxes_without_scores(tiny_cfg, build):
    """``forward_with_given_boxes`` on bare boxes: a MaskIoU, but no mask score."""
    model = build(tiny_cfg).eval()
    given = Instances(SIZE)
    given.pred_boxes, given.pred_classes = (
        Boxes(torch.tensor([[5.0, 5, 60, 60]])),
        torch.tensor([2]),
    )
    with torch.no_grad():
        output = model.inference(batch(ground_truth()), [given], do_postprocess=False)[0]
    assert output.pred_maskiou.shape == (1,)
    assert not output.has("mask_scores")


def test_no_proposals(tiny_cfg, build):
    model = build(tiny_cfg).eval()
    nothing = Instances(SIZE)
    nothing.pred_boxes, nothing.pred_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0).long()
    with torch.no_grad():
        output = model.inference(batch(ground_truth()), [nothing], do_postprocess=False)[0]
    assert output.pred_maskiou.shape == (0,)


# --- Detectron2's own model ----------------------------------------------------------------


def test_off_equals_stock_weight_for_weight_and_number_for_number(build, storage):
    cfg = zoo_cfg()
    stock = build(cfg)
    assert type(stock.roi_heads.mask_head).__name__ == "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"
    ours = build(cfg)
    assert isinstance(ours.roi_heads.mask_head, MaskScoringHead)
    theirs, own = stock.state_dict(), ours.state_dict()
    assert list(own) == list(theirs)
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)

    inputs = batch(ground_truth(2))
    expected, found = losses_of(stock, copy.deepcopy(inputs)), losses_of(ours, inputs)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)

    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    stock.roi_heads.box_predictor.test_score_thresh = 0.0
    ours.roi_heads.box_predictor.test_score_thresh = 0.0
    expected = stock.eval()(inputs)[0]["instances"].get_fields()
    found = ours.eval()(inputs)[0]["instances"].get_fields()
    assert found.keys() == expected.keys()
    assert torch.equal(found["pred_masks"], expected["pred_masks"])
    assert torch.equal(found["scores"], expected["scores"])


def test_stock_checkpoint_lacks_only_the_maskiou_head(build):
    cfg = zoo_cfg()
    stock = build(cfg).state_dict()
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"
    cfg.MODEL.MASKIOU_ON = True
    result = build_model(cfg).load_state_dict(stock, strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys
    assert all(key.startswith("roi_heads.mask_head.maskiou_head.") for key in result.missing_keys)


def test_c4_sizes_follow_from_the_framework(build, storage):
    cfg = zoo_cfg("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml")
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringRes5Head"
    cfg.MODEL.MASKIOU_ON = True
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    model = build(cfg)
    assert model.roi_heads.mask_head.maskiou_head.maskiou_fcn1.in_channels == 2049
    losses = losses_of(model, batch(ground_truth(2)))
    assert torch.isfinite(losses["loss_maskiou"])


def test_c4_with_the_head_of_fpn_is_refused(build):
    """Features are half the size that the head was built for."""
    cfg = zoo_cfg("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml")
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"
    cfg.MODEL.MASKIOU_ON = True
    with pytest.raises(ValueError, match=r"size \(7, 7\), .*built for \(14, 14\).*Res5Head"):
        build(cfg).eval()(batch(ground_truth(2)))
