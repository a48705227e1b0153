import pytest
import torch
from torch import nn

from msrcnn.engine.optimizer import build_optimizer


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))


def test_sgd_is_detectron2s(tiny_cfg, model):
    tiny_cfg.SOLVER.OPTIMIZER = "sgd"
    optimizer = build_optimizer(tiny_cfg, model)
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.9


def test_adamw(tiny_cfg, model):
    tiny_cfg.SOLVER.OPTIMIZER = "adamw"
    tiny_cfg.SOLVER.WEIGHT_DECAY = 0.05
    optimizer = build_optimizer(tiny_cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decay[id(model[0].weight)] == 0.05
    assert decay[id(model[1].weight)] == 0  # SOLVER.WEIGHT_DECAY_NORM
    assert all(g["lr"] == tiny_cfg.SOLVER.BASE_LR for g in optimizer.param_groups)
