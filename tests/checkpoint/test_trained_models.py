"""Loads trained Mask R-CNNs of all architectures and file formats."""

import pickle
import re

import pytest
import torch
import torchvision
from detectron2 import model_zoo
from iopath.common.file_io import HTTPURLHandler

from msrcnn import get_config
from msrcnn.checkpoint import MaskScoringCheckpointer, write_weights
from msrcnn.config import get_msrcnn_cfg
from msrcnn.errors import UserError

COCO = "COCO-InstanceSegmentation"
FRAMEWORKS = {  # Detectron2's config and ours
    "FPN": (f"{COCO}/mask_rcnn_R_50_FPN_1x", f"{COCO}/ms_rcnn_R_50_FPN_1x"),
    "C4": (f"{COCO}/mask_rcnn_R_50_C4_1x", f"{COCO}/ms_rcnn_R_50_C4_1x"),
    "Cascade": ("Misc/cascade_mask_rcnn_R_50_FPN_1x", f"{COCO}/ms_rcnn_R_50_FPN_cascade_1x"),
    "DCN": ("Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5", f"{COCO}/ms_rcnn_R_50_FPN_dconv_1x"),
}
MASKIOU = "roi_heads.mask_head.maskiou_head."
ZOO_URL = model_zoo.get_checkpoint_url(FRAMEWORKS["FPN"][0])


def small(cfg):
    """Reduces the number of channels."""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 8
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 16
    cfg.MODEL.ROI_MASKIOU_HEAD.CONV_DIM = 16
    cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM = 16
    return cfg


def stock_cfg(framework="FPN"):
    cfg = get_msrcnn_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(FRAMEWORKS[framework][0] + ".yaml"))
    return small(cfg)


def our_cfg(framework="FPN"):
    return small(get_config(FRAMEWORKS[framework][1] + ".yaml"))


@pytest.fixture
def trained(build):
    """Returns the state dict of a model with random values, unlike at initialization."""

    def trained(cfg):
        state = build(cfg).state_dict()
        return {name: torch.rand_like(tensor) for name, tensor in state.items()}

    return trained


@pytest.fixture
def load(build, caplog):
    """Loads a file into the model of a config; returns its state dict and the log messages."""

    def load(cfg, path):
        model = build(cfg)
        caplog.clear()
        with caplog.at_level("INFO", "msrcnn"):
            MaskScoringCheckpointer(model).load(str(path))
        messages = [r.getMessage() for r in caplog.records if r.name.startswith("msrcnn")]
        return model.state_dict(), messages

    return load


def write_zoo(path, state):
    """Writes a file in the format of Detectron2's model zoo."""
    content = {
        "model": {name: tensor.numpy() for name, tensor in state.items()},
        "__author__": "Detectron2 Model Zoo",
        "matching_heuristics": True,
    }
    path.write_bytes(pickle.dumps(content, 2))


FORMATS = {"pkl": write_zoo, "pth": write_weights, "safetensors": write_weights}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_but_the_maskiou_head_is_loaded(framework, suffix, trained, load, tmp_path):
    state = trained(stock_cfg(framework))
    path = tmp_path / f"w.{suffix}"
    FORMATS[suffix](path, state)
    found, (message,) = load(our_cfg(framework), path)
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor), name
    fresh = [name for name in found if name not in state]
    assert all(name.startswith(MASKIOU) for name in fresh)
    first, loaded, *rest = message.splitlines()
    assert first == f"Weights {path}: {len(state)} of {len(found)} tensors loaded"
    assert re.fullmatch(r"  loaded: backbone \d+, .*box head \d+, mask head \d+", loaded)
    assert rest == [f"  newly initialized: MaskIoU head ({len(fresh)} tensors)"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_another_number_of_classes(framework, trained, load, tmp_path):
    """Loads a trained MS R-CNN, whose MaskIoU head has class-specific outputs as well."""
    state = trained(our_cfg(framework))
    write_weights(tmp_path / "w.pth", state)
    cfg = our_cfg(framework)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    found, (message,) = load(cfg, tmp_path / "w.pth")
    remade = {
        name.rpartition(".")[0] for name in state if not torch.equal(found[name], state[name])
    }
    expected = {"roi_heads.mask_head.predictor", f"{MASKIOU}maskiou"}
    if framework == "Cascade":  # with class-agnostic boxes
        expected |= {f"roi_heads.box_predictor.{stage}.cls_score" for stage in range(3)}
    else:
        expected |= {f"roi_heads.box_predictor.{name}" for name in ("cls_score", "bbox_pred")}
    assert remade == expected
    (line,) = [line for line in message.splitlines() if "80 classes" in line]
    assert line.startswith("  80 classes in the file, 3 in the model: ")
    assert line.endswith(" (newly initialized)")
    for layer in expected:
        assert layer.removeprefix("roi_heads.") in line


def test_class_agnostic_layers_are_loaded(trained, load, tmp_path):
    cfg = stock_cfg()
    cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    write_zoo(tmp_path / "w.pkl", state := trained(cfg))
    ours = our_cfg()
    ours.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True
    ours.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    ours.MODEL.ROI_HEADS.NUM_CLASSES = 3
    found, (message,) = load(ours, tmp_path / "w.pkl")
    remade = {name for name in state if not torch.equal(found[name], state[name])}
    assert remade == {f"roi_heads.box_predictor.cls_score.{kind}" for kind in ("weight", "bias")}
    assert "3 in the model: box_predictor.cls_score (newly initialized)" in message


# --- Caffe2's files ---------------------------------------------------------------------------

CAFFE2 = [  # patterns of Detectron2's names, and Caffe2's names
    (r"backbone\.bottom_up\.", ""),
    (r"stem\.conv1\.norm\.weight", "res_conv1_bn_s"),
    (r"stem\.conv1\.norm\.bias", "res_conv1_bn_b"),
    (r"stem\.conv1", "conv1"),
    (r"\.shortcut", "_branch1"),
    (r"(res\d)\.(\d)\.conv1", r"\1_\2_branch2a"),
    (r"(res\d)\.(\d)\.conv2", r"\1_\2_branch2b"),
    (r"(res\d)\.(\d)\.conv3", r"\1_\2_branch2c"),
    (r"(res\d)\.(\d)_", r"\1_\2_"),
    (r"\.norm\.weight", "_bn_s"),
    (r"\.norm\.bias", "_bn_b"),
    (r"backbone\.fpn_lateral5", "fpn_inner_res5_2_sum"),
    (r"backbone\.fpn_lateral4", "fpn_inner_res4_5_sum_lateral"),
    (r"backbone\.fpn_lateral3", "fpn_inner_res3_3_sum_lateral"),
    (r"backbone\.fpn_lateral2", "fpn_inner_res2_2_sum_lateral"),
    (r"backbone\.fpn_output5", "fpn_res5_2_sum"),
    (r"backbone\.fpn_output4", "fpn_res4_5_sum"),
    (r"backbone\.fpn_output3", "fpn_res3_3_sum"),
    (r"backbone\.fpn_output2", "fpn_res2_2_sum"),
    (r"proposal_generator\.rpn_head\.conv", "conv_rpn_fpn2"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn_cls_logits_fpn2"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn_bbox_pred_fpn2"),
    (r"roi_heads\.box_head\.fc1", "fc6"),
    (r"roi_heads\.box_head\.fc2", "fc7"),
    (r"roi_heads\.box_predictor\.", ""),
    (r"roi_heads\.mask_head\.mask_fcn", "_[mask]_fcn"),
    (r"roi_heads\.mask_head\.deconv", "conv5_mask"),
    (r"roi_heads\.mask_head\.predictor", "mask_fcn_logits"),
    (r"\.weight$", "_w"),
    (r"\.bias$", "_b"),
]


def write_caffe2(path, state):
    """Writes a file as Detectron does: background first in all layers, batch norms folded."""
    blobs = {}
    for name, tensor in state.items():
        if "running" in name:
            continue
        if "cls_score" in name:
            tensor = torch.cat([tensor[-1:], tensor[:-1]])
        elif "bbox_pred" in name or "predictor" in name:
            background = tensor[: 4 if "bbox" in name else 1]
            tensor = torch.cat([torch.zeros_like(background), tensor])
        for pattern, replacement in CAFFE2:
            name = re.sub(pattern, replacement, name)
        blobs[name] = blobs[f"{name}_momentum"] = tensor.numpy()
    path.write_bytes(pickle.dumps({"blobs": blobs, "cfg": "NUM_GPUS: 8"}, 2))


def test_caffe2_model(trained, load, tmp_path):
    state = trained(stock_cfg())
    write_caffe2(tmp_path / "model_final.pkl", state)
    found, (message,) = load(our_cfg(), tmp_path / "model_final.pkl")
    for name, tensor in state.items():
        assert torch.equal(found[name], tensor) or "running" in name, name
    assert f"{len(state)} of {len(found)} tensors loaded" in message
    assert message.splitlines()[2:] == ["  newly initialized: MaskIoU head (14 tensors)"]


def test_caffe2_model_with_another_number_of_classes(trained, load, tmp_path):
    """Detectron2 does not rename tensors whose shape differs."""
    write_caffe2(tmp_path / "model_final.pkl", trained(stock_cfg()))
    cfg = our_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    _, (message,) = load(cfg, tmp_path / "model_final.pkl")
    assert message.splitlines()[2:] == [
        "  newly initialized: MaskIoU head (14 tensors)",
        "  80 classes in the file, 3 in the model: box_predictor.cls_score, "
        "box_predictor.bbox_pred, mask_head.predictor (newly initialized)",
    ]


# --- backbones that do not fit the model ------------------------------------------------------


@pytest.mark.parametrize("write", [write_zoo, write_weights, write_caffe2])
def test_backbone_of_another_width_is_an_error(write, trained, load, tmp_path):
    cfg = stock_cfg()
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    path = tmp_path / ("w.pth" if write is write_weights else "w.pkl")
    write(path, trained(cfg))
    with pytest.raises(UserError) as error:
        load(our_cfg(), path)
    assert f"'{path}' does not fit this model: " in str(error.value)
    assert (
        "backbone.bottom_up.res2.0.conv1.weight is (4, 8, 1, 1) in the file, (8, 8, 1, 1) in the "
        "model; " in str(error.value)
    )


@pytest.mark.parametrize(
    ("in_file", "in_model", "gap"),
    [(50, 101, "lacks layers of the backbone"), (101, 50, "has layers of a ResNet that the model")],
)
def test_backbone_of_another_depth_is_a_warning(
    in_file, in_model, gap, trained, load, tmp_path, caplog
):
    cfg, ours = stock_cfg(), our_cfg()
    cfg.MODEL.RESNETS.DEPTH, ours.MODEL.RESNETS.DEPTH = in_file, in_model
    write_zoo(tmp_path / "w.pkl", trained(cfg))
    _, (message,) = load(ours, tmp_path / "w.pkl")
    assert f"warning: the file {gap}" in message
    assert [r.levelname for r in caplog.records if r.getMessage() == message] == ["WARNING"]


def test_imagenet_weights(load, tmp_path):
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    cfg = get_config(f"{COCO}/ms_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    _, (warning, message) = load(cfg, tmp_path / "resnet50.pth")
    assert "expects other images: set INPUT.FORMAT RGB" in warning
    assert message.splitlines()[1:] == [
        "  loaded: backbone 265",
        "  newly initialized: FPN (16 tensors); RPN (6 tensors); box head (8 tensors); "
        "mask head (12 tensors); MaskIoU head (14 tensors)",
    ]
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    with pytest.raises(UserError, match=r"res2.0.conv1.weight is \(64, 64, 1, 1\) in the file"):
        load(cfg, tmp_path / "resnet50.pth")


# --- by name ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        FRAMEWORKS["FPN"][0],
        FRAMEWORKS["FPN"][0] + ".yaml",
        ZOO_URL.replace("https://dl.fbaipublicfiles.com/detectron2/", "detectron2://"),
        ZOO_URL,
    ],
)
def test_names_of_the_model_zoo(name, trained, load, tmp_path, monkeypatch):
    """Checks the URL; a local file takes the place of the download."""
    write_zoo(tmp_path / "model_final.pkl", trained(stock_cfg()))
    asked = []

    def fetch(self, path, **kwargs):
        asked.append(path)
        return str(tmp_path / "model_final.pkl")

    monkeypatch.setattr(HTTPURLHandler, "_get_local_path", fetch)
    _, (message,) = load(our_cfg(), name)
    assert asked == [ZOO_URL]
    assert message.startswith(f"Weights {name}: ")
    assert message.endswith("  newly initialized: MaskIoU head (14 tensors)")


def test_address_that_cannot_be_reached(load, monkeypatch):
    def fetch(self, path, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(HTTPURLHandler, "_get_local_path", fetch)
    with pytest.raises(UserError, match=f"cannot get the weights '{ZOO_URL}': no route to host"):
        load(our_cfg(), FRAMEWORKS["FPN"][0])


def test_unknown_name_of_detectron2s_catalog(load):
    with pytest.raises(UserError, match="cannot get the weights 'catalog://nothing': model not"):
        load(our_cfg(), "catalog://nothing")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("s3://bucket/model.pth", "no way to load such an address is known"),
        ("https://a host/model.pth", "URL can't contain"),
        ("https://[host/model.pth", "Invalid IPv6 URL"),
    ],
)
def test_addresses_that_are_none(load, address, reason):
    message = f"cannot get the weights '{address}': {reason}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        load(our_cfg(), address)


def test_unknown_model_of_torchvision(load):
    message = "'torchvision://nothing': torchvision has no model of this name"
    with pytest.raises(UserError, match=f"^{message}$"):
        load(our_cfg(), "torchvision://nothing")
