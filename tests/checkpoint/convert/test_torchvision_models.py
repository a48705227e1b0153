"""Compares converted torchvision models to torchvision itself, from image to detections."""

import re
from typing import NamedTuple

import pytest
import torch
import torchvision
from converted import convert_and_load
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances
from reference import BOXES, close
from torchvision.models import detection
from torchvision.ops.misc import FrozenBatchNorm2d

from msrcnn.checkpoint.convert import convert_weights
from msrcnn.checkpoint.convert.files import CheckpointFile
from msrcnn.checkpoint.convert.torchvision_models import COCO_IDS
from msrcnn.config import get_msrcnn_cfg

IMAGE_SIZE = (128, 192)  # multiples of 64, see docs/checkpoints.md on the coarsest level
PROPOSALS, DETECTIONS = 60, 15
OLD_NAMES = (  # of torchvision before 0.13 and of the published file
    (r"(backbone\.fpn\.\w+_blocks\.\d)\.0\.", r"\1."),
    (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    (r"roi_heads\.mask_head\.(\d)\.0\.", lambda m: f"roi_heads.mask_head.mask_fcn{int(m[1]) + 1}."),
)


class Kind(NamedTuple):
    builder: str
    num_outputs: int = 91
    old_names: bool = False
    frozen: bool = False  # frozen batch norm with epsilon 0


KINDS = {
    "published": Kind("maskrcnn_resnet50_fpn", old_names=True, frozen=True),
    "coco": Kind("maskrcnn_resnet50_fpn"),
    "custom dataset": Kind("maskrcnn_resnet50_fpn", num_outputs=4),
    "v2": Kind("maskrcnn_resnet50_fpn_v2"),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in KINDS if name != "published"]


def make_model(kind):
    """Builds a model with random weights that detects objects of many classes."""
    torch.manual_seed(0)
    model = getattr(detection, kind.builder)(
        weights=None,
        weights_backbone=None,
        num_classes=kind.num_outputs,
        min_size=min(IMAGE_SIZE),  # do not resize the image
        rpn_post_nms_top_n_test=PROPOSALS,
        box_detections_per_img=DETECTIONS,
    ).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
            if name.endswith("bn3"):  # or else the residuals add up to hundreds
                module.weight.data.fill_(0.2)
    predictor = model.roi_heads.box_predictor
    torch.nn.init.normal_(predictor.cls_score.weight, std=1.0)
    torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.5)
    torch.nn.init.normal_(model.rpn.head.bbox_pred.weight, std=0.1)
    torch.nn.init.normal_(model.rpn.head.cls_logits.weight, std=0.1)
    if kind.num_outputs == 91:  # a trained model does not predict unused categories
        unused = [i for i in range(1, 91) if i not in COCO_IDS]
        predictor.cls_score.bias.data[unused] = -1000.0
    return freeze(model) if kind.frozen else model


def foreground(kind):
    """Returns torchvision's labels in the order of Detectron2's classes."""
    return COCO_IDS if kind.num_outputs == 91 else list(range(1, kind.num_outputs))


def freeze(model):
    """Freezes batch norms with epsilon 0, as torchvision does for the published model."""
    for module in list(model.modules()):
        for name, norm in list(module.named_children()):
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_var[0] = 1e-7
                norm.weight.data[0] = 3e-4
                frozen = FrozenBatchNorm2d(norm.num_features, eps=0.0)
                frozen.load_state_dict(norm.state_dict())
                setattr(module, name, frozen)
    return model


@pytest.fixture(scope="module", params=["published", *SLOW])
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def theirs(kind):
    return make_model(kind)


@pytest.fixture(scope="module")
def ours(theirs, kind, tmp_path_factory):
    state = theirs.state_dict()
    if kind.old_names:
        for pattern, old in OLD_NAMES:
            state = {re.sub(pattern, old, name): value for name, value in state.items()}
        theirs.load_state_dict(state)  # torchvision accepts the old names, too
    cfg, model = convert_and_load(tmp_path_factory.mktemp("converted"), state, "torchvision")
    model.proposal_generator.post_nms_topk[False] = PROPOSALS
    model.roi_heads.box_predictor.test_topk_per_image = DETECTIONS
    return cfg, model


@pytest.fixture(scope="module")
def image():
    """RGB in [0, 255], as Detectron2 expects it; torchvision expects [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, *IMAGE_SIZE), generator=generator).float()


@pytest.fixture(scope="module")
def features(theirs, image):
    with torch.no_grad():
        images, _ = theirs.transform([image / 255])
        assert images.image_sizes == [IMAGE_SIZE]
        return images, theirs.backbone(images.tensors)


@torch.no_grad()
def test_backbone(theirs, ours, image, features):
    cfg, model = ours
    assert cfg.INPUT.FORMAT == "RGB"
    images, pyramid = features
    found = model.preprocess_image([{"image": image}]).tensor
    assert torch.allclose(found, images.tensors, atol=1e-5)
    stages = theirs.backbone.body(images.tensors)
    for expected, stage in zip(stages.values(), model.backbone.bottom_up(found).values()):
        assert close(stage, expected)
    found = list(model.backbone(found).values())
    assert len(found) == len(pyramid) == 5
    for level, expected in zip(found, pyramid.values()):
        assert close(level, expected)


@torch.no_grad()
def test_rpn(theirs, ours, features):
    _, model = ours
    images, pyramid = features
    levels = list(pyramid.values())
    expected, found = theirs.rpn.head(levels), model.proposal_generator.rpn_head(levels)
    for kind in range(2):  # objectness, deltas
        assert all(close(*pair) for pair in zip(found[kind], expected[kind], strict=True))
    anchors = torch.cat([a.tensor for a in model.proposal_generator.anchor_generator(levels)])
    assert torch.equal(anchors, theirs.rpn.anchor_generator(images, levels)[0])


@torch.no_grad()
def test_class_outputs(theirs, ours, features, kind):
    """Compares all outputs of all classes, in the order of COCO's ids."""
    _, model = ours
    ids = foreground(kind)
    pyramid = dict(features[1])
    rois = theirs.roi_heads.box_roi_pool(pyramid, [BOXES], [IMAGE_SIZE])
    logits, deltas = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(rois))
    heads, levels = model.roi_heads, list(pyramid.values())[:4]
    found = heads.box_predictor(heads.box_head(heads.box_pooler(levels, [Boxes(BOXES)])))
    assert close(found[0], logits[:, [*ids, 0]])
    assert close(found[1].view(4, len(ids), 4), deltas.view(4, -1, 4)[:, ids])

    rois = theirs.roi_heads.mask_roi_pool(pyramid, [BOXES], [IMAGE_SIZE])
    masks = theirs.roi_heads.mask_predictor(theirs.roi_heads.mask_head(rois))
    found = heads.mask_head.layers(heads.mask_pooler(levels, [Boxes(BOXES)]))
    assert close(found, masks[:, ids])


@torch.no_grad()
def test_detections(theirs, ours, image, features, kind):
    """Compares boxes, classes, scores and masks before pasting."""
    _, model = ours
    images, pyramid = features
    proposals, _ = theirs.rpn(images, pyramid)
    expected = theirs.roi_heads(pyramid, proposals, images.image_sizes)[0][0]
    found: Instances = model.inference([{"image": image}], do_postprocess=False)[0]
    assert len(found) == DETECTIONS
    ids = torch.tensor(foreground(kind))
    assert torch.equal(ids[found.pred_classes], expected["labels"])
    assert torch.allclose(found.scores, expected["scores"], atol=1e-4)
    assert torch.allclose(found.pred_boxes.tensor, expected["boxes"], atol=0.05)
    assert torch.allclose(found.pred_masks, expected["masks"], atol=1e-3)


def test_mask_scoring_can_be_added(ours):
    """With MASKIOU_ON, only the MaskIoU head has no weights."""
    cfg, model = ours
    assert not cfg.MODEL.MASKIOU_ON
    scored = cfg.clone()
    scored.MODEL.MASKIOU_ON, scored.MODEL.DEVICE = True, "meta"
    with torch.device("meta"):
        names = set(build_model(scored).state_dict())
    own = set(model.state_dict())
    assert own < names
    assert all(name.startswith("roi_heads.mask_head.maskiou_head.") for name in names - own)


def test_datasets_are_coco_only_for_coco_classes(ours, kind):
    cfg, _ = ours
    assert ("coco_2017_val" in cfg.DATASETS.TEST) == (kind.num_outputs == 91)


@pytest.mark.parametrize("all_classes", [False, True])
def test_91_outputs_are_those_of_coco_or_90_classes(all_classes):
    with torch.device("meta"):
        state = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    file = CheckpointFile(state, "")
    converted = convert_weights(file, "torchvision", all_classes=all_classes)
    classes = 90 if all_classes else 80
    assert converted.config["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == classes
    assert ("DATASETS" in converted.config) != all_classes
    assert len(converted.parameters["roi_heads.mask_head.predictor.weight"]) == classes
    kept = "the 10 without a class were dropped; --all-classes keeps them" in converted.description
    assert kept != all_classes


@pytest.mark.parametrize(("name", "depth"), [("resnet18", 18), ("resnext50_32x4d", 50)])
def test_imagenet_resnet(name, depth):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    converted = convert_weights(CheckpointFile(theirs.state_dict(), ""), "torchvision")
    cfg = get_msrcnn_cfg()
    cfg.merge_from_other_cfg(CfgNode(converted.config))
    assert cfg.MODEL.RESNETS.DEPTH == depth
    assert cfg.MODEL.MASKIOU_ON  # the model to be trained
    cfg.MODEL.DEVICE = "cpu"
    backbone = build_backbone(cfg).eval()
    start = "backbone.bottom_up."
    assert all(name.startswith(start) for name in converted.parameters)
    state = {name.removeprefix(start): p for name, p in converted.parameters.items()}
    backbone.bottom_up.load_state_dict(state)  # strict
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = backbone.bottom_up(x)["res5"]
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage in range(1, 5):
            x = getattr(theirs, f"layer{stage}")(x)
    assert close(found, x)
