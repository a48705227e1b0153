"""Every kind of model as TorchScript and ONNX finds the same, at any size, or nothing."""

import io
import json
import warnings

import onnx
import pytest
import torch
from zoo_configs import framework_cfg

from msrcnn import get_config
from msrcnn.engine import use_scoring_parts
from msrcnn.export.metadata import metadata
from msrcnn.export.onnx_format import onnx_runner, to_onnx
from msrcnn.export.pictures import check_pictures
from msrcnn.export.same_outputs import agreeing
from msrcnn.export.single_image import SingleImage
from msrcnn.export.torchscript_format import METADATA_FILE, to_torchscript, torchscript_runner

HEAD = "MODEL.ROI_MASKIOU_HEAD."
EVERY_SCALAR = {f"{HEAD}INPUT_SCALARS": True, f"{HEAD}INPUT_CONTEXT": True}
EXPONENTS = {f"{HEAD}SCORE_EXPONENT": 0.7, f"{HEAD}CONFIDENCE_EXPONENT": 1.5}
AGNOSTIC = {
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
}
FORMATS = {
    "torchscript": (to_torchscript, torchscript_runner),
    "onnx": (to_onnx, onnx_runner),
}
MODELS = {
    "scalars": (
        "fpn",
        # Without a norm in the heads, and with sampling points that depend on the box.
        {**EVERY_SCALAR, **EXPONENTS, "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0},
    ),
    "head-norm": (
        "fpn",
        {
            f"{HEAD}CONV_DIM": 32,
            "MODEL.ROI_MASK_HEAD.NORM": "GN",
            f"{HEAD}NORM": "GN",
            f"{HEAD}INPUT": "high_res",
            "MODEL.ROI_MASK_HEAD.RANK_BY": "mask_score",
        },
    ),
    "cascade": ("cascade", {f"{HEAD}INPUT": "all_masks"}),
    "c4": ("c4", {f"{HEAD}NAME": "MaskIoULiteHead", **AGNOSTIC}),
    "plain-dconv": (
        "fpn",
        {
            "MODEL.MASKIOU_ON": False,
            "MODEL.BACKBONE.NAME": "build_deform_resnet_fpn_backbone",
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, True],
        },
    ),
    "mobilenet": ("mobilenet", {}),
}
# Both formats are traced alike; these differ in what a file can hold.
CASES = [
    ("torchscript", "scalars"),
    ("torchscript", "cascade"),
    ("torchscript", "plain-dconv"),
    *(("onnx", name) for name in MODELS if name != "plain-dconv"),
]
MEASURED = ["pred_boxes", "pred_classes", "scores", "pred_masks", "pred_maskiou", "mask_scores"]


def config(name):
    framework, overrides = MODELS[name]
    if framework == "mobilenet":
        cfg = get_config("Base-MNV2-FPN.yaml")
        cfg.MODEL.DEVICE, cfg.MODEL.MASKIOU_ON = "cpu", True
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.MODEL.TORCHVISION.NORM = 0.0, "BN"
        use_scoring_parts(cfg)
    else:
        cfg = framework_cfg(framework)
    cfg.merge_from_list([item for pair in overrides.items() for item in pair])
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 200
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 140
    cfg.DATASETS.CLASS_NAMES = tuple("abcdef")
    return cfg


@pytest.fixture
def example(build):
    """Returns a function that gives a model, and images in which it finds something or nothing."""

    def example(name):
        cfg = config(name)
        model = build(cfg)
        for module in model.modules():
            if hasattr(module, "test_score_thresh"):  # scores that differ between detections
                module.cls_score.weight.data *= 10
        model = SingleImage(model)
        images = [*check_pictures(cfg), torch.zeros(3, 70, 90, dtype=torch.uint8)]
        with torch.no_grad():
            images.sort(key=lambda image: -float(model(image)["scores"].max()))
            highest = [float(model(image)["scores"].max()) for image in images]
        for module in model.modules():
            if hasattr(module, "test_score_thresh"):
                module.test_score_thresh = (highest[-2] + highest[-1]) / 2
        return cfg, model, images

    return example


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_equals_the_model(example, kind, name):
    cfg, model, images = example(name)
    convert, runner = FORMATS[kind]
    content = convert(model, images[0], metadata(cfg))
    run = runner(content)
    numbers = []
    for image in images:
        with torch.no_grad():
            ours = model(image)
        theirs = run(image)
        assert list(theirs) == list(ours)
        assert [t.shape for t in theirs.values()] == [t.shape for t in ours.values()]
        assert [t.dtype for t in theirs.values()] == [t.dtype for t in ours.values()]
        assert agreeing(ours, theirs) == len(ours["scores"])
        numbers.append(len(ours["scores"]))
    assert min(numbers[:2]) >= 1, numbers
    assert numbers[2] == 0
    assert list(ours) == (MEASURED[:4] if name == "plain-dconv" else MEASURED)
    assert _metadata(kind, content)["class_names"] == list("abcdef")


def _metadata(kind, content):
    if kind == "onnx":
        found = onnx.load_from_string(content)
        onnx.checker.check_model(found)
        return {entry.key: json.loads(entry.value) for entry in found.metadata_props}
    files = {METADATA_FILE: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for torch.export
        torch.jit.load(io.BytesIO(content), _extra_files=files)
    return json.loads(files[METADATA_FILE])
