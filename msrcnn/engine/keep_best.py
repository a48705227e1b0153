"""The best checkpoint of a run by a metric of its evaluations."""

import json
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine.hooks import BestCheckpointer

from ..checkpoint.atomic_file import atomic_file


class KeepBest(BestCheckpointer):
    """Saves ``model_best.pth`` whenever ``SOLVER.KEEP_BEST`` is higher than ever before.

    What was best is noted in ``model_best.json``, so that a resumed run knows it too.
    """

    def __init__(self, cfg, checkpointer: DetectionCheckpointer):
        """
        Args:
            cfg: of the run.
            checkpointer: saves.
        """
        super().__init__(cfg.TEST.EVAL_PERIOD, checkpointer, cfg.SOLVER.KEEP_BEST)
        self._note = Path(cfg.OUTPUT_DIR) / "model_best.json"

    def before_train(self) -> None:
        if self.trainer.start_iter > 0 and self._note.is_file():
            noted = json.loads(self._note.read_text())
            if noted["metric"] == self._val_metric and noted["iteration"] < self.trainer.start_iter:
                self.best_metric, self.best_iter = noted["value"], noted["iteration"]

    def _update_best(self, val, iteration) -> bool:
        updated = super()._update_best(val, iteration)
        if updated:
            note = {"metric": self._val_metric, "value": val, "iteration": iteration}
            with atomic_file(self._note) as file:
                file.write(json.dumps(note).encode())
        return updated
