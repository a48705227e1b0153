"""SOLVER.EARLY_STOP: when it ends a training, and that a resumed one ends there too."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.utils import comm
from training_process import register, run_cfg

from msrcnn.engine import Trainer
from msrcnn.engine.early_stop import EarlyStop, check_early_stop
from msrcnn.engine.training_log import read_evaluations
from msrcnn.errors import UserError

METRIC = "segm_mask_score/AP"
VALUES = {1: 1.0, 2: 3.0, 3: 2.0, 4: 3.0, 5: 9.0}  # by the number of steps


@pytest.fixture
def train(shapes_root, tmp_path, monkeypatch):
    """Returns a function that trains with scripted evaluations and returns the trainer."""
    register(shapes_root)

    def scripted(cls, cfg, model):
        return {"segm_mask_score": {"AP": VALUES[min(cls.steps(), 5)]}}

    monkeypatch.setattr(Trainer, "test", classmethod(scripted))

    def train(patience=2, stop_after=None):
        changes = {"SOLVER.KEEP_BEST": METRIC, "SOLVER.EARLY_STOP": patience}
        changes.update({"TEST.EVAL_PERIOD": 1, "SOLVER.CHECKPOINT_PERIOD": 1})
        trainer = Trainer(run_cfg(shapes_root, tmp_path, **changes))
        trainer._trainer.run_step = trainer.optimizer.step  # changes nothing
        monkeypatch.setattr(
            Trainer, "steps", staticmethod(lambda: min(trainer.iter + 1, trainer.max_iter)), False
        )
        trainer.resume_or_load(resume=True)
        if stop_after:
            run_step = trainer.run_step

            def killed():
                if trainer.iter == stop_after:
                    raise KeyError("killed")
                run_step()

            trainer.run_step = killed
            with pytest.raises(KeyError, match="killed"):
                trainer.train()
        else:
            trainer.train()
        return trainer

    return train


def best(tmp_path):
    return torch.load(tmp_path / "model_best.pth", weights_only=True)["best"]


def test_ends_after_evaluations_that_are_not_better(train, tmp_path, caplog):
    with caplog.at_level("INFO"):
        trainer = train()
    assert "SOLVER.EARLY_STOP: no evaluation was better than that of iteration 2" in caplog.text
    assert trainer.iter == trainer.max_iter == trainer.cfg.SOLVER.MAX_ITER == 4
    assert best(tmp_path) == {"metric": METRIC, "value": 3.0, "steps": 2}
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert final["iteration"] == 3
    # A training that has ended stays so, but for a higher number of evaluations.
    assert train().iter == 4
    assert train(patience=3).iter == 8
    assert best(tmp_path)["steps"] == 5


def test_interrupted_between_evaluations(train, tmp_path):
    """The best one before the interruption, at 2, still counts."""
    train(patience=3, stop_after=3)
    assert train(patience=3).iter == 8
    assert best(tmp_path)["steps"] == 5


def test_a_better_one_starts_the_count_again(train):
    assert train(patience=3).iter == 8  # that at 5 is the best, and the later ones are as good


def test_the_last_step_ends_the_training_anyway(train, caplog):
    """Stopping early there would also end a resumed training with more steps."""
    with caplog.at_level("INFO"):
        trainer = train(patience=4)  # that at 5 is the best of 9
    assert trainer.iter == trainer.max_iter == 9
    assert "no evaluation was better" not in caplog.text


@pytest.mark.parametrize(("best", "stops"), [(2, True), (4, False), (0, False)])  # 0: no value yet
def test_all_processes_follow_the_main_one(tiny_cfg, monkeypatch, best, stops):
    tiny_cfg.SOLVER.EARLY_STOP, tiny_cfg.TEST.EVAL_PERIOD = 1, 2
    tiny_cfg.SOLVER.KEEP_BEST = METRIC
    monkeypatch.setattr(comm, "all_gather", lambda own: [best, own])
    hook = EarlyStop(tiny_cfg, None, None)
    hook.trainer = SimpleNamespace(iter=2, max_iter=10, stops=False)
    hook.after_step()
    assert not hook.trainer.stops  # no evaluation
    hook.trainer.iter = 3
    hook.after_step()
    assert hook.trainer.stops == stops


def test_needs_a_metric(tiny_cfg):
    check_early_stop(tiny_cfg)
    tiny_cfg.SOLVER.EARLY_STOP = 2
    with pytest.raises(UserError, match="SOLVER.EARLY_STOP 2 needs a metric.*SOLVER.KEEP_BEST"):
        check_early_stop(tiny_cfg)


def test_an_evaluation_that_was_killed_is_made_up_for(shapes_root, tmp_path, monkeypatch):
    """Between a checkpoint and the end of the evaluation at the same step; not a second time."""
    register(shapes_root)
    changes = {"SOLVER.KEEP_BEST": METRIC, "SOLVER.CHECKPOINT_PERIOD": 2, "TEST.EVAL_PERIOD": 2}
    cfg = run_cfg(shapes_root, tmp_path, **changes, **{"SOLVER.MAX_ITER": 6})
    evaluated = []

    def run(killed_in_evaluation=0, killed_in_step=0):
        trainer = Trainer(cfg)

        def step():
            if trainer.iter + 1 == killed_in_step:
                raise KeyError("killed")
            trainer.optimizer.step()  # changes nothing

        def evaluate(cls, cfg, model):
            steps = min(trainer.iter + 1, 6)
            if steps == killed_in_evaluation:
                raise KeyError("killed")
            evaluated.append(steps)
            return {task: {"AP": float(10 - steps)} for task in ("bbox", "segm_mask_score")}

        trainer._trainer.run_step = step
        monkeypatch.setattr(Trainer, "test", classmethod(evaluate))
        trainer.resume_or_load(resume=True)
        trainer.train()

    with pytest.raises(KeyError, match="killed"):
        run(killed_in_evaluation=2)
    assert evaluated == []
    with pytest.raises(KeyError, match="killed"):
        run(killed_in_step=3)
    assert evaluated == [2]
    run()
    assert evaluated == [2, 4, 6]
    log = read_evaluations(tmp_path / "metrics.json")
    assert [line["iteration"] for line in log] == [1, 3, 6]  # the last one after the training
    assert best(tmp_path)["steps"] == 2
