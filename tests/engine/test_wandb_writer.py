"""Logging to Weights & Biases, with a stand-in for its package."""

import sys
from types import SimpleNamespace

import pytest
import torch
from training_process import register, run_cfg

from msrcnn.engine import Trainer
from msrcnn.engine.wandb_writer import check_wandb
from msrcnn.errors import UserError


class Package(SimpleNamespace):
    """Records what is logged."""

    def __init__(self):
        super().__init__(logged=[], started=[], finished=0, Error=KeyError)

    def init(self, **settings):
        self.started.append(settings)
        return self

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1

    def Image(self, picture):  # noqa: N802, a name of wandb
        return picture.shape


@pytest.fixture
def package(monkeypatch):
    package = Package()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


def trainer(shapes_root, folder, **changes):
    register(shapes_root)
    cfg = run_cfg(shapes_root, folder, **{"WANDB": "animals", "SOLVER.MAX_ITER": 2, **changes})
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    return trainer


@pytest.mark.slow
def test_losses_metrics_and_pictures_are_logged(package, shapes_root, tmp_path):
    trainer(shapes_root, tmp_path, **{"TEST.EVAL_PERIOD": 1}).train()
    (settings,) = package.started
    assert (settings["project"], settings["dir"]) == ("animals", str(tmp_path))
    assert settings["config"]["SOLVER"]["MAX_ITER"] == 2
    assert settings["resume"] is None
    found = {name: value for _, values in package.logged for name, value in values.items()}
    assert {"total_loss", "loss_maskiou", "lr", "segm_mask_score/AP"} <= found.keys()
    (picture,) = [shape for name, shape in found.items() if name.endswith("/predictions")]
    assert picture[2] == 3
    assert package.finished == 1
    assert [step for step, _ in package.logged] == sorted(step for step, _ in package.logged)
    assert list(tmp_path.glob("events.out.tfevents.*"))  # TensorBoard as well


def test_a_resumed_run_continues(package, shapes_root, tmp_path):
    run = trainer(shapes_root, tmp_path, **{"DATASETS.TEST": ()})
    run.start_iter = run.max_iter  # nothing is left to do
    run.train()
    assert package.started[0]["resume"] == "auto"


def test_errors_of_the_package_are_for_the_user(package, shapes_root, tmp_path):
    def fail(**settings):
        raise package.Error("no login")

    package.init = fail
    with pytest.raises(UserError, match="WANDB 'animals': 'no login'"):
        trainer(shapes_root, tmp_path).train()
    assert package.finished == 0


def test_needs_its_package(tiny_cfg, monkeypatch):
    check_wandb(tiny_cfg)
    monkeypatch.setitem(sys.modules, "wandb", None)
    tiny_cfg.WANDB = "animals"
    with pytest.raises(UserError, match="WANDB 'animals' needs the package: pip install wandb"):
        check_wandb(tiny_cfg)
