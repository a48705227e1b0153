"""Checkpoints by the clock, beside those by the number of steps."""

import time

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase


class TimedCheckpointer(HookBase):
    """Saves whenever the last checkpoint is ``SOLVER.CHECKPOINT_MINUTES`` old.

    Of the main process alone, behind ``PeriodicCheckpointer``: a checkpoint is the same whatever
    the other processes do meanwhile.
    """

    def __init__(self, cfg, checkpointer: DetectionCheckpointer):
        """
        Args:
            cfg: of the run.
            checkpointer: saves.
        """
        self._seconds = 60 * cfg.SOLVER.CHECKPOINT_MINUTES
        self._period = cfg.SOLVER.CHECKPOINT_PERIOD
        self._checkpointer = checkpointer

    def before_train(self) -> None:
        self._saved = time.monotonic()

    def after_step(self) -> None:
        steps = self.trainer.iter + 1  # done
        if steps % self._period == 0:
            self._saved = time.monotonic()
        elif steps < self.trainer.max_iter and time.monotonic() >= self._saved + self._seconds:
            self._checkpointer.save(f"model_{steps - 1:07d}", iteration=steps - 1)
            self._saved = time.monotonic()
