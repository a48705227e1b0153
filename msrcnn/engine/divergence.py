"""Training that has diverged: one error for the user, and a file to run the step again from."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from detectron2.utils import comm
from torch import Tensor

from ..atomic_file import atomic_file
from ..checkpoint import load_checkpoint_file
from ..checkpoint.checkpoint_files import resumable_checkpoints
from ..errors import UserError, first_of
from ..escaping import one_line
from .launch import part_of_run

FILE = "diverged.pth"
SHOWN = 8  # names of images in the message; the file has all
# A loss in the text of Detectron2's FloatingPointError, with or without NumPy's type.
LOSS = re.compile(r"'(\w+)': (?:np\.float\d+\()?([^,)}]+)")


def divergence_error(trainer, error: FloatingPointError) -> UserError:
    """Writes ``FILE`` to the output folder, and returns the error that ends the training.

    The file has the weights before the step (``model``), ``iteration``, ``seed``, the number of
    ``processes`` and the file names of their ``images``: all that the step depends on, besides the
    config and the data.

    Args:
        trainer: a :class:`~.trainer.Trainer` in its ``run_step``.
        error: raised by Detectron2, in one of the processes.
    """
    cfg, iteration, processes = trainer.cfg, trainer.iter, comm.get_world_size()
    images = []
    for rank in range(processes):
        with part_of_run(rank, processes):
            images.append([image["file_name"] for image in trainer.data_loader.images(iteration)])
    path = Path(cfg.OUTPUT_DIR) / FILE
    with atomic_file(path) as file:
        torch.save(
            {
                "model": trainer.checkpointer.model.state_dict(),
                "iteration": iteration,
                "seed": trainer.seed,
                "processes": processes,
                "images": images,
            },
            file,
        )
    names = [name for names in images for name in names]
    good = _last_good(Path(cfg.OUTPUT_DIR))
    start = f"from '{good}', the last good checkpoint, as MODEL.WEIGHTS" if good else "again"
    return UserError(
        f"training has diverged at iteration {iteration} ({_losses(error)}) on the images "
        f"{first_of(names, SHOWN)}: start {start} in a new OUTPUT_DIR "
        f"with a lower SOLVER.BASE_LR (it is {cfg.SOLVER.BASE_LR:g}), a higher SOLVER.WARMUP_ITERS "
        f"({cfg.SOLVER.WARMUP_ITERS}) or SOLVER.CLIP_GRADIENTS.ENABLED True; --replay '{path}' "
        "shows where it began"
    )


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the first tensor with an infinite value or NaN."""
    return next((name for name, each in tensors.items() if not torch.isfinite(each).all()), None)


def _last_good(folder: Path) -> Path | None:
    """Returns the latest checkpoint whose weights are finite; the last update may have failed."""
    for path in resumable_checkpoints(folder):
        with contextlib.suppress(UserError):  # damaged
            if first_not_finite(load_checkpoint_file(path, own=True)["model"]) is None:
                return path
    return None


def _losses(error: FloatingPointError) -> str:
    losses = [f"{name} {float(value):.4g}" for name, value in LOSS.findall(str(error))]
    return ", ".join(losses) or one_line(str(error))
