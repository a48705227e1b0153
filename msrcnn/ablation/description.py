"""Describes the runs of a sweep in a sentence."""

from collections.abc import Iterable

from detectron2.config import CfgNode

from ..data.custom import is_custom_dataset
from .plan import Plan
from .sweep import FULL


def describe(plan: Plan) -> str:
    """Returns a sentence about the runs of a plan, for tables and terminals."""
    runs = [run for runs in plan.variants.values() for run in runs.values()]
    dataset = runs[0].cfg.DATASETS.TEST[0]
    trained = [run.cfg.SOLVER for run in runs if run.trains and not run.fits]
    fitted = [run.cfg.SOLVER for run in runs if run.fits]
    steps, how = [], []
    if trained:
        how.append("trained on images")
        numbers = [(solver.MAX_ITER, solver.IMS_PER_BATCH) for solver in trained]
        number, batch = map(_range, zip(*numbers))
        steps.append(f"{_at_most(trained)}{number} steps of {batch} images")
    if fitted:
        how.append("fitted to detections")
        numbers = [(solver.FIT_MAX_ITER, solver.FIT_BATCH) for solver in fitted]
        steps.append("{} steps of {} detections".format(*map(_range, zip(*numbers))))
    seeds = len(plan.protocol.seeds)
    parts = [
        f"{'Full' if plan.protocol_name == FULL else 'Quick'} protocol ({plan.protocol.base}), "
        f"evaluated on {'custom data' if is_custom_dataset(dataset) else dataset} with up to "
        f"{_range(run.cfg.TEST.DETECTIONS_PER_IMAGE for run in runs)} detections per image",
        ", ".join([*steps, f"{seeds} seed{'s' if seeds > 1 else ''}"]),
    ]
    if plan.head_only:
        detector = next(iter(plan.detectors.values()))
        parts.append(
            f"head only: the MaskIoU heads are {' or '.join(how) or 'evaluated on detections'} "
            f"of one Mask R-CNN{' per seed' * plan.protocol.joint}, which is trained for "
            f"{_at_most([detector.cfg.SOLVER])}{detector.steps} steps"
            f"{' together with a MaskIoU head' * plan.protocol.joint} and left unchanged"
        )
    else:
        parts.append("the whole model is trained")
    if plan.opts:
        parts.append(f"with {' '.join(map(str, plan.opts))}")
    return f"{'; '.join(parts)}."


def _at_most(solvers: list[CfgNode]) -> str:
    """Returns what stands before a number of steps that a training may not reach."""
    return "up to " if any(solver.EARLY_STOP for solver in solvers) else ""


def _range(values: Iterable[int]) -> str:
    low, *between = sorted(set(values))
    return f"{low} to {between[-1]}" if between else f"{low}"
