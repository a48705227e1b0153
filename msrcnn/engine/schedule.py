"""``SOLVER.AUTO_SCALE``: the schedule of 16 images a step, scaled to another batch size."""

import logging

from detectron2.config import CfgNode

REFERENCE_BATCH = 16  # what Detectron2's and our COCO schedules are written for


def scale_schedule(cfg: CfgNode) -> None:
    """Scale learning rate and schedule linearly to ``SOLVER.IMS_PER_BATCH``.

    Half the images a step: half the learning rate, twice the steps, as in "Accurate, Large
    Minibatch SGD" (arXiv 1706.02677). ``SOLVER.AUTO_SCALE`` is off afterwards, so that a config
    saved from a run says what the run did and is not scaled again.

    Args:
        cfg: changed in place.
    """
    if not cfg.SOLVER.AUTO_SCALE:
        return
    solver, scale = cfg.SOLVER, cfg.SOLVER.IMS_PER_BATCH / REFERENCE_BATCH
    solver.BASE_LR = solver.BASE_LR * scale
    solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
    solver.MAX_ITER = round(solver.MAX_ITER / scale)
    solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
    # A period of 0 means never, and stays so.
    solver.CHECKPOINT_PERIOD = _scaled_period(solver.CHECKPOINT_PERIOD, scale)
    cfg.TEST.EVAL_PERIOD = _scaled_period(cfg.TEST.EVAL_PERIOD, scale)
    solver.AUTO_SCALE = False
    logging.getLogger(__name__).info(
        "SOLVER.AUTO_SCALE: %d images a step, learning rate %g, %d steps, reduced at %s",
        *(solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS),
    )


def _scaled_period(period: int, scale: float) -> int:
    return max(round(period / scale), 1) if period > 0 else period
