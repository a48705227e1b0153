"""``SOLVER.AUTO_SCALE``: scales the schedule for 16 images per batch to another batch size."""

import logging

from detectron2.config import CfgNode

REFERENCE_BATCH = 16  # images per batch that the COCO schedules are written for


def scale_schedule(cfg: CfgNode) -> None:
    """Scales learning rate and schedule linearly to ``SOLVER.IMS_PER_BATCH``.

    Half the images per batch: half the learning rate, twice the iterations, as in "Accurate, Large
    Minibatch SGD" (arXiv 1706.02677). Sets ``SOLVER.AUTO_SCALE`` to False, so that the config saved
    by a run says what the run did and is not scaled again.

    Args:
        cfg: modified in place.
    """
    if not cfg.SOLVER.AUTO_SCALE:
        return
    solver, scale = cfg.SOLVER, cfg.SOLVER.IMS_PER_BATCH / REFERENCE_BATCH
    solver.BASE_LR = solver.BASE_LR * scale
    solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
    solver.MAX_ITER = round(solver.MAX_ITER / scale)
    solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    head.DETECTIONS_FROM = round(head.DETECTIONS_FROM / scale)
    # A period of 0 means never, and is not scaled.
    solver.CHECKPOINT_PERIOD = _scaled_period(solver.CHECKPOINT_PERIOD, scale)
    cfg.TEST.EVAL_PERIOD = _scaled_period(cfg.TEST.EVAL_PERIOD, scale)
    solver.AUTO_SCALE = False
    logging.getLogger(__name__).info(
        "SOLVER.AUTO_SCALE: %d images per batch, learning rate %g, %d iterations, steps at %s",
        *(solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS),
    )


def _scaled_period(period: int, scale: float) -> int:
    return max(round(period / scale), 1) if period > 0 else period
