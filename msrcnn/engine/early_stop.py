"""Ends a training that no longer gets better (``SOLVER.EARLY_STOP``)."""

import logging
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..checkpoint.checkpoint_files import FINAL_WEIGHTS
from ..errors import UserError
from .keep_best import KeepBest

logger = logging.getLogger(__name__)


def check_early_stop(cfg: CfgNode) -> None:
    """Rejects a ``SOLVER.EARLY_STOP`` without a metric to follow.

    Raises:
        UserError: if ``SOLVER.KEEP_BEST`` is empty.
    """
    if cfg.SOLVER.EARLY_STOP and not cfg.SOLVER.KEEP_BEST:
        raise UserError(
            f"SOLVER.EARLY_STOP {cfg.SOLVER.EARLY_STOP} needs a metric to follow: set "
            "SOLVER.KEEP_BEST, such as segm_box_score/AP"
        )


class EarlyStop(HookBase):
    """Ends the training after ``SOLVER.EARLY_STOP`` evaluations without a new best one.

    Runs in every process, after :class:`~.keep_best.KeepBest`, which runs in the main process only.
    The number of evaluations since the best one follows from the iteration of the best one, which a
    resumed run knows. It therefore ends at the same iteration as an uninterrupted run. Resuming a
    training that has ended early does not continue it, unless ``EARLY_STOP`` is higher than before.
    """

    def __init__(
        self, cfg: CfgNode, checkpointer: DetectionCheckpointer, keep_best: KeepBest | None
    ):
        """
        Args:
            cfg: config of the run.
            checkpointer: saves ``model_final.pth``.
            keep_best: the hook that finds the best evaluation; ``None`` in other processes.
        """
        check_early_stop(cfg)
        self._patience, self._period = cfg.SOLVER.EARLY_STOP, cfg.TEST.EVAL_PERIOD
        self._checkpointer, self._keep_best = checkpointer, keep_best
        self._ended_with = 0  # EARLY_STOP that has ended the training

    def before_train(self) -> None:
        if self._patience <= self._ended_with:
            self.trainer.stops = True

    def after_step(self) -> None:
        steps = self.trainer.iter + 1  # completed
        if self._period <= 0 or steps % self._period or steps >= self.trainer.max_iter:
            return
        best = self._keep_best.best_steps if self._keep_best else None
        best, *_ = comm.all_gather(best)  # that of the main process
        if best == 0 or (steps - best) // self._period < self._patience:
            return  # 0: the metric has had no value yet
        self.trainer.stops, self._ended_with = True, self._patience
        if self._keep_best is not None:
            logger.info(
                "SOLVER.EARLY_STOP: no evaluation was better than that of iteration %d; the "
                "training ends at iteration %d.",
                best,
                steps,
            )
            self._checkpointer.save(Path(FINAL_WEIGHTS).stem, iteration=self.trainer.iter)

    def state_dict(self) -> dict:
        return {"ended_with": self._ended_with} if self._ended_with else {}

    def load_state_dict(self, state: dict) -> None:
        self._ended_with = state["ended_with"]
