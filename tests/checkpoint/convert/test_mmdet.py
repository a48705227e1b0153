"""Compares converted models of mmdetection to an independent forward pass."""

import published
import pytest
import reference
import torch
from converted import convert_and_load
from detectron2.structures import Boxes, Instances
from reference import BOXES, close

from msrcnn.checkpoint.convert import convert_weights
from msrcnn.checkpoint.convert.files import CheckpointFile

CAFFE = ("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
PYTORCH = ("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
RESNEXT = {"width": 32, "groups": 8}


@pytest.fixture(scope="module", params=["caffe", "pytorch", "resnext"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def state(kind):
    """Parameters of a narrow ResNet-50."""
    options = RESNEXT if kind == "resnext" else {}
    state = reference.random_state(published.mmdet(base=16, channels=32, fc=48, **options))
    # MaskIoU of about 0.5, which is not clamped.
    state["roi_head.mask_iou_head.fc_mask_iou.weight"] *= 0.1
    state["roi_head.mask_iou_head.fc_mask_iou.bias"] += 0.5
    return state


@pytest.fixture(scope="module")
def converted(state, kind, tmp_path_factory):
    content = {"meta": {"mmdet_version": "2.3.0", "epoch": 12}, "state_dict": state}
    options = {"style": "pytorch"} if kind == "pytorch" else {}
    return convert_and_load(tmp_path_factory.mktemp("converted"), content, "mmdet", **options)


@pytest.fixture(scope="module")
def levels():
    return reference.random_levels(32, 128, 160)


@torch.no_grad()
def test_backbone(converted, state, kind):
    cfg, model = converted
    channels, mean, std = CAFFE if kind == "caffe" else PYTORCH
    assert cfg.INPUT.FORMAT == channels
    image = torch.randint(0, 256, (3, 128, 160), generator=torch.Generator().manual_seed(1)).float()
    images = model.preprocess_image([{"image": image}])
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    layers = reference.Layers(state)
    groups = RESNEXT["groups"] if kind == "resnext" else 1
    features = reference.resnet_features(
        *(layers, ((image - mean) / std)[None], "backbone.", "backbone."),
        blocks=published.R50,
        caffe=kind == "caffe",
        groups=groups,
        eps=1e-5,
    )
    found = model.backbone.bottom_up(images.tensor)
    assert all(close(*pair) for pair in zip(found.values(), features, strict=True))
    pyramid = reference.pyramid(
        *(layers, features),
        lambda i: f"neck.lateral_convs.{i}.conv",
        lambda i: f"neck.fpn_convs.{i}.conv",
    )
    found = model.backbone(images.tensor)
    assert all(close(*pair) for pair in zip(found.values(), pyramid, strict=True))


@torch.no_grad()
def test_rpn(converted, levels, state):
    """Compares all proposals before NMS."""
    _, model = converted
    layers, rpn = reference.Layers(state), model.proposal_generator
    objectness, deltas = rpn.rpn_head(levels)
    ratios = torch.tensor([0.5, 1.0, 2.0])
    for i, level in enumerate(levels):
        hidden = layers.conv(level, "rpn_head.rpn_conv").relu()
        assert close(objectness[i], layers.conv(hidden, "rpn_head.rpn_cls"))
        theirs = layers.conv(hidden, "rpn_head.rpn_reg")
        assert close(deltas[i], theirs)
        # Around the corner of each cell; ordered by row, cell and aspect ratio.
        stride = 4 * 2**i
        widths, heights = 8 * stride / ratios.sqrt(), 8 * stride * ratios.sqrt()
        anchors = torch.stack([-widths, -heights, widths, heights], dim=1) / 2
        y, x = (stride * torch.arange(n) for n in level.shape[-2:])
        y, x = torch.meshgrid(y, x, indexing="ij")
        anchors = (torch.stack([x, y, x, y], dim=-1)[:, :, None] + anchors).view(-1, 4)
        theirs = theirs[0].permute(1, 2, 0).reshape(-1, 4)
        expected = reference.decode(anchors, theirs, (1.0, 1.0, 1.0, 1.0), plus_one=0)
        ours = deltas[i].view(1, 3, 4, *level.shape[-2:]).permute(0, 3, 4, 1, 2).reshape(1, -1, 4)
        found = rpn._decode_proposals([rpn.anchor_generator(levels)[i]], [ours])[0][0]
        assert close(found, expected)


@torch.no_grad()
def test_box_head(converted, levels, state):
    _, model = converted
    layers, name = reference.Layers(state), "roi_head.bbox_head"
    x = reference.pooled(levels, BOXES, 7, aligned=True, sampling_ratio=0, plus_one=0).flatten(1)
    for i in range(2):
        x = layers.fc(x, f"{name}.shared_fcs.{i}").relu()
    scores = layers.fc(x, f"{name}.fc_cls").softmax(dim=1)
    deltas = layers.fc(x, f"{name}.fc_reg").view(-1, 4)
    stds = (0.1, 0.1, 0.2, 0.2)  # target_stds of its box coder
    weights = [1 / std for std in stds]
    expected = reference.decode(BOXES.repeat_interleave(80, dim=0), deltas, weights, plus_one=0)

    heads = model.roi_heads
    features = heads.box_pooler(levels[:4], [Boxes(BOXES)])
    predictions = heads.box_predictor(heads.box_head(features))
    proposals = [Instances((128, 160), proposal_boxes=Boxes(BOXES))]
    found = heads.box_predictor.predict_probs(predictions, proposals)[0]
    assert torch.allclose(found, scores, atol=1e-5)
    found = heads.box_predictor.predict_boxes(predictions, proposals)[0]
    assert close(found.view(-1, 4), expected)


@torch.no_grad()
def test_masks_and_maskiou(converted, levels, state):
    _, model = converted
    layers, name, iou = reference.Layers(state), "roi_head.mask_head", "roi_head.mask_iou_head"
    labels = torch.tensor([0, 79, 16, 43])  # the background is 80
    features = reference.pooled(levels, BOXES, 14, aligned=True, sampling_ratio=0, plus_one=0)
    x = features
    for i in range(4):
        x = layers.conv(x, f"{name}.convs.{i}.conv").relu()
    x = layers.deconv(x, f"{name}.upsample").relu()
    masks = layers.conv(x, f"{name}.conv_logits").sigmoid()[range(4), labels]
    maskiou = reference.maskiou(
        *(layers, features, masks),
        [f"{iou}.convs.{i}" for i in range(4)],
        [f"{iou}.fcs.{i}" for i in range(2)],
        f"{iou}.fc_mask_iou",
    )[range(4), labels]

    instances = Instances((128, 160), pred_boxes=Boxes(BOXES), pred_classes=labels)
    instances.scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    named = dict(zip(model.roi_heads.in_features, levels))
    found = model.roi_heads.forward_with_given_boxes(named, [instances])[0]
    assert torch.allclose(found.pred_masks[:, 0], masks, atol=1e-4)
    assert torch.allclose(found.pred_maskiou, maskiou, atol=1e-4)
    assert ((maskiou > 0) & (maskiou < 1)).all()  # not clamped
    assert torch.allclose(found.mask_scores, instances.scores * maskiou, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "text", "style"),
    [
        ({}, "", "caffe"),
        (RESNEXT, "", "pytorch"),
        ({}, "backbone=dict(type='ResNet', style='pytorch')", "pytorch"),
        (RESNEXT, "backbone=dict(\n    style='caffe')", "caffe"),
    ],
)
def test_default_style_is_that_of_the_file_or_the_published_models(options, text, style):
    with torch.device("meta"):
        shapes = published.mmdet(base=16, channels=32, fc=48, **options)
        state = {name: torch.empty(shape) for name, shape in shapes.items()}
        model = convert_weights(CheckpointFile(state, text), "mmdet").config["MODEL"]
    assert model["RESNETS"]["STRIDE_IN_1X1"] == (style == "caffe")
    assert model["PIXEL_STD"] == list((CAFFE if style == "caffe" else PYTORCH)[2])
