"""Keeps the best checkpoint of a run by an evaluation metric."""

import logging
import math
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase

from ..checkpoint import load_checkpoint_file
from ..errors import UserError

logger = logging.getLogger(__name__)

NAME = "model_best"


class KeepBest(HookBase):
    """Saves ``model_best.pth`` whenever the metric ``SOLVER.KEEP_BEST`` reaches a new maximum.

    Like Detectron2's ``BestCheckpointer``, it runs after ``EvalHook``. The best value is saved in
    the checkpoint itself, so that a resumed run knows it and value and file cannot disagree.
    """

    def __init__(self, cfg, checkpointer: DetectionCheckpointer):
        """
        Args:
            cfg: config of the run.
            checkpointer: saves the checkpoint.
        """
        self._metric, self._period = cfg.SOLVER.KEEP_BEST, cfg.TEST.EVAL_PERIOD
        self._checkpointer = checkpointer
        self._path = Path(cfg.OUTPUT_DIR) / f"{NAME}.pth"
        self._best = -math.inf

    def before_train(self) -> None:
        if self.trainer.start_iter == 0 or not self._path.is_file():
            return
        try:
            best = load_checkpoint_file(self._path).get("best", {})
        except UserError as error:
            logger.warning("%s: starting over to find the best checkpoint.", error)
            return
        # A checkpoint of a later iteration belongs to another run.
        if best.get("metric") == self._metric and best["steps"] <= self.trainer.start_iter:
            self._best = best["value"]

    def after_step(self) -> None:
        steps = self.trainer.iter + 1  # completed
        if self._period > 0 and steps % self._period == 0 and steps != self.trainer.max_iter:
            self._save_if_best(steps)

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._save_if_best(self.trainer.max_iter)

    def _save_if_best(self, steps: int) -> None:
        found = self.trainer.storage.latest().get(self._metric)
        if found is None:
            known = sorted(name for name in self.trainer.storage.latest() if "/AP" in name)
            logger.warning(
                "SOLVER.KEEP_BEST '%s' is not a metric of the evaluation; available: %s",
                self._metric,
                ", ".join(known),
            )
            return
        value = found[0]
        if value > self._best:
            best = {"metric": self._metric, "value": value, "steps": steps}
            self._checkpointer.save(NAME, iteration=steps - 1, best=best)
            self._best = value
