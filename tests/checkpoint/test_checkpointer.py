import pickle

import pytest
import torch
from torch import nn

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.errors import UserError


@pytest.mark.parametrize("name", ["weights.pth", "weights.pkl"])
def test_file_of_another_kind(tmp_path, name):
    (tmp_path / name).write_text("not weights at all")
    with pytest.raises(UserError, match="is not a checkpoint"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / name))


def test_pickle_of_something_else(tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match=r"list\.pkl' is not a checkpoint"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / "list.pkl"))


def test_weights_of_another_model(tmp_path):
    """Else a model of random weights would be evaluated."""
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="no weight of the checkpoint fits the model"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load(str(tmp_path / "other.pth"))


def test_a_part_is_enough(tmp_path):
    torch.save({"weight": torch.ones(2, 2)}, tmp_path / "part.pth")
    model = nn.Linear(2, 2)
    MaskScoringCheckpointer(model).load(str(tmp_path / "part.pth"))
    assert torch.equal(model.weight, torch.ones(2, 2))


def test_unknown_torchvision_model():
    with pytest.raises(UserError, match="torchvision has no such model"):
        MaskScoringCheckpointer(nn.Linear(2, 2)).load("torchvision://resnet99")
