import pytest
import torch
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances
from rectangles import SIZE, batch, ground_truth
from test_roi_heads import framework_cfg

from msrcnn.modeling.mask_score import mask_probability
from msrcnn.modeling.test_time_augmentation import MaskScoringRCNNWithTTA, _Views

pytestmark = pytest.mark.slow


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.TEST.AUG.MIN_SIZES = (64, 96, 128)
    tiny_cfg.TEST.AUG.MAX_SIZE = 200
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 20
    return tiny_cfg


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def inputs():
    (record,) = batch(ground_truth())
    return [{"image": record["image"].byte(), "height": SIZE[0], "width": SIZE[1]}]


def test_both_scores_and_stock_boxes_and_masks(cfg, build):
    model = build(cfg).eval()
    ours = MaskScoringRCNNWithTTA(cfg, model)(inputs())[0]["instances"]
    theirs = GeneralizedRCNNWithTTA(cfg, model)(inputs())[0]["instances"]
    assert len(ours) > 5
    assert torch.equal(ours.scores, theirs.scores)
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
    assert torch.equal(ours.pred_masks, theirs.pred_masks)
    assert torch.equal(ours.mask_scores, ours.scores * ours.pred_maskiou)


def test_merged_detections_have_the_calibrated_probability(cfg, build):
    cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION = (2.0, 3.0)
    found = MaskScoringRCNNWithTTA(cfg, build(cfg).eval())(inputs())[0]["instances"]
    assert len(found) > 5
    assert torch.equal(found.mask_probability, mask_probability(found.mask_scores, 2.0, 3.0))


def test_merged_mask_is_scored_on_the_scoring_view(cfg, build):
    model = build(cfg).eval()
    tta = MaskScoringRCNNWithTTA(cfg, model)
    views, transforms = tta._get_augmented_inputs(inputs()[0])
    index = tta._scoring_view(views, transforms)
    assert min(views[index]["image"].shape[1:]) == cfg.INPUT.MIN_SIZE_TEST == 96
    assert torch.equal(views[index]["image"], inputs()[0]["image"])  # neither flipped nor resized
    assert index == 2  # of the first batch, of 3

    merged = Instances(SIZE)
    merged.pred_boxes = Boxes(torch.tensor([[5.0, 5, 60, 60], [20, 10, 90, 80]]))
    merged.pred_classes, merged.scores = torch.tensor([1, 4]), torch.tensor([0.9, 0.5])
    merged.pred_masks = torch.rand(2, 1, 28, 28)
    tta._score(merged, views, _Views(model, views, tta.batch_size), transforms)

    # Apply the head to the RoI features of the view and the merged masks.
    features = model.backbone(model.preprocess_image(views[:3]).tensor)
    maps = [features[name][index : index + 1] for name in model.roi_heads.mask_in_features]
    x = model.roi_heads.mask_pooler(maps, [merged.pred_boxes])
    logits = merged.pred_masks.logit(eps=1e-6).expand(2, 6, 28, 28)
    head = model.roi_heads.mask_head.maskiou_head
    expected = head(x, logits, merged.pred_classes)[[0, 1], merged.pred_classes]
    assert torch.allclose(merged.pred_maskiou, expected.clamp(0, 1), atol=1e-6)


def test_scoring_view_of_images_that_are_not_resized(cfg, build):
    cfg.INPUT.MIN_SIZE_TEST = 0
    tta = MaskScoringRCNNWithTTA(cfg, build(cfg).eval())
    views, transforms = tta._get_augmented_inputs(inputs()[0])
    view = views[tta._scoring_view(views, transforms)]
    assert torch.equal(view["image"], inputs()[0]["image"])


def test_scoring_view_of_a_long_image(cfg, build):
    """Its long side limits the test scale, here to 40 of 96 pixels."""
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 160
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (24, 40, 96), 400
    image = torch.zeros(3, 40, 160, dtype=torch.uint8)  # as resized from 100 x 400
    tta = MaskScoringRCNNWithTTA(cfg, build(cfg).eval())
    views, transforms = tta._get_augmented_inputs({"image": image, "height": 100, "width": 400})
    assert views[tta._scoring_view(views, transforms)]["image"].shape == (3, 40, 160)


@pytest.mark.parametrize("maskiou", [True, False])
def test_no_view_passes_a_part_twice(cfg, build, maskiou):
    """Six views in batches of 3; the MaskIoU head scores one of them."""
    cfg.MODEL.MASKIOU_ON = maskiou
    model = build(cfg).eval()
    views = []
    model.backbone.register_forward_hook(lambda m, x, y: views.append(len(x[0])))
    mask_head, scored = model.roi_heads.mask_head, []
    if maskiou:
        maskiou_head = mask_head.maskiou_head
        maskiou_head.register_forward_hook(lambda m, x, y: scored.append(len(y)))
    instances = MaskScoringRCNNWithTTA(cfg, model)(inputs())[0]["instances"]
    assert views == [3, 3]
    assert scored == ([len(instances)] if maskiou else [])
    if maskiou:
        assert mask_head.maskiou_head is maskiou_head


@pytest.mark.parametrize("nms_type", ["soft_linear", "soft_gaussian"])
def test_soft_nms(cfg, build, nms_type):
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.NMS_TYPE = "MaskScoringROIHeads", nms_type
    instances = MaskScoringRCNNWithTTA(cfg, build(cfg).eval())(inputs())[0]["instances"]
    assert (instances.scores[:-1] >= instances.scores[1:]).all()
    assert instances.has("mask_scores")


@pytest.mark.parametrize("nms_type", ["nms", "soft_linear"])
def test_no_detections(cfg, build, nms_type):
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.NMS_TYPE = "MaskScoringROIHeads", nms_type
    instances = MaskScoringRCNNWithTTA(cfg, build(cfg).eval())(inputs())[0]["instances"]
    assert len(instances) == 0
    assert instances.mask_scores.shape == (0,)


@pytest.mark.parametrize("name", ["c4", "cascade"])
def test_every_framework(name, build):
    cfg = framework_cfg(name)
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (64, 96), 200
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.MODEL.ROI_HEADS.NMS_TYPE = "soft_linear"
    instances = MaskScoringRCNNWithTTA(cfg, build(cfg).eval())(inputs())[0]["instances"]
    assert len(instances) == 5
    assert torch.equal(instances.mask_scores, instances.scores * instances.pred_maskiou)


def test_plain_mask_rcnn_is_unchanged(cfg, build):
    cfg.MODEL.MASKIOU_ON = False
    model = build(cfg).eval()
    found, expected = (
        tta(cfg, model)(inputs())[0]["instances"].get_fields()
        for tta in (MaskScoringRCNNWithTTA, GeneralizedRCNNWithTTA)
    )
    assert len(expected["scores"]) > 0
    assert found.keys() == expected.keys()
    assert torch.equal(found.pop("pred_boxes").tensor, expected.pop("pred_boxes").tensor)
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
