"""Training that ends with a fit of the mask scores (``SOLVER.FIT_SCORES``)."""

from collections.abc import Container
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode

from ..checkpoint.checkpoint_files import FINAL_WEIGHTS
from ..config_by_key import WITHOUT_HEAD, changed
from ..engine import Processes, launch_processes, run, scale_schedule, start_run
from ..engine.keep_best import NAME as BEST
from ..engine.keep_best import check_data_of_best
from ..engine.publish import log_after_training
from ..errors import UserError
from ..folder_lock import alone_in
from .fit_scores import CACHE, check_fit, fit_scores
from .sample_cache import check_cache_folder


def train_and_fit(
    cfg: CfgNode,
    processes: Processes,
    *,
    keep: Container[str] = (),
    resume: bool = False,
    trust_weights: bool = False,
) -> None:
    """Trains a model, and fits its MaskIoU head if the config asks for it.

    Args:
        cfg: a config from :func:`msrcnn.engine.prepare_config`.
        processes: how many processes to use.
        keep: keys that keep their value, see :func:`msrcnn.engine.scale_schedule`.
        resume: resume the training from the last checkpoint of ``OUTPUT_DIR``, if there is one.
        trust_weights: load weights that are not plain data, and run the code in them.

    Raises:
        UserError: for a mistake that only shows with the weights or the data at hand, or if another
            training writes to ``OUTPUT_DIR``.
    """
    cfg = cfg.clone()
    cfg.defrost()
    check_data_of_best(cfg)
    if cfg.SOLVER.FIT_SCORES:
        check_fit(cfg)
        check_cache_folder(Path(cfg.OUTPUT_DIR) / CACHE)
    settings = {"notes": scale_schedule(cfg, keep), "resume": resume}
    training = partial(run, training_config(cfg), trust_weights=trust_weights, **settings)
    # Machines of one run share the folder.
    lock = nullcontext() if processes.machine_rank else alone_in(Path(cfg.OUTPUT_DIR), "OUTPUT_DIR")
    with lock:
        launch_processes(training, processes)
        if cfg.SOLVER.FIT_SCORES:
            launch_processes(partial(_fit, cfg), processes)


def training_config(cfg: CfgNode) -> CfgNode:
    """Returns the config of the training before the fit.

    Because the head is trained only in the fit, this is the training of a plain Mask R-CNN. Without
    ``TEST.EVAL_PERIOD``, it has no evaluation: the only one follows the fit.
    """
    if not cfg.SOLVER.FIT_SCORES:
        return cfg
    no_test = {} if cfg.TEST.EVAL_PERIOD else {"DATASETS.TEST": ()}
    return changed(cfg, {**WITHOUT_HEAD, **no_test})


def detector_weights(folder: Path, cfg: CfgNode) -> Path:
    """Returns the weights that a training has left: the best ones, or else the last.

    There are no best ones without ``SOLVER.KEEP_BEST``, or if its metric has no value on the data.

    Args:
        folder: the output folder of the training.
        cfg: the config of the training; its ``OUTPUT_DIR`` is not read.
    """
    best = folder / f"{BEST}.pth"
    return best if cfg.SOLVER.KEEP_BEST and best.is_file() else folder / FINAL_WEIGHTS


def _fit(cfg: CfgNode) -> None:
    cfg = start_run(cfg, eval_only=True)  # writes the config with the weights before the training
    cfg = changed(cfg, {"MODEL.WEIGHTS": str(detector_weights(Path(cfg.OUTPUT_DIR), cfg))})
    try:
        with log_after_training(Path(cfg.OUTPUT_DIR), cfg.SOLVER.MAX_ITER) as results:
            results.update(fit_scores(cfg))
    except UserError as error:
        raise UserError(
            f"no mask scores: {error}. The trained detector is '{cfg.MODEL.WEIGHTS}'"
        ) from error
