import os

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from exploits import Call

from msrcnn.checkpoint import load_checkpoint_file, load_class_names, write_weights
from msrcnn.errors import UserError

SUFFIXES = [".pth", ".safetensors"]


def state_dict():
    """Returns tensors of all dtypes, shapes and memory layouts that a model may contain."""
    torch.manual_seed(0)
    shared = torch.randn(4, 4)
    return {
        **{
            str(dtype): torch.randn(3, 5).mul(9).to(dtype)
            for dtype in (
                *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
                *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
            )
        },
        "nan": torch.tensor([float("nan"), -0.0, float("inf")]),
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "shared": shared,
        "shared again": shared,
        "view": shared[1],
        "transposed": shared.T,
        "channels_last": torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }


def bits(tensor):
    return tensor.detach().contiguous().flatten().view(torch.uint8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_bit_for_bit(suffix, tmp_path):
    expected = state_dict()
    path = write_weights(tmp_path / f"w{suffix}", expected)
    found = load_checkpoint_file(path)["model"]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(bits(found[name]), bits(tensor)), name


def test_view_is_written_without_its_storage(tmp_path):
    path = write_weights(tmp_path / "w.pth", {"w": torch.zeros(1 << 20)[:2]})
    assert path.stat().st_size < 10_000


def test_detectron2_reads_it(tmp_path):
    model = torch.nn.Linear(2, 2)
    path = write_weights(tmp_path / "w.pth", model.state_dict())
    other = torch.nn.Linear(2, 2)
    DetectionCheckpointer(other).load(str(path))
    assert torch.equal(other.weight, model.weight)


def test_unsupported_extension(tmp_path):
    with pytest.raises(
        UserError, match=r"w\.onnx': the file name must end in \.pth or \.safetensors"
    ):
        write_weights(tmp_path / "w.onnx", {"w": torch.zeros(1)})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folder_is_created(suffix, tmp_path):
    assert write_weights(tmp_path / "new" / f"w{suffix}", {"w": torch.zeros(1)}).is_file()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot write '.*w{suffix}': "):
        write_weights(tmp_path / "file" / f"w{suffix}", {"w": torch.zeros(1)})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_file_is_kept_until_the_new_one_is_complete(suffix, tmp_path, monkeypatch):
    path = write_weights(tmp_path / f"w{suffix}", {"w": torch.zeros(1)})

    def full_disk(file_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        write_weights(path, {"w": torch.ones(1)})
    assert load_checkpoint_file(path)["model"]["w"] == 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_permissions_follow_the_umask(suffix, tmp_path):
    path = write_weights(tmp_path / f"w{suffix}", {"w": torch.zeros(1)})
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_class_names(tmp_path, suffix):
    names = ["猫", "", "a\n"]
    path = write_weights(tmp_path / f"w{suffix}", {"w": torch.ones(3)}, names)
    assert load_class_names(path) == names
    assert load_checkpoint_file(path)["model"]["w"].tolist() == [1, 1, 1]
    assert load_class_names(write_weights(tmp_path / f"none{suffix}", {"w": torch.ones(1)})) == []


def test_files_without_class_names(tmp_path):
    """None of them is an error here: weights are checked when they are loaded."""
    (tmp_path / "empty.pth").touch()
    torch.save({"model": {}, "class_names": [1, 2]}, tmp_path / "numbers.pth")
    ran = tmp_path / "ran"
    torch.save({"model": {}, "class_names": Call(os.system, f"touch {ran}")}, tmp_path / "code.pth")
    write_weights(tmp_path / "cut.pth", {"w": torch.ones(99)}, ["a"])
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:200])
    for name in ("empty.pth", "numbers.pth", "code.pth", "cut.pth", "nowhere.pth"):
        assert load_class_names(tmp_path / name) == [], name
    assert not ran.exists()
