"""Converts models of the published sizes, and checks the errors for files that do not fit."""

import pickle

import published
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torchvision.models import detection, get_model

from msrcnn.checkpoint.convert import SOURCES, convert_checkpoint, convert_weights
from msrcnn.checkpoint.convert.conversion import how_to_convert
from msrcnn.checkpoint.convert.files import CheckpointFile
from msrcnn.config import get_msrcnn_cfg
from msrcnn.errors import UserError


def without_memory(shapes):
    """Returns parameters of these shapes without values, except for the anchors, which are read."""
    return {
        name: torch.empty(shape, device="cpu" if "anchors" in name else "meta")
        for name, shape in shapes.items()
    }


def torchvision_state(name, **options):
    with torch.device("meta"):
        builder = getattr(detection, name)
        return builder(weights=None, weights_backbone=None, **options).state_dict()


def detectron2_state():
    cfg = get_msrcnn_cfg()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg).state_dict()


def convert(state, source, **options):
    return convert_weights(CheckpointFile(state, ""), source, **options)


PUBLISHED = [
    ("maskscoring_rcnn", published.maskscoring_rcnn(), "ResNet-50 FPN of caffe", 50),
    (
        "maskscoring_rcnn",
        published.maskscoring_rcnn(published.R101),
        "ResNet-101 FPN of caffe",
        101,
    ),
    ("mmdet", published.mmdet(), "ResNet-50 FPN of caffe", 50),
    ("mmdet", published.mmdet(published.R101), "ResNet-101 FPN of caffe", 101),
    *(
        (
            "mmdet",
            published.mmdet(published.R101, width=4 * groups, groups=groups),
            f"ResNeXt-101 {groups}x4d FPN of pytorch",
            101,
        )
        for groups in (32, 64)
    ),
]


@pytest.mark.parametrize(("source", "shapes", "description", "depth"), PUBLISHED)
@pytest.mark.parametrize("scored", [True, False])
def test_published_sizes(source, shapes, description, depth, scored):
    state = without_memory(shapes)
    if not scored:  # the corresponding Mask R-CNN
        state = {n: p for n, p in state.items() if "maskiou" not in n and "mask_iou" not in n}
    converted = convert(state, source)
    kind = "Mask Scoring R-CNN" if scored else "Mask R-CNN"
    assert converted.description.startswith(f"{kind} with {description} style, 80 classes")
    cfg = get_msrcnn_cfg()
    cfg.merge_from_other_cfg(CfgNode(converted.config))
    assert cfg.MODEL.RESNETS.DEPTH == depth
    assert cfg.MODEL.MASKIOU_ON == scored
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 80
    assert (cfg.MODEL.ROI_BOX_HEAD.FC_DIM, cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM) == (1024, 1024)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        expected = build_model(cfg).state_dict()
    assert {n: p.shape for n, p in expected.items()} == {
        n: p.shape for n, p in converted.parameters.items()
    }


@pytest.mark.parametrize("source", ["maskscoring_rcnn", "mmdet"])
def test_conventions_of_the_config(source):
    state = without_memory(getattr(published, source)())
    cfg = get_msrcnn_cfg()
    cfg.merge_from_other_cfg(CfgNode(convert(state, source).config))
    theirs = source == "maskscoring_rcnn"
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD):
        assert head.POOLER_TYPE == ("ROIAlign" if theirs else "ROIAlignV2")
        assert head.POOLER_SAMPLING_RATIO == (2 if theirs else 0)
    assert tuple(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS) == (10, 10, 5, 5)
    assert tuple(cfg.MODEL.RPN.BBOX_REG_WEIGHTS) == (1, 1, 1, 1)
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (800, 1333)
    assert (cfg.MODEL.RPN.PRE_NMS_TOPK_TEST, cfg.MODEL.RPN.POST_NMS_TOPK_TEST) == (1000, 1000)
    assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.05


@pytest.fixture
def mmdet():
    return without_memory(published.mmdet(base=16, channels=16, fc=16))


def test_missing_and_unexpected_parameters_are_listed(mmdet):
    del mmdet["rpn_head.rpn_cls.bias"]
    del mmdet["backbone.layer2.1.bn3.running_mean"]
    mmdet["backbone.layer3.0.conv2_offset.weight"] = torch.empty(18, 64, 3, 3)
    mmdet["roi_head.mask_head.convs.4.conv.weight"] = torch.empty(16, 16, 3, 3)
    with pytest.raises(UserError) as error:
        convert(mmdet, "mmdet")
    missing, unexpected = str(error.value).split("; ")[1:]
    assert missing.startswith("missing: ")
    assert set(missing.removeprefix("missing: ").split(", ")) == {
        "rpn_head.rpn_cls.bias",
        "backbone.layer2.1.bn3.running_mean",
    }
    assert unexpected == (
        "unexpected: backbone.layer3.0.conv2_offset.weight, roi_head.mask_head.convs.4.conv.weight"
    )


def test_long_lists_are_complete(mmdet):
    few = {name: p for name, p in mmdet.items() if not name.startswith("neck.")}
    with pytest.raises(UserError, match=r"missing: (neck\.[\w.]+, ){15}neck\.[\w.]+$"):
        convert(few, "mmdet")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("roi_head.mask_iou_head.fc_mask_iou.weight", (81, 16)),
        ("roi_head.bbox_head.fc_reg.weight", (4, 16)),
        ("backbone.layer1.0.conv2.weight", (16,)),
        ("neck.fpn_convs.0.conv.weight", ()),
    ],
)
def test_misshaped_parameters_are_listed(mmdet, name, shape):
    expected = tuple(mmdet[name].shape)
    mmdet[name] = torch.empty(shape)
    with pytest.raises(UserError) as error:
        convert(mmdet, "mmdet")
    assert "missing" not in str(error.value)
    assert f"{name} {shape}, expected (" in str(error.value)
    if len(shape) == len(expected):
        assert str(error.value).endswith(f"; wrong shape: {name} {shape}, expected {expected}")


def test_expected_shape_is_the_librarys_own():
    state = without_memory(published.maskscoring_rcnn(base=16, channels=16, fc=16))
    name = "roi_heads.box.predictor.bbox_pred.weight"
    state[name] = torch.empty(320, 16)
    with pytest.raises(UserError, match=r"bbox_pred.weight \(320, 16\), expected \(324, 16\)"):
        convert(state, "maskscoring_rcnn")


def test_anchors_of_wrong_shape():
    state = without_memory(published.maskscoring_rcnn(base=16, channels=16, fc=16))
    state["rpn.anchor_generator.cell_anchors.3"] = torch.empty(12)
    with pytest.raises(
        UserError, match=r"cell_anchors.3 has shape \(12,\), expected \(number of anchors, 4"
    ):
        convert(state, "maskscoring_rcnn")


@pytest.mark.parametrize("part", ["convs.2", "fc_mask_iou", "fcs.0"])
def test_incomplete_maskiou_head(mmdet, part):
    part = f"roi_head.mask_iou_head.{part}"
    with pytest.raises(UserError, match=f"missing: {part}.weight, {part}.bias$"):
        convert({n: p for n, p in mmdet.items() if not n.startswith(f"{part}.")}, "mmdet")


def test_unknown_depth(mmdet):
    state = {n: p for n, p in mmdet.items() if not n.startswith("backbone.layer3.5.")}
    with pytest.raises(UserError, match="have 3, 4, 5, 3 blocks; supported are ResNets of depth"):
        convert(state, "mmdet")


def test_model_that_detectron2_cannot_build():
    narrow = {
        name: torch.empty([max(n // 2, 1) if n > 3 else n for n in p.shape], device="meta")
        for name, p in get_model("resnet18", weights=None).state_dict().items()
    }
    with pytest.raises(
        UserError, match="Detectron2 cannot build a model of these shapes: .*RES2_OUT"
    ):
        convert(narrow, "torchvision")


EXAMPLES = {
    "maskscoring_rcnn": lambda: without_memory(published.maskscoring_rcnn(base=16)),
    "mmdet": lambda: without_memory(published.mmdet(base=16)),
    "torchvision": lambda: torchvision_state("maskrcnn_resnet50_fpn"),
    "torchvision v2": lambda: torchvision_state("maskrcnn_resnet50_fpn_v2"),
    "torchvision resnet": lambda: get_model("resnet18", weights=None).state_dict(),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_error_names_the_library_of_the_file(example):
    right = example.split()[0]
    state = EXAMPLES[example]()
    for source in SOURCES:
        if source == right:
            convert(state, source)
        else:
            with pytest.raises(UserError, match=f"convert it with --from {right}"):
                convert(state, source)


@pytest.mark.parametrize("source", SOURCES)
def test_file_of_an_unsupported_library(source):
    with pytest.raises(UserError, match="Detectron2, which needs no conversion"):
        convert(detectron2_state(), source)
    old = {"rpn_head.rpn_conv.weight": torch.empty(1), "bbox_head.fc_cls.weight": torch.empty(1)}
    with pytest.raises(UserError, match="mmdetection 1.x"):
        convert(old, source)
    with pytest.raises(UserError, match=f"such as 'blocks.0.weight', are not those of {source}"):
        convert({"blocks.0.weight": torch.empty(1)}, source)


@pytest.mark.parametrize(
    ("state", "option"),
    [
        (published.maskscoring_rcnn(), "maskscoring_rcnn"),
        (published.mmdet(), "mmdet"),
        (torchvision_state("maskrcnn_resnet50_fpn"), "torchvision"),
        (get_model("resnet18", weights=None).state_dict(), ""),
        (detectron2_state(), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_detector_that_is_not_converted_is_told(state, option):
    assert how_to_convert(state).endswith(f"`msrcnn convert --from {option}`" if option else "")
    assert bool(how_to_convert(state)) == bool(option)


def test_unsupported_style():
    with pytest.raises(
        UserError, match="style 'caffe': torchvision's Mask R-CNN is available only in pytorch"
    ):
        convert(torchvision_state("maskrcnn_resnet50_fpn"), "torchvision", style="caffe")


def test_bn_eps():
    """Needed for models fine-tuned from torchvision's published one, whose epsilon is 0."""
    state = get_model("resnet18", weights=None).state_dict()
    state["bn1.running_var"][:] = 1e-6
    norm = "backbone.bottom_up.stem.conv1.norm"
    x = torch.randn(1, 64, 4, 4)
    for eps in (None, 0.0, 1e-5, 1e-3):
        parameters = convert(state, "torchvision", bn_eps=eps).parameters
        weight, bias, mean, var = (
            parameters[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
        )
        found = torch.nn.functional.batch_norm(x, mean, var, weight, bias, eps=1e-5)
        expected = x / (1e-6 + (1e-5 if eps is None else eps)) ** 0.5
        assert torch.allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not weights at all", "is not a checkpoint, or is damaged"),
        (pickle.dumps([1, 2], protocol=2), "contains a list"),
        ([1, 2], "contains a list, not a dict of weights"),
        ({}, "contains no dict of weights"),
        ({"model": {}}, "contains no dict of weights"),
        ({"epoch": 3, "best": 0.5}, "'epoch' is not a tensor"),
        ({"model": {"a.b": torch.ones(1), "c": 3}}, "'c' is not a tensor"),
        ({"x": torch.ones(1)}, "its entries, such as 'x', are not those of a model"),
        (
            {"net": {"a.b": torch.ones(1)}, "ema": {"model": {"a.b": torch.ones(1)}}},
            "several sets of weights, 'net', 'ema/model': save one of them",
        ),
    ],
)
def test_invalid_file(tmp_path, content, message):
    path = tmp_path / "theirs.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=f"'{path}'.*{message}"):
        convert_checkpoint(path, tmp_path / "ours.pth", "mmdet")


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: {"model": state, "optimizer": OPTIMIZER}, ""),
        (lambda state: {"model": {"state_dict": state}}, "the weights under 'model/state_dict'."),
        (lambda state: {"model": {}, "ema": state}, "the weights under 'ema'."),
        (lambda state: {"net": state}, "the weights under 'net'."),
        (
            lambda state: {"model": state, "model_ema": {**state, "fc.bias": torch.ones(9)}},
            "the weights under 'model'; those under 'model_ema' were left out.",
        ),
        (lambda state: {f"module.{name}": each for name, each in state.items()}, ""),
        (
            lambda state: {
                "state_dict": {f"model._orig_mod.{name}": each for name, each in state.items()}
            },
            "",
        ),
        (
            lambda state: {
                "ema": {"n_averaged": torch.ones(()), **{f"module.{n}": state[n] for n in state}}
            },
            "the weights under 'ema'.",
        ),
    ],
)
def test_weights_inside_of_other_objects(tmp_path, wrap, note):
    state = get_model("resnet18", weights=None).state_dict()
    torch.save(wrap(state), tmp_path / "theirs.pth")
    found = convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "ours.pth", "torchvision")
    expected = convert(state, "torchvision")
    assert all(torch.equal(each, found.parameters[n]) for n, each in expected.parameters.items())
    assert found.description == "\n".join(
        filter(None, (expected.description, note and f"These are {note}"))
    )
    assert note in (tmp_path / "ours.yaml").read_text()


def test_nothing_is_written_if_the_conversion_fails(tmp_path):
    path = tmp_path / "theirs.pth"
    torch.save({"blocks.0.weight": torch.empty(1)}, path)
    with pytest.raises(
        UserError, match=f"'{path}': its parameter names, .* are not those of mmdet"
    ):
        convert_checkpoint(path, tmp_path / "new" / "ours.pth", "mmdet")
    assert list(tmp_path.iterdir()) == [path]


def test_invalid_file_names(tmp_path):
    path = tmp_path / "theirs.pth"
    path.touch()
    with pytest.raises(UserError, match=r"ours\.pkl': the file name must end in \.pth"):
        convert_checkpoint(path, tmp_path / "ours.pkl", "mmdet")
    with pytest.raises(UserError, match="is the file to convert"):
        convert_checkpoint(path, tmp_path / "new" / ".." / "theirs.pth", "mmdet")
    with pytest.raises(UserError, match=r"nowhere\.pth': no such file"):
        convert_checkpoint(tmp_path / "nowhere.pth", tmp_path / "ours.pth", "mmdet")
