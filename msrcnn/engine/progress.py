"""The progress line of a training run."""

import datetime
import resource
import sys
from typing import TextIO

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase

WINDOW = 20  # values are medians over this many steps, as in Detectron2's printer


class ProgressLine(HookBase):
    """Prints one line of progress: updated in place on a terminal, else every few steps."""

    def __init__(self, cfg: CfgNode, stream: TextIO | None = None, period: int = WINDOW):
        """
        Args:
            cfg: config of the run.
            stream: output stream; standard error by default.
            period: steps between two lines if the stream is not a terminal.
        """
        self.stream = stream or sys.stderr
        self.period = period
        self._images = cfg.SOLVER.IMS_PER_BATCH
        # After these steps, checkpoints and evaluations write lines of their own.
        periods = (cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD)
        self._pauses = [period for period in periods if period > 0]

    def after_step(self) -> None:
        step, last = self.trainer.iter + 1, self.trainer.max_iter
        pauses = step == last or any(step % period == 0 for period in self._pauses)
        if self.stream.isatty():
            end = "\n" if pauses else ""
            self.stream.write(f"\r\x1b[K{self._text(step, last)}{end}")
        elif step % self.period == 0 or step == last:
            self.stream.write(self._text(step, last) + "\n")
        self.stream.flush()

    def _text(self, step: int, last: int) -> str:
        histories = self.trainer.storage.histories()
        parts = [f"step {step}/{last}"]
        if "total_loss" in histories:
            parts.append(f"loss {histories['total_loss'].median(WINDOW):.3f}")
        for name in ("mask", "maskiou"):
            if f"loss_{name}" in histories:
                parts.append(f"{name} {histories[f'loss_{name}'].median(WINDOW):.4f}")
        if "time" in histories:
            seconds = histories["time"].median(1000)
            left = datetime.timedelta(seconds=round(seconds * (last - step)))
            parts += [f"{seconds:.2f} s/step", f"{self._images / seconds:.1f} images/s"]
            parts += [f"{_gigabytes():.1f} GB", f"{left} left"]
        return "  ".join(parts)


def _gigabytes() -> float:
    """Returns the most memory used so far: of the GPU, or else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kibibytes
