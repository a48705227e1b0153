from types import SimpleNamespace

import pytest
import torch
import torchvision
from detectron2.modeling import build_model

from msrcnn import get_config
from msrcnn.checkpoint import MaskScoringCheckpointer, convert_torchvision_resnet


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


def test_classifier_and_counters_are_left_out():
    converted = convert_torchvision_resnet(torchvision.models.resnet18().state_dict())
    assert not any("fc." in name or "num_batches" in name for name in converted)
    assert "res2.0.conv1.norm.running_var" in converted
    assert "res3.0.shortcut.norm.weight" in converted
    assert "stem.conv1.norm.bias" in converted
