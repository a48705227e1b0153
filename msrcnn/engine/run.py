"""A training run, or an evaluation, as every process of it executes it."""

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from .earlier_run import kept_config, set_aside_earlier_run
from .early_stop import check_early_stop
from .evaluate import evaluate
from .keep_best import check_keep_best
from .resume_check import check_resume
from .start import start_run
from .trainer import train
from .wandb_writer import check_wandb

logger = logging.getLogger(__name__)


def run(
    cfg: CfgNode,
    *,
    config_file: str = "",
    resume: bool = False,
    eval_only: bool = False,
    trust_weights: bool = False,
    notes: Sequence[str] = (),
) -> None:
    """Starts the run, then trains and evaluates, or only evaluates.

    Args:
        cfg: a config from :func:`~.prepare.prepare_config`.
        config_file: the file that it was loaded from, for the log.
        resume: use the last checkpoint of ``OUTPUT_DIR``, if there is one.
        eval_only: do not train.
        trust_weights: load weights that are not plain data, and run the code in them.
        notes: lines for the log, about how the config was made.

    Raises:
        UserError: for a mistake that only shows with the weights or the data at hand.
    """
    if not eval_only and comm.is_main_process():
        check_keep_best(cfg)
        check_early_stop(cfg)
        check_wandb(cfg)
        if resume:
            check_resume(cfg, trust_weights=trust_weights)
    if not eval_only:
        notes = [*notes, *set_aside_earlier_run(cfg, resume=resume)]
    with kept_config(Path(cfg.OUTPUT_DIR)) if eval_only else contextlib.nullcontext():
        cfg = start_run(cfg, config_file=config_file, eval_only=eval_only)
    for note in notes:
        logger.info(note)
    (evaluate if eval_only else train)(cfg, resume=resume, trust_weights=trust_weights)
