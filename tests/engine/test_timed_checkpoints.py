from types import SimpleNamespace

import pytest
from detectron2.engine import TrainerBase

import msrcnn
from msrcnn.engine import timed_checkpoints
from msrcnn.engine.timed_checkpoints import TimedCheckpointer


class Checkpointer:
    def __init__(self):
        self.saved = []

    def save(self, name, iteration):
        self.saved.append((name, iteration))


@pytest.fixture
def steps(monkeypatch):
    """Returns a function that trains with the given durations of steps, in seconds.

    It returns the checkpoints that the hook saved.
    """

    def steps(durations, minutes=10, period=100):
        clock = SimpleNamespace(now=1000.0)
        monkeypatch.setattr(timed_checkpoints.time, "monotonic", lambda: clock.now)

        class FakeTrainer(TrainerBase):
            def run_step(self):
                clock.now += durations[self.iter]

        cfg = msrcnn.get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
        cfg.merge_from_list(
            ["SOLVER.CHECKPOINT_MINUTES", minutes, "SOLVER.CHECKPOINT_PERIOD", period]
        )
        checkpointer = Checkpointer()
        trainer = FakeTrainer()
        trainer.register_hooks([TimedCheckpointer(cfg, checkpointer)])
        trainer.train(0, len(durations))
        return checkpointer.saved

    return steps


def test_saves_when_the_last_checkpoint_is_old(steps):
    assert steps([300] * 7) == [(f"model_{i:07d}", i) for i in (1, 3, 5)]


def test_a_periodic_checkpoint_counts(steps):
    assert steps([300] * 7, period=2) == []
    assert [iteration for _, iteration in steps([300] * 7, period=3)] == [1, 4]


def test_last_step_is_left_to_the_final_checkpoint(steps):
    assert steps([10, 10, 10, 900]) == []


def test_saves_after_every_slow_step(steps):
    assert [iteration for _, iteration in steps([1000] * 4)] == [0, 1, 2]
