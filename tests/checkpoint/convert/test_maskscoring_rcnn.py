"""Compares converted models of the authors' repository to an independent forward pass."""

import numpy as np
import published
import pytest
import reference
import torch
from converted import convert_and_load
from detectron2.structures import Boxes, Instances
from reference import BOXES, close

from msrcnn.checkpoint.convert import convert_weights
from msrcnn.checkpoint.convert.files import CheckpointFile
from msrcnn.checkpoint.convert.maskscoring_rcnn import STRIDES, MaskScoringRCNN, cell_anchors

MEAN = (102.9801, 115.9465, 122.7717)
# By stride, as computed by generate_anchors in the repository: of 32 and 64 pixels.
ANCHORS = {
    4: [[-22.0, -10.0, 25.0, 13.0], [-14.0, -14.0, 17.0, 17.0], [-10.0, -22.0, 13.0, 25.0]],
    8: [[-40.0, -20.0, 47.0, 27.0], [-28.0, -28.0, 35.0, 35.0], [-20.0, -44.0, 27.0, 51.0]],
}


@pytest.fixture(scope="module")
def state():
    """Parameters of a narrow ResNet-50."""
    state = reference.random_state(published.maskscoring_rcnn(base=16, channels=32, fc=48))
    for i, stride in enumerate(STRIDES):
        state[f"rpn.anchor_generator.cell_anchors.{i}"] = torch.tensor(cell_anchors(stride))
    # A variance far below Detectron2's epsilon.
    state["backbone.body.layer1.0.bn1.running_var"][0] = 1e-9
    state["backbone.body.layer1.0.bn1.weight"][0] = 3e-5
    # MaskIoU of about 0.5, which is not clamped.
    state["roi_heads.maskiou.predictor.maskiou.weight"] *= 0.1
    state["roi_heads.maskiou.predictor.maskiou.bias"] += 0.5
    return state


@pytest.fixture(scope="module", params=["caffe", "pytorch"])
def style(request):
    return request.param


@pytest.fixture(scope="module")
def converted(state, style, tmp_path_factory):
    content = {"model": {f"module.{name}": p for name, p in state.items()}, "iteration": 90000}
    options = {} if style == "caffe" else {"style": style}  # the default
    return convert_and_load(
        tmp_path_factory.mktemp("maskscoring_rcnn"), content, "maskscoring_rcnn", **options
    )


@pytest.fixture(scope="module")
def image():
    """A BGR image, as Detectron2 reads it for these weights."""
    return torch.randint(0, 256, (3, 128, 160), generator=torch.Generator().manual_seed(1)).float()


@pytest.fixture(scope="module")
def levels():
    return reference.random_levels(32, 128, 160)


@torch.no_grad()
def test_backbone(converted, state, style, image):
    cfg, model = converted
    assert cfg.INPUT.FORMAT == "BGR"
    images = model.preprocess_image([{"image": image}])
    layers = reference.Layers(state)
    features = reference.resnet_features(
        *(layers, (image - torch.tensor(MEAN)[:, None, None])[None]),
        *("backbone.body.", "backbone.body.stem."),
        blocks=published.R50,
        caffe=style == "caffe",
        groups=1,
        eps=0.0,
    )
    found = model.backbone.bottom_up(images.tensor)
    assert all(close(*pair) for pair in zip(found.values(), features, strict=True))
    pyramid = reference.pyramid(
        *(layers, features),
        lambda i: f"backbone.fpn.fpn_inner{i + 1}",
        lambda i: f"backbone.fpn.fpn_layer{i + 1}",
    )
    found = model.backbone(images.tensor)
    assert all(close(*pair) for pair in zip(found.values(), pyramid, strict=True))


@torch.no_grad()
def test_rpn(converted, levels, state):
    _, model = converted
    layers = reference.Layers(state)
    objectness, deltas = model.proposal_generator.rpn_head(levels)
    anchors = model.proposal_generator.anchor_generator(levels)
    for i, level in enumerate(levels):
        hidden = layers.conv(level, "rpn.head.conv").relu()
        assert close(objectness[i], layers.conv(hidden, "rpn.head.cls_logits"))
        assert close(deltas[i], layers.conv(hidden, "rpn.head.bbox_pred"))
        # Ordered by row, cell and aspect ratio.
        y, x = torch.meshgrid(
            *(STRIDES[i] * torch.arange(n) for n in level.shape[-2:]), indexing="ij"
        )
        cells = torch.stack([x, y, x, y], dim=-1)[:, :, None]
        expected = cells + state[f"rpn.anchor_generator.cell_anchors.{i}"]
        assert torch.equal(anchors[i].tensor, expected.reshape(-1, 4))


@torch.no_grad()
def test_box_head(converted, levels, state):
    _, model = converted
    layers = reference.Layers(state)
    name = "roi_heads.box"
    x = reference.pooled(levels, BOXES, 7, aligned=False, sampling_ratio=2, plus_one=1).flatten(1)
    for fc in ("fc6", "fc7"):
        x = layers.fc(x, f"{name}.feature_extractor.{fc}").relu()
    scores = layers.fc(x, f"{name}.predictor.cls_score").softmax(dim=1)
    deltas = layers.fc(x, f"{name}.predictor.bbox_pred").view(len(BOXES), 81, 4)

    heads = model.roi_heads
    features = heads.box_pooler(levels[:4], [Boxes(BOXES)])
    predictions = heads.box_predictor(heads.box_head(features))
    proposals = [Instances((128, 160), proposal_boxes=Boxes(BOXES))]
    found = heads.box_predictor.predict_probs(predictions, proposals)[0]
    assert torch.allclose(found[:, :80], scores[:, 1:], atol=1e-5)
    assert torch.allclose(found[:, 80], scores[:, 0], atol=1e-5)
    assert close(predictions[1].view(-1, 80, 4), deltas[:, 1:])


@torch.no_grad()
def test_masks_and_maskiou(converted, levels, state):
    _, model = converted
    layers = reference.Layers(state)
    name, iou = "roi_heads.mask", "roi_heads.maskiou"
    labels = torch.tensor([1, 80, 17, 44])  # the background is 0
    features = reference.pooled(levels, BOXES, 14, aligned=False, sampling_ratio=2, plus_one=1)
    x = features
    for i in range(1, 5):
        x = layers.conv(x, f"{name}.feature_extractor.mask_fcn{i}").relu()
    x = layers.deconv(x, f"{name}.predictor.conv5_mask").relu()
    masks = layers.conv(x, f"{name}.predictor.mask_fcn_logits").sigmoid()[range(4), labels]
    maskiou = reference.maskiou(
        *(layers, features, masks),
        [f"{iou}.feature_extractor.maskiou_fcn{i}" for i in range(1, 5)],
        [f"{iou}.feature_extractor.maskiou_fc{i}" for i in (1, 2)],
        f"{iou}.predictor.maskiou",
    )[range(4), labels]

    instances = Instances((128, 160), pred_boxes=Boxes(BOXES), pred_classes=labels - 1)
    instances.scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    named = dict(zip(model.roi_heads.in_features, levels))
    found = model.roi_heads.forward_with_given_boxes(named, [instances])[0]
    assert torch.allclose(found.pred_masks[:, 0], masks, atol=1e-4)
    assert torch.allclose(found.pred_maskiou, maskiou.clamp(0, 1), atol=1e-4)
    assert ((maskiou > 0) & (maskiou < 1)).all()  # not clamped
    assert torch.allclose(found.mask_scores, instances.scores * maskiou.clamp(0, 1), atol=1e-4)


def test_anchors_of_the_published_config():
    for stride, expected in ANCHORS.items():
        assert cell_anchors(stride) == expected
    for stride in STRIDES:
        anchors = np.array(cell_anchors(stride))
        assert (anchors[:, :2] + anchors[:, 2:] == stride - 1).all()  # around the center


def test_anchors_are_read_from_the_file(state):
    own = {**state, "rpn.anchor_generator.cell_anchors.2": torch.arange(12.0).view(3, 4)}
    anchors = convert_weights(CheckpointFile(own, ""), "maskscoring_rcnn").config["MODEL"][
        "ANCHOR_GENERATOR"
    ]["CELL_ANCHORS"]
    assert anchors[2] == [[0.0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert anchors[0] == ANCHORS[4]
    assert MaskScoringRCNN({}).config()["MODEL.ANCHOR_GENERATOR"]["CELL_ANCHORS"][1] == ANCHORS[8]
