"""Keeps the best checkpoint of a run by an evaluation metric."""

import difflib
import logging
import math
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import HookBase

from ..checkpoint import load_checkpoint_file
from ..data.registered import checked_dataset
from ..errors import UserError
from ..evaluation.agreement import CORRELATIONS
from ..evaluation.rankings import AP_LABELS, number_names

logger = logging.getLogger(__name__)

NAME = "model_best"


def check_keep_best(cfg: CfgNode) -> None:
    """Rejects a ``SOLVER.KEEP_BEST`` that a training could not follow.

    Args:
        cfg: the config of the training.

    Raises:
        UserError: if the training does not evaluate, or not this metric.
    """
    key = f"SOLVER.KEEP_BEST '{cfg.SOLVER.KEEP_BEST}'"
    if not cfg.SOLVER.KEEP_BEST:
        return
    if cfg.TEST.EVAL_PERIOD <= 0:
        raise UserError(
            f"{key} needs evaluations during training: set TEST.EVAL_PERIOD, the iterations "
            "between two evaluations"
        )
    if not cfg.DATASETS.TEST:
        raise UserError(f"{key} needs an evaluation, but DATASETS.TEST is empty: give --val-data")
    known = _metrics(cfg)
    if cfg.SOLVER.KEEP_BEST not in known:
        near = difflib.get_close_matches(cfg.SOLVER.KEEP_BEST, known, cutoff=0)
        raise UserError(
            f"{key} is not a metric of this training's evaluations for which higher is better; "
            f"nearest: {', '.join(near)}"
        )


def check_data_of_best(cfg: CfgNode) -> None:
    """Rejects data without the metric ``SOLVER.KEEP_BEST``: there would be no best checkpoint.

    Args:
        cfg: the config of the training, whose datasets are registered.

    Raises:
        UserError: naming the dataset, and what it lacks.
    """
    if not cfg.SOLVER.KEEP_BEST:
        return
    *dataset, task, _ = cfg.SOLVER.KEEP_BEST.rsplit("/", 2)  # a dataset only if there are several
    for name in cfg.DATASETS.TEST:
        if len(cfg.DATASETS.TEST) == 1 or dataset == [name]:
            try:
                checked_dataset(name).for_evaluation(masks=task != "bbox")
            except UserError as error:
                raise UserError(f"SOLVER.KEEP_BEST '{cfg.SOLVER.KEEP_BEST}': {error}") from error


def _metrics(cfg: CfgNode) -> list[str]:
    """Returns the names of the metrics for which higher is better, of evaluations in a training."""
    of_scores = cfg.MODEL.MASK_ON and cfg.MODEL.MASKIOU_ON
    tasks = ["bbox"]
    if cfg.MODEL.MASK_ON:
        tasks = [task for task in AP_LABELS if of_scores or not task.endswith("_mask_score")]
    names = number_names(tasks, ["maskiou"] if of_scores else [], CORRELATIONS)
    if len(cfg.DATASETS.TEST) == 1:
        return names
    return [f"{dataset}/{name}" for dataset in cfg.DATASETS.TEST for name in names]


class KeepBest(HookBase):
    """Saves ``model_best.pth`` whenever the metric ``SOLVER.KEEP_BEST`` reaches a new maximum.

    Like Detectron2's ``BestCheckpointer``, it runs after ``EvalHook``. The best value is saved in
    the checkpoint itself, so that a resumed run knows it and value and file cannot disagree. Every
    other checkpoint records the best value at that time, so that a file that an earlier run has
    left in the same folder is not mistaken for that of this run.

    Attributes:
        best_steps: completed iterations at the best evaluation; 0 before the first one.
    """

    def __init__(self, cfg: CfgNode, checkpointer: DetectionCheckpointer):
        """
        Args:
            cfg: config of the run.
            checkpointer: saves the checkpoint.
        """
        self._metric, self._period = cfg.SOLVER.KEEP_BEST, cfg.TEST.EVAL_PERIOD
        self._checkpointer = checkpointer
        self._path = Path(cfg.OUTPUT_DIR) / f"{NAME}.pth"
        self._best, self.best_steps = -math.inf, 0
        self._of_checkpoint: dict | None = None  # that the run resumes from; None in older ones

    def before_train(self) -> None:
        if self.trainer.start_iter == 0 or not self._path.is_file():
            return
        try:
            best = load_checkpoint_file(self._path, own=True).get("best", {})
        except UserError as error:
            logger.warning("%s: starting over to find the best checkpoint.", error)
            return
        if best.get("metric") == self._metric and self._is_of_this_run(best):
            self._best, self.best_steps = best["value"], best["steps"]

    def _is_of_this_run(self, best: dict) -> bool:
        """Whether a best checkpoint is of the run that resumes."""
        if self._of_checkpoint is None or best["steps"] >= self.trainer.start_iter:
            # The evaluation after these iterations follows the checkpoint; later ones are undone.
            return best["steps"] <= self.trainer.start_iter
        return best == self._of_checkpoint

    def state_dict(self) -> dict:
        return {"metric": self._metric, "value": self._best, "steps": self.best_steps}

    def load_state_dict(self, state: dict) -> None:
        self._of_checkpoint = state

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
                "SOLVER.KEEP_BEST '%s' has no value on these data; available: %s",
                self._metric,
                ", ".join(known),
            )
            return
        value = found[0]
        if value > self._best:
            best = {"metric": self._metric, "value": value, "steps": steps}
            self._checkpointer.save(NAME, iteration=steps - 1, best=best)
            self._best, self.best_steps = value, steps
