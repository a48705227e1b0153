"""Files that an earlier run has left in the output folder of a new one."""

import logging
import re
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..checkpoint.checkpoint_files import LAST_CHECKPOINT, resumable_checkpoints
from .training_log import LOG

logger = logging.getLogger(__name__)

# What a later part of a training, or of its fit, reads or continues.
FILES = re.compile(
    r"model_(\d{7,}|final|best|fitted)\.(pth|yaml)|fit\.json|samples|events\.out\.tfevents\..*|"
    + "|".join(map(re.escape, (LAST_CHECKPOINT, LOG)))
)


def set_aside_earlier_run(cfg: CfgNode, *, resume: bool) -> CfgNode:
    """Moves the files of an earlier run to a subfolder, unless the training resumes that run.

    Otherwise, the new run would continue its log, and could resume from its checkpoints or fit its
    best weights. Called by every process, before the trainer opens its files.

    Args:
        cfg: the config of the training.
        resume: resume from the last checkpoint of ``OUTPUT_DIR``, if there is one.

    Returns:
        The config; ``MODEL.WEIGHTS`` names the new place of a file that was moved.
    """
    folder, aside = Path(cfg.OUTPUT_DIR), None
    if comm.is_main_process() and not (resume and resumable_checkpoints(folder)):
        aside = _move(folder)
    aside, *_ = comm.all_gather(aside)  # that of the main process
    weights = Path(cfg.MODEL.WEIGHTS)
    if aside is None or weights.is_file() or weights.parent.resolve() != folder.resolve():
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(aside / weights.name)
    cfg.freeze()
    return cfg


def _move(folder: Path) -> Path | None:
    """Returns the subfolder that the files are in now, or ``None`` if there are none."""
    found = [path for path in folder.iterdir() if FILES.fullmatch(path.name)]
    if not found:
        return None
    number = 1
    while (aside := folder / f"earlier_run_{number}").exists():
        number += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    logger.info("The files of an earlier run are in %s now.", aside)
    return aside
