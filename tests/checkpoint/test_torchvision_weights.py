from types import SimpleNamespace

import pytest
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from safetensors.torch import save_file

from msrcnn import get_config
from msrcnn.checkpoint import MaskScoringCheckpointer, convert_torchvision_resnet
from msrcnn.config import get_msrcnn_cfg
from msrcnn.errors import UserError
from msrcnn.modeling import build_torchvision_fpn_backbone


def detectron2_model(depth, tmp_path, state):
    """Builds a Mask R-CNN and loads its backbone from a torchvision file."""
    cfg = get_config("COCO-InstanceSegmentation/mask_rcnn_R_18_FPN_1x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    path = tmp_path / "resnet.pth"
    torch.save(state, path)
    model = build_model(cfg)
    MaskScoringCheckpointer(model).load(str(path))
    return model


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_features_are_equal_layer_by_layer(depth, tmp_path):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    for module in theirs.modules():  # statistics that affect the outputs
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    model = detectron2_model(depth, tmp_path, theirs.state_dict()).eval()

    image = torch.rand(3, 64, 96)  # RGB in [0, 1], torchvision's convention
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((image - mean[:, None, None]) / std[:, None, None])[None]
    ours = model.preprocess_image([{"image": image * 255}]).tensor
    assert torch.allclose(ours, x, atol=1e-5)  # normalized as the weights expect

    with torch.no_grad():
        features = model.backbone.bottom_up(ours)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for stage in range(1, 5):
            x = getattr(theirs, f"layer{stage}")(x)
            found = features[f"res{stage + 1}"]
            assert torch.allclose(found, x, atol=1e-4 * x.abs().max().item())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, None),
        ("INPUT.FORMAT", "BGR"),
        ("MODEL.PIXEL_STD", [1.0, 1.0, 1.0]),
        ("MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675]),
    ],
)
@pytest.mark.parametrize("config", ["quick/shapes_mask_rcnn_R_18_FPN.yaml", "Base-MNV2-FPN.yaml"])
def test_other_images_are_a_warning(config, key, value, tmp_path, caplog):
    cfg = get_config(config)
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    if key:
        cfg.merge_from_list([key, value])
    name = "mobilenet_v2" if "MNV2" in config else "resnet18"
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.get_model(name, weights=None).state_dict(), path)
    MaskScoringCheckpointer(build_model(cfg)).load(str(path))
    warnings = [each for each in caplog.messages if "expects other images" in each]
    assert len(warnings) == (1 if key else 0)
    for each in warnings:
        assert each.startswith(f"'{path}' expects other images: set INPUT.FORMAT RGB, MODEL.PIXEL_")


def test_torchvision_name_and_local_file_give_the_same(tmp_path, monkeypatch):
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    local = detectron2_model(18, tmp_path, state)
    # The name resolves to a URL to download; use the local file instead.
    asked = []
    address = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=str(tmp_path / "resnet.pth")))
    monkeypatch.setattr(
        torchvision.models, "get_model_weights", lambda name: asked.append(name) or address
    )
    cfg = get_config("COCO-InstanceSegmentation/mask_rcnn_R_18_FPN_1x.yaml")
    assert cfg.MODEL.WEIGHTS == "torchvision://resnet18"
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    MaskScoringCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    assert asked == ["resnet18"]
    expected = local.backbone.bottom_up.state_dict()
    found = model.backbone.bottom_up.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_torchvision_model_without_imagenet_weights():
    with pytest.raises(UserError, match="maskrcnn_resnet50_fpn': torchvision has no IMAGENET1K_V1"):
        MaskScoringCheckpointer(torch.nn.Linear(2, 2)).load("torchvision://maskrcnn_resnet50_fpn")


def test_classifier_and_counters_are_left_out():
    converted = convert_torchvision_resnet(torchvision.models.resnet18().state_dict())
    assert not any("fc." in name or "num_batches" in name for name in converted)
    assert "res2.0.conv1.norm.running_var" in converted
    assert "res3.0.shortcut.norm.weight" in converted
    assert "stem.conv1.norm.bias" in converted


# --- torchvision backbones -----------------------------------------------------------------


class Detector(torch.nn.Module):
    """The part of a detector that weights of a torchvision model are loaded into."""

    def __init__(self, name):
        super().__init__()
        cfg = get_msrcnn_cfg()
        cfg.MODEL.TORCHVISION.NAME = name
        cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.OUT_CHANNELS = 8
        self.backbone = build_torchvision_fpn_backbone(cfg, ShapeSpec(channels=3))

    @property
    def body(self):
        return self.backbone.bottom_up.body.state_dict()


@pytest.fixture
def load(tmp_path, caplog):
    """Loads random weights of a torchvision model; returns the detector, weights and messages."""

    def load(in_file, in_model, suffix=".pth"):
        weights = torchvision.models.get_model(in_file, weights=None).state_dict()
        path = tmp_path / f"{in_file}{suffix}"
        (torch.save if suffix == ".pth" else save_file)(weights, path)
        model = Detector(in_model)
        caplog.clear()
        with caplog.at_level("INFO", "msrcnn"):
            MaskScoringCheckpointer(model).load(str(path))
        records = [record for record in caplog.records if record.name.startswith("msrcnn")]
        return model, weights, [(r.levelname, r.getMessage().splitlines()[1:]) for r in records]

    return load


FORMATS = pytest.mark.parametrize("suffix", [".pth", ".safetensors"])  # in an order of its own


@FORMATS
@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("mobilenet_v2", "classifier.1, features.18.0, features.18.1"),
        ("efficientnet_b0", "classifier.1, features.8.0, features.8.1"),
        ("resnet18", "fc"),
    ],
)
def test_torchvision_backbone_loads_unchanged_names(name, head, suffix, load):
    model, weights, (message,) = load(name, name, suffix)
    # Detectron2's main branch has these counters, too.
    body = {key: tensor for key, tensor in model.body.items() if "num_batches" not in key}
    assert all(torch.equal(tensor, weights[key]) for key, tensor in body.items())
    assert message == (
        "INFO",
        [
            f"  loaded: backbone {len(body)}",
            "  newly initialized: FPN (16 tensors)",
            f"  in the file, not in the model: {head}",
        ],
    )


@FORMATS
@pytest.mark.parametrize(
    ("in_file", "in_model", "gap"),
    [
        ("resnet18", "resnet34", "the file lacks layers of the backbone"),
        ("resnet18", "mobilenet_v2", "the file lacks layers of the backbone"),
        ("resnet34", "resnet18", "the file has layers of the backbone that the model lacks"),
    ],
)
def test_other_layers_than_the_torchvision_backbone_are_a_warning(
    in_file, in_model, gap, suffix, load
):
    _, _, ((level, lines),) = load(in_file, in_model, suffix)
    assert level == "WARNING"
    assert lines[-1] == (
        f"  warning: {gap}; check that MODEL.RESNETS or MODEL.TORCHVISION matches the file"
    )


def test_torchvision_backbone_of_another_width_is_an_error(load):
    pattern = r"backbone.bottom_up.body.layer1.0.conv1.weight is \(64, 64, 1, 1\) in the file"
    with pytest.raises(UserError, match=pattern):
        load("resnet50", "resnet18")


def test_checkpoint_with_a_torchvision_backbone(tmp_path):
    model, other = Detector("mobilenet_v2"), Detector("mobilenet_v2")
    MaskScoringCheckpointer(model, str(tmp_path)).save("model_final")
    MaskScoringCheckpointer(other).load(str(tmp_path / "model_final.pth"))
    expected, found = model.state_dict(), other.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
