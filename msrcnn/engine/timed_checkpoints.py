"""Checkpoints by time, in addition to those by the number of iterations."""

import time

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import HookBase


class TimedCheckpointer(HookBase):
    """Saves a checkpoint whenever the last one is ``SOLVER.CHECKPOINT_MINUTES`` old.

    Runs after ``PeriodicCheckpointer``. Only the main process saves: a checkpoint does not depend
    on what the other processes do meanwhile.
    """

    def __init__(self, cfg: CfgNode, checkpointer: DetectionCheckpointer):
        """
        Args:
            cfg: config of the run.
            checkpointer: saves the checkpoint.
        """
        self._seconds = 60 * cfg.SOLVER.CHECKPOINT_MINUTES
        self._period = cfg.SOLVER.CHECKPOINT_PERIOD
        self._checkpointer = checkpointer

    def before_train(self) -> None:
        self._saved = time.monotonic()

    def after_step(self) -> None:
        steps = self.trainer.iter + 1  # completed
        if steps % self._period == 0:
            self._saved = time.monotonic()
        elif steps < self.trainer.max_iter and time.monotonic() >= self._saved + self._seconds:
            self._checkpointer.save(f"model_{steps - 1:07d}", iteration=steps - 1)
            self._saved = time.monotonic()
