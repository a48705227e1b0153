"""Tests of tools/convert_checkpoint.py, run in a process of its own."""

import pytest
import torch
from scripts import run_script
from torchvision.models import get_model


def convert(*arguments):
    return run_script("tools/convert_checkpoint.py", *arguments)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "resnet18.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    return path


def test_backbone(resnet, tmp_path):
    output = tmp_path / "new" / "ours.pth"
    done = convert("--from", "torchvision", resnet, output)
    assert done.returncode == 0, done.stderr
    assert "ResNet-18 of pytorch style" in done.stdout
    assert f"Wrote {output} and {output.with_suffix('.yaml')}" in done.stdout
    text = output.with_suffix(".yaml").read_text()
    assert "Written by msrcnn convert --from torchvision." in text
    saved = torch.load(output, weights_only=True)
    assert "backbone.bottom_up.stem.conv1.weight" in saved["model"]
    assert "matching_heuristics" not in saved  # Detectron2 must not match names itself


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "mmdet"], "torchvision's ResNet: convert it with --from torchvision"),
        (["--from", "torchvision", "--style", "caffe"], "style 'caffe': torchvision's ResNet is"),
    ],
)
def test_error_is_one_line(resnet, tmp_path, arguments, message):
    done = convert(*arguments, resnet, tmp_path / "ours.pth")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: '{resnet}': ")
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_unknown_source(resnet, tmp_path):
    done = convert("--from", "detectron", resnet, tmp_path / "ours.pth")
    assert done.returncode == 2
    assert "choose from" in done.stderr
    for source in ("maskscoring_rcnn", "mmdet", "torchvision"):
        assert source in done.stderr
