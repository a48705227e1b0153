import logging
import pickle

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from exploits import EXPLOITS
from torch import nn

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.errors import UserError


@pytest.mark.parametrize("name", ["weights.pth", "weights.pkl"])
def test_file_without_weights(tmp_path, name):
    (tmp_path / name).write_text("not weights at all")
    with pytest.raises(UserError, match="is not a checkpoint"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / name))


def test_pickle_without_weights(tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match=r"list\.pkl' is not a checkpoint"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / "list.pkl"))


def test_a_detector_of_another_library(tmp_path):
    """Some of its names may be those of the model, with the classes in another order."""
    weights = {"weight": torch.ones(2, 2), "roi_head.bbox_head.fc_cls.weight": torch.ones(2)}
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth' is mmdet.*: convert it with .* --from mmdet"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("name", ["reduce.pth", "reduce_2.pkl", "plain_pickle.pth"])
def test_code_in_a_file_runs_only_if_trusted(name, tmp_path):
    marker = tmp_path / "it_ran"
    (tmp_path / name).write_bytes(EXPLOITS[name](f"touch {marker}", tmp_path / "beside"))
    with pytest.raises(UserError, match=f"{name}' is refused .* --trust-weights"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / name))
    assert not marker.exists()
    with pytest.raises(UserError, match="contains no dict of weights"):  # but an exit status
        MaskScoringCheckpointer(nn.Linear(2, 2), trusted=True).load(str(tmp_path / name))
    assert marker.exists()


def test_code_in_the_checkpoint_to_resume_from_does_not_run(tmp_path):
    marker = tmp_path / "it_ran"
    (tmp_path / "model_final.pth").write_bytes(
        EXPLOITS["nested.pth"](f"touch {marker}", tmp_path / "beside")
    )
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    checkpointer = MaskScoringCheckpointer(nn.Linear(2, 2), str(tmp_path))
    with pytest.raises(UserError, match="model_final.pth' is refused"):
        checkpointer.resume_or_load("", resume=True)
    assert not marker.exists()


def test_checkpointables_are_restored(tmp_path):
    """Restores the optimizer from a checkpoint of ``DetectionCheckpointer``."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    DetectionCheckpointer(model, str(tmp_path), optimizer=optimizer).save("w", iteration=7)
    other = nn.Linear(2, 2)
    fresh = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    rest = MaskScoringCheckpointer(other, str(tmp_path), optimizer=fresh).resume_or_load("")
    assert rest["iteration"] == 7
    assert fresh.param_groups[0]["lr"] == 0.5
    momentum = [state["momentum_buffer"] for state in optimizer.state.values()]
    found = [state["momentum_buffer"] for state in fresh.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(found, momentum))
    assert torch.equal(other.weight, model.weight)


def test_no_weights(caplog):
    with caplog.at_level(logging.INFO, "msrcnn"):
        assert MaskScoringCheckpointer(nn.Linear(2, 2)).load("") == {}
    assert "the whole model is newly initialized" in caplog.text


def test_ambiguous_names(tmp_path):
    """Detectron2's heuristics raise an error."""
    content = {"model": {"weight": torch.ones(2, 2)}, "matching_heuristics": True}
    torch.save(content, tmp_path / "w.pth")
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(UserError, match="names cannot be matched to the model's: .*multiple"):
        MaskScoringCheckpointer(model).load(str(tmp_path / "w.pth"))


def test_tensors_that_cannot_be_copied(tmp_path):
    torch.save({"weight": torch.empty(2, 2, device="meta")}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth' .* declares more values than the file") as error:
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / "w.pth"))
    assert len(str(error.value).splitlines()) == 1


def test_weights_of_another_model(tmp_path):
    """Without this error, random weights would be evaluated."""
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="no weight in '.*other.pth' fits the model"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / "other.pth"))


def test_weights_of_a_part_of_the_model(tmp_path):
    torch.save({"weight": torch.ones(2, 2)}, tmp_path / "part.pth")
    model = nn.Linear(2, 2)
    MaskScoringCheckpointer(model).load(str(tmp_path / "part.pth"))
    assert torch.equal(model.weight, torch.ones(2, 2))


def test_unknown_torchvision_model():
    with pytest.raises(UserError, match="torchvision has no model of this name"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load("torchvision://resnet99")
