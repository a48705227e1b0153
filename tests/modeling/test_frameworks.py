"""Mask scoring in every framework: C4, FPN, deformable, cascade, ResNeXt."""

import re
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.datasets import load_coco_json
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads

from msrcnn.ablation import load_sweep
from msrcnn.config import CONFIG_ROOT, get_config, get_config_file, get_msrcnn_cfg
from msrcnn.data.coco2017 import annotation_file
from msrcnn.data.mapper import MaskScoringDatasetMapper
from msrcnn.engine import prepare_config
from msrcnn.modeling import MaskScoringHead

COCO = "COCO-InstanceSegmentation"
PLAIN = sorted(path.stem for path in (CONFIG_ROOT / COCO).glob("mask_rcnn_*.yaml"))


# --- Detectron2's trained weights ----------------------------------------------------------


def zoo_weights(name: str) -> str | None:
    """The path that a config names in its first comment, below ``detectron2://``."""
    found = re.match(
        r"# .*\n# detectron2://(\S+)\n", Path(get_config_file(f"{COCO}/{name}.yaml")).read_text()
    )
    return found and found.group(1)


def zoo_name(weights: str) -> str:
    """The zoo's config that the weights were trained with."""
    return "/".join(weights.split("/")[:2]) + ".yaml"


NAMING_WEIGHTS = [name for name in PLAIN if zoo_weights(name)]


def zoo_cfg(name: str) -> CfgNode:
    cfg = get_msrcnn_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(zoo_name(zoo_weights(name))))
    return cfg


def parameters(cfg: CfgNode) -> dict:
    """Names and shapes of a model, built without memory."""
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_all_that_detectron2_trained_is_named():
    families = {re.sub(r"^mask_rcnn_|_(1x|3x)$", "", name) for name in NAMING_WEIGHTS}
    assert families == {
        "R_50_C4",
        "R_101_C4",
        "R_50_FPN",
        "R_101_FPN",
        "X_101_32x8d_FPN",
        "R_50_FPN_dconv",
        "R_50_FPN_cascade",
    }


@pytest.mark.parametrize("name", NAMING_WEIGHTS)
def test_named_weights_fit(name):
    weights = zoo_weights(name)
    assert model_zoo.get_checkpoint_url(zoo_name(weights)).endswith(f"/{weights}")
    stock, ours = parameters(zoo_cfg(name)), parameters(get_config(f"{COCO}/{name}.yaml"))
    assert ours == stock
    scoring = parameters(get_config(f"{COCO}/{name.replace('mask_rcnn', 'ms_rcnn')}.yaml"))
    new = [key for key in scoring if key not in stock]
    assert new
    assert all(key.startswith("roi_heads.mask_head.maskiou_head.") for key in new)
    assert {key: scoring[key] for key in stock} == stock


@pytest.mark.parametrize(
    "name", [n for n in NAMING_WEIGHTS if ("1x" in n) == ("1x" in zoo_weights(n))]
)
def test_config_is_detectron2s_but_for_our_parts(name):
    ours, theirs = get_config(f"{COCO}/{name}.yaml"), zoo_cfg(name)
    res5 = "Res5" if "C4" in name else ""
    theirs.MODEL.ROI_MASK_HEAD.NAME = f"MaskScoring{res5}Head"
    if "dconv" in name:
        theirs.MODEL.BACKBONE.NAME = "build_deform_resnet_fpn_backbone"
    assert ours == theirs


# --- a training step and an inference on real images ---------------------------------------


def small(cfg: CfgNode) -> CfgNode:
    """Heads, proposals and images small enough for seconds; the framework is left as it is."""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.NORM = "GN"  # random weights blow up without normalisation
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 16
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 64
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 32
    cfg.MODEL.ROI_MASKIOU_HEAD.CONV_DIM = 32
    cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM = 64
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.INPUT.MIN_SIZE_TRAIN = (128,)
    cfg.INPUT.MIN_SIZE_TEST = 128
    return cfg


@pytest.fixture(scope="module")
def records(coco_root):
    """Two images of COCO with a few instances each."""
    name = "train2017"
    records = load_coco_json(
        str(annotation_file(coco_root, name)), str(coco_root / name), "coco_2017_train"
    )
    return [record for record in records if 2 <= len(record["annotations"]) <= 8][:2]


def check_training_and_inference(cfg, build, records):
    """One step forward and backward, then detections; returns the model with its gradients."""
    model = build(cfg)
    assert isinstance(model.roi_heads.mask_head, MaskScoringHead)

    mapper = MaskScoringDatasetMapper(cfg, is_train=True)
    losses = model.train()([mapper(record) for record in records])
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    # An untrained mask may not reach a threshold; a mask's own confidence has nothing to learn.
    learns = head.MASKIOU_THRESH == 0 and head.NAME != "MaskConfidenceHead"
    assert losses["loss_maskiou"] >= 0
    assert all(torch.isfinite(loss) for loss in losses.values()), losses
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
    if learns:
        assert losses["loss_maskiou"] > 0
        assert model.roi_heads.mask_head.maskiou_head.maskiou.weight.grad.abs().sum() > 0

    mapper = DatasetMapper(cfg, is_train=False)
    with torch.no_grad():
        outputs = model.eval()([mapper(record) for record in records])
    for output, record in zip(outputs, records):
        detections = output["instances"]
        assert len(detections) == 5
        assert detections.pred_masks.shape == (5, record["height"], record["width"])
        assert ((detections.pred_maskiou >= 0) & (detections.pred_maskiou <= 1)).all()
        expected = detections.scores * detections.pred_maskiou
        assert torch.equal(detections.mask_scores, expected)
    return model


FRAMEWORKS = [
    "R_50_C4_1x",
    "R_50_FPN_1x",
    "R_18_FPN_dconv_1x",
    "R_50_FPN_dconv_1x",
    "R_50_FPN_cascade_1x",
    "R_101_FPN_dconv_cascade_1x",
    "X_101_32x8d_FPN_1x",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_framework_trains_and_scores(name, build, storage, records):
    cfg = small(get_config(f"{COCO}/ms_rcnn_{name}.yaml"))
    model = check_training_and_inference(cfg, build, records)
    assert isinstance(model.roi_heads, Res5ROIHeads) == ("C4" in name)
    assert isinstance(model.roi_heads, CascadeROIHeads) == ("cascade" in name)
    offsets = [p for n, p in model.named_parameters() if n.endswith("conv2_offset.weight")]
    assert bool(offsets) == ("dconv" in name)
    assert all(weight.grad.abs().sum() > 0 for weight in offsets)


def ablation_rows():
    """Each variant of the sweeps that vary the MaskIoU head, with its settings."""
    for name in ("head_cost", "head_input", "loss", "sample_threshold", "training_target"):
        sweep = load_sweep(name)
        for row, variant in sweep.variants.items():
            base = sweep.protocols["full"].base
            yield pytest.param(base, variant.overrides, id=f"{name}-{row}")


@pytest.mark.slow
@pytest.mark.parametrize(("base", "overrides"), list(ablation_rows()))
def test_every_row_of_the_ablations(base, overrides, build, records, storage):
    """Each head input, target, threshold, loss and head on real images."""
    cfg = prepare_config(base, [item for pair in overrides.items() for item in pair])
    check_training_and_inference(small(cfg), build, records)
