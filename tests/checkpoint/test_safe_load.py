"""Loads malicious, damaged and valid files."""

import contextlib
import io
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from conftest import ROOT
from exploits import EXPLOITS
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from msrcnn.checkpoint import MaskScoringCheckpointer, load_checkpoint_file, safe_load
from msrcnn.errors import UserError


@pytest.fixture
def malicious(tmp_path):
    """Writes an exploit; returns its path, and the file that it creates if it runs."""

    def write(name):
        marker = tmp_path / "it_ran"
        path = tmp_path / name
        path.write_bytes(EXPLOITS[name](f"touch {marker}", tmp_path / "beside.npy"))
        return path, marker

    return write


@pytest.mark.parametrize("name", EXPLOITS)
def test_malicious_file_is_rejected_and_does_not_run(name, malicious):
    path, marker = malicious(name)
    with pytest.raises(UserError) as error:
        load_checkpoint_file(path)
    assert not marker.exists()
    message = str(error.value)
    assert f"'{path}' is refused" in message
    assert "--trust-weights" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("name", EXPLOITS)
def test_the_same_file_runs_if_trusted(name, malicious, caplog):
    """Shows that the exploits work, without which the test above would prove nothing."""
    path, marker = malicious(name)
    with contextlib.suppress(UserError):  # they contain no weights
        load_checkpoint_file(path, trusted=True)
    assert marker.exists()
    assert "any code in it is run" in caplog.text


def test_trusted_file_loads(tmp_path):
    """Contains a whole model in addition to weights, as some libraries save it."""
    content = {"model": {"weight": torch.ones(2, 2)}, "ema": torch.nn.Linear(2, 2)}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"the name 'torch\.nn\.modules\.linear\.Linear'"):
        load_checkpoint_file(tmp_path / "w.pth")
    found = load_checkpoint_file(tmp_path / "w.pth", trusted=True)
    assert torch.equal(found["model"]["weight"], torch.ones(2, 2))
    assert isinstance(found["ema"], torch.nn.Linear)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("reduce.pth", "the name 'posix.system'"),
        ("legacy.pth", "the name 'posix.system'"),
        ("eval.pth", r"the name '(builtins\.)?eval'"),
        ("another_protocol.pth", "Unsupported operand"),
        ("reduce_2.pkl", "the name 'posix.system'"),
        (
            "tensor.pkl",
            "'torch.storage._load_from_bytes', part of a PyTorch tensor: save tensors with torch",
        ),
        ("dict_subclass.pkl", "the name 'exploits.Sneaky'"),
    ],
)
def test_error_names_what_was_found(name, what, malicious):
    with pytest.raises(UserError, match=what):
        load_checkpoint_file(malicious(name)[0])


def test_control_characters_in_names_are_escaped(tmp_path):
    (tmp_path / "w.pkl").write_bytes(b"c\x1b[2Jos\nsys\rtem\n.")
    with pytest.raises(UserError) as error:
        load_checkpoint_file(tmp_path / "w.pkl")
    assert str(error.value).isprintable()


def test_torchscript_is_rejected(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "w.pth")
    with pytest.raises(UserError, match="refused .*: a TorchScript program"):
        load_checkpoint_file(tmp_path / "w.pth")


def test_tar_is_rejected(tmp_path):
    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(UserError, match="refused .*: a tar archive"):
        load_checkpoint_file(tmp_path / "w.pth")


@pytest.mark.parametrize("legacy", [True, False])
def test_pth_of_others_needs_a_safe_pytorch(legacy, tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=not legacy)
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    load_checkpoint_file(path)
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1+cu128"))
    monkeypatch.setattr(safe_load, "SAFE_TORCH_VERSION", (2, 10))  # also on an older one
    message = r"w.pth' is refused: PyTorch 2.9.1.* Use PyTorch 2.10 or newer.* --trust-weights"
    with pytest.raises(UserError, match=message):
        load_checkpoint_file(path)
    assert load_checkpoint_file(path, trusted=True)["model"]["w"] == 1
    assert load_checkpoint_file(path, own=True)["model"]["w"] == 1
    assert load_checkpoint_file(tmp_path / "w.safetensors")["model"]["w"] == 1


def test_a_run_loads_its_own_checkpoints_with_any_pytorch(tmp_path, monkeypatch):
    model = torch.nn.Linear(1, 1)
    MaskScoringCheckpointer(model, str(tmp_path)).save("model_0000001", iteration=1)
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    monkeypatch.setattr(safe_load, "SAFE_TORCH_VERSION", (2, 10))
    assert MaskScoringCheckpointer(model, str(tmp_path)).resume_or_load("")["iteration"] == 1
    for folder in (str(tmp_path / "does_not_exist_yet"), ""):
        with pytest.raises(UserError, match="is refused: PyTorch 2.9.1"):
            MaskScoringCheckpointer(model, folder).load(str(tmp_path / "model_0000001.pth"))


def test_tensor_that_declares_more_than_its_storage(tmp_path):
    torch.save({"w": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="'w' declares more values than the file has"):
        load_checkpoint_file(tmp_path / "w.pth")


def test_zip_bomb_is_not_unpacked(tmp_path):
    torch.save({"w": torch.zeros(1 << 20)}, tmp_path / "valid.pth")
    with (
        zipfile.ZipFile(tmp_path / "valid.pth") as valid,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in valid.infolist():
            bomb.writestr(entry.filename, valid.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 100_000
    with pytest.raises(
        UserError, match="it would unpack to 4.* bytes, more than the size of the file"
    ):
        load_checkpoint_file(tmp_path / "bomb.pth")


# --- valid files -----------------------------------------------------------------------------


WEIGHTS = {"backbone.conv.weight": np.arange(6, dtype="f4").reshape(2, 3), "fc.bias": np.ones(2)}


def tensors():
    return {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}


def assert_equal_weights(checkpoint):
    assert checkpoint["model"].keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        assert torch.equal(checkpoint["model"][name], torch.from_numpy(array))


def write_zoo(path):
    content = {"model": WEIGHTS, "__author__": "Zoo", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content, 2))


WRITERS = {
    "zip.pth": lambda path: torch.save({"model": tensors()}, path),
    "flat.pth": lambda path: torch.save(tensors(), path),
    "legacy.pth": lambda path: torch.save(
        {"model": tensors()}, path, _use_new_zipfile_serialization=False
    ),
    "zoo.pkl": write_zoo,
    "flat.pkl": lambda path: path.write_bytes(pickle.dumps(WEIGHTS)),
    "pickle.pth": lambda path: path.write_bytes(pickle.dumps({"model": WEIGHTS})),
    "zip.pkl": lambda path: torch.save({"model": tensors()}, path),
    "pycls.pyth": lambda path: torch.save({"model_state": tensors()}, path),
    "w.safetensors": lambda path: save_file(tensors(), path),
    "safetensors.pth": lambda path: save_file(tensors(), path, {"note": "not by extension"}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats_are_detected_by_content(name, tmp_path):
    WRITERS[name](tmp_path / name)
    checkpoint = load_checkpoint_file(tmp_path / name)
    assert_equal_weights(checkpoint)
    by_heuristics = name in ("zoo.pkl", "pycls.pyth")
    assert checkpoint.get("matching_heuristics", False) == by_heuristics
    assert_equal_weights(load_checkpoint_file(tmp_path / name, trusted=True))


@pytest.mark.parametrize("wrap", [lambda blobs: blobs, lambda blobs: {"blobs": blobs, "cfg": "x"}])
def test_caffe2(wrap, tmp_path):
    """ImageNet models are flat, detection models have "blobs"; momentum is skipped."""
    blobs = {"conv1_w": np.ones((2, 2), "f4"), "conv1_w_momentum": np.ones((2, 2), "f4")}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(wrap(blobs), 2))
    checkpoint = load_checkpoint_file(tmp_path / "R-50.pkl")
    assert list(checkpoint["model"]) == ["conv1_w"]
    assert checkpoint["__author__"] == "Caffe2"
    assert checkpoint["matching_heuristics"]


def test_training_checkpoint_is_complete(tmp_path):
    """PyTorch's optimizers, schedulers and gradient scalers contain only data."""
    model = torch.nn.Linear(2, 2)
    parts = {"model": model.state_dict(), "iteration": 7}
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = optimizer(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        parts[type(optimizer).__name__] = optimizer.state_dict()
        for scheduler in (
            torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3]),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5),
        ):
            parts[type(scheduler).__name__] = scheduler.state_dict()
    parts["scaler"] = torch.amp.GradScaler("cpu").state_dict()
    torch.save(parts, tmp_path / "w.pth")
    found = load_checkpoint_file(tmp_path / "w.pth")
    assert found.keys() == parts.keys()
    assert found["MultiStepLR"] == parts["MultiStepLR"]
    assert found["scaler"] == parts["scaler"]
    momentum = found["AdamW"]["state"][0]["exp_avg"]
    assert torch.equal(momentum, parts["AdamW"]["state"][0]["exp_avg"])


@pytest.mark.parametrize("name", ["w.pth", "w.pkl"])
def test_versions_of_layers_are_kept(name, tmp_path):
    """Detectron2's frozen batch norm converts the statistics of old versions."""
    state = OrderedDict(WEIGHTS if name == "w.pkl" else tensors())
    state._metadata = {"bn": {"version": 2}}
    save = torch.save if name == "w.pth" else lambda x, p: p.write_bytes(pickle.dumps(x))
    save({"model": state}, tmp_path / name)
    assert load_checkpoint_file(tmp_path / name)["model"]._metadata == {"bn": {"version": 2}}


# --- files that are not checkpoints ----------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it contains a list, not a dict of weights"),
        ({}, "it contains no dict of weights"),
        ({"model": {}}, "it contains no dict of weights"),
        ({"model": 5}, "it contains no dict of weights"),
        ({1: torch.ones(1)}, "it contains no dict of weights"),
        ({"state_dict": {"w": torch.ones(1)}}, "its entry 'state_dict' has entries of its own"),
        ({"model": {"w": "text"}}, "its entry 'w' is a str, not a tensor"),
    ],
    ids=str,
)
def test_file_without_weights(content, message, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        load_checkpoint_file(tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        load_checkpoint_file(tmp_path / "w.pth", trusted=True)


def test_no_file(tmp_path):
    for path in (tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            load_checkpoint_file(path)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.9, 0.999])
def test_truncated(name, kept, tmp_path):
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(kept * len(content))])
    with pytest.raises(
        UserError, match=f"{name}' is not a checkpoint, or is damaged: .|unexpected EOF"
    ):
        load_checkpoint_file(tmp_path / name)


def written(name, folder):
    WRITERS[name](folder / name)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "zoo.pkl", "w.safetensors"])
def test_damaged_file_loads_or_raises_a_user_error(name, tmp_path):
    valid = written(name, tmp_path)

    @given(st.lists(st.tuples(st.integers(0, len(valid) - 1), st.integers(0, 255)), max_size=4))
    def damage(changes):
        content = bytearray(valid)
        for place, byte in changes:
            content[place] = byte
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(UserError):
            assert load_checkpoint_file(tmp_path / name)["model"]

    damage()


def test_nothing_else_in_the_package_unpickles():
    """Any other unpickler would defeat the safe one."""
    unpickles = re.compile(r"(torch|np|numpy|joblib)\.load\(|pickle\.loads?\(|Unpickler\(")
    files = [path for folder in ("msrcnn", "tools") for path in (ROOT / folder).rglob("*.py")]
    safe = re.compile(r"np\.load\([^()]*allow_pickle=False\)")
    found = {path.name for path in files if unpickles.search(safe.sub("", path.read_text()))}
    # local_process.py calls the job that the sweep itself has just written for it.
    assert found == {"safe_load.py", "restricted_pickle.py", "local_process.py"}
