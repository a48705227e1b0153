"""Schedules: scaled to another batch (``SOLVER.AUTO_SCALE``), or counted in ``SOLVER.EPOCHS``."""

import math
from collections.abc import Callable, Container, Sequence

from detectron2.config import CfgNode

from ..config_by_key import value_of
from ..data.dataset_classes import training_images
from ..errors import UserError
from .config_rules import check_detections_from

PERIODS = ("SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")
DETECTIONS_FROM = "MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM"
WARMUP_SHARE = 10  # SOLVER.EPOCHS: the warm-up takes at most one in so many iterations


def end_of_schedule(opts: Sequence) -> list:
    """Returns the overrides that let ``SOLVER.MAX_ITER`` replace the number of epochs of a file.

    Args:
        opts: alternating keys and values; the result goes before them.

    Raises:
        UserError: if they also set ``SOLVER.EPOCHS``.
    """
    if "SOLVER.MAX_ITER" not in opts[::2]:
        return []
    if "SOLVER.EPOCHS" in opts[::2]:
        raise UserError("SOLVER.EPOCHS sets SOLVER.MAX_ITER, which is also given: choose one")
    return ["SOLVER.EPOCHS", 0]


def values_as_given(opts: Sequence) -> Sequence[str]:
    """Returns the keys of overrides whose values are used as given, not scaled.

    If ``SOLVER.AUTO_SCALE`` is one of the overrides, it scales the others, too.
    """
    return () if "SOLVER.AUTO_SCALE" in opts[::2] else opts[::2]


def scale_schedule(cfg: CfgNode, keep: Container[str] = ()) -> list[str]:
    """Adapts learning rate and schedule to the run's batch size and number of epochs.

    With ``SOLVER.AUTO_SCALE``, half the images per batch mean half the learning rate and, unless
    ``SOLVER.MAX_ITER`` is in ``keep``, twice the iterations, as in "Accurate, Large Minibatch SGD"
    (arXiv 1706.02677). With ``SOLVER.EPOCHS``, the schedule is stretched to that many passes over
    the training images. Afterwards neither key is set, so that the config saved by a run says what
    the run did and is not scaled again.

    Args:
        cfg: modified in place. With ``EPOCHS``, its training datasets must be registered.
        keep: names of keys that keep their value.

    Returns:
        The arithmetic, for the user: a line for each of the two keys that was set.

    Raises:
        UserError: if the schedule would end before the training on detections begins.
    """
    notes = []
    if cfg.SOLVER.EPOCHS:
        notes.append(_use_epochs(cfg, len(training_images(cfg)), keep))
    if cfg.SOLVER.AUTO_SCALE:
        # The length of the schedule is known if it is that of EPOCHS, or was given.
        known = bool(notes) or "SOLVER.MAX_ITER" in keep
        notes.append(_use_batch(cfg, keep, only_rate=known))
    check_detections_from(cfg)  # a value that was kept may be beyond the new end, or the reverse
    return notes


def _use_batch(cfg: CfgNode, keep: Container[str], *, only_rate: bool) -> str:
    solver = cfg.SOLVER
    scale, before = solver.IMS_PER_BATCH / solver.REFERENCE_BATCH, solver.BASE_LR
    if "SOLVER.BASE_LR" not in keep:
        solver.BASE_LR = solver.BASE_LR * scale
    if not only_rate:
        _stretch(cfg, 1 / scale, keep, round)
        if "SOLVER.WARMUP_ITERS" not in keep:
            solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
    note = (
        f"Learning rate: {before:g} x {solver.IMS_PER_BATCH} / {solver.REFERENCE_BATCH} images per "
        f"batch = {solver.BASE_LR:g}"
        if "SOLVER.BASE_LR" not in keep
        else f"Learning rate: {before:g}, as given"
    )
    solver.AUTO_SCALE, solver.REFERENCE_BATCH = False, solver.IMS_PER_BATCH
    return note if only_rate else f"{note}; {solver.MAX_ITER} iterations, steps at {solver.STEPS}"


def _use_epochs(cfg: CfgNode, images: int, keep: Container[str]) -> str:
    solver, epochs = cfg.SOLVER, cfg.SOLVER.EPOCHS
    iterations = math.ceil(epochs * images / solver.IMS_PER_BATCH)
    _stretch(cfg, iterations / solver.MAX_ITER, keep, math.ceil)
    solver.MAX_ITER = iterations
    if "SOLVER.STEPS" not in keep:  # those of a short schedule may coincide
        solver.STEPS = tuple(sorted({step for step in solver.STEPS if step < iterations}))
    if DETECTIONS_FROM not in keep:
        head = cfg.MODEL.ROI_MASKIOU_HEAD
        head.DETECTIONS_FROM = min(head.DETECTIONS_FROM, iterations - 1)
    if "SOLVER.WARMUP_ITERS" not in keep:
        solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, math.ceil(iterations / WARMUP_SHARE))
    solver.EPOCHS = 0
    steps = f", steps at {solver.STEPS}" if solver.STEPS else ""
    evaluation = f"every {cfg.TEST.EVAL_PERIOD}" if cfg.TEST.EVAL_PERIOD else "at the end"
    return (
        f"Schedule: {epochs} epochs x {images} images / {solver.IMS_PER_BATCH} per batch = "
        f"{iterations} iterations; warm-up {solver.WARMUP_ITERS}{steps}, "
        f"checkpoint every {solver.CHECKPOINT_PERIOD}, evaluation {evaluation}"
    )


def _stretch(
    cfg: CfgNode, factor: float, keep: Container[str], whole: Callable[[float], int]
) -> None:
    """Multiplies the iterations of the schedule, except for the warm-up.

    A period of 0 means never, and stays 0.
    """
    solver = cfg.SOLVER
    if "SOLVER.STEPS" not in keep:
        solver.STEPS = tuple(whole(step * factor) for step in solver.STEPS)
    for key in ("SOLVER.MAX_ITER", DETECTIONS_FROM, *PERIODS):
        section, name = key.rsplit(".", 1)
        value = value_of(cfg, key)
        if key not in keep and value > 0:
            lowest = 0 if key == DETECTIONS_FROM else 1
            setattr(value_of(cfg, section), name, max(whole(value * factor), lowest))
