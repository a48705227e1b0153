"""Estimates the cost of a sweep before it runs."""

import datetime
import logging
import statistics
import time

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from tabulate import tabulate

from ..engine import Trainer
from ..engine.device import on_available_device
from ..engine.gradient_step import build_gradient_step
from ..engine.result_records import hardware
from ..scores.sample_cache import is_complete
from .description import describe
from .job import progress
from .plan import Plan, Run
from .sweep import DETECTOR

STEPS = 4  # timed, except for the first
CPU_BATCH = 2  # images of a timed step on the CPU


def estimate(plan: Plan, *, places: int | None, num_gpus: int) -> str:
    """Returns what would run and how long the trainings would take, as text.

    The time of a step is taken from the log if the run has started; otherwise a few steps are
    timed on this machine, on one GPU or the CPU. Fits are not timed: they need samples.

    Args:
        plan: the plan of a sweep.
        places: concurrent runs, ``None`` for all.
        num_gpus: GPUs per run, among which the images of a step are divided.
    """
    by_seed = {DETECTOR: plan.detectors} if plan.detectors else {}
    by_name = {
        name: list(dict.fromkeys(runs.values()))
        for name, runs in {**by_seed, **plan.variants}.items()
    }
    rows: list[list] = []
    costs: dict[str, float] = {}  # by digest: variants may share runs
    for name, runs in by_name.items():
        first, waiting = runs[0], [run for run in runs if not run.finished]
        timed = waiting and first.steps and not first.fits
        seconds = seconds_per_step(first, num_gpus) if timed else 0.0
        for run in waiting:
            done = progress(run).get("iteration", -1) + 1
            costs[run.digest] = seconds * max(run.steps - done, 0)
        cost = sum(costs[run.digest] for run in waiting)
        solver = first.cfg.SOLVER
        batch = f"{solver.FIT_BATCH} detections" if first.fits else f"{solver.IMS_PER_BATCH} images"
        left = "not known" if first.fits and waiting else _duration(cost)
        time_cells = f"{seconds:.2f}" if seconds else "-", left
        steps = f"{first.steps:,} x {batch}" if first.steps else "-"
        rows.append([name, len(runs), len(runs) - len(waiting), steps, *time_cells])
    headers = ["", "runs", "finished", "steps x batch", "seconds per step", "time left"]
    table = tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 5))
    total, waiting = sum(costs.values()), sum(not run.finished for run in plan.runs)
    places = min(places or waiting, waiting)
    shared = ""
    if places > 1:
        # All other runs wait for a detector that they share; a run never ends before its own does.
        alone = costs.get(plan.detector.digest, 0.0) if plan.detector else 0.0
        longest = max(
            costs.get(run.digest, 0.0) + (costs.get(run.start.digest, 0.0) if run.start else 0.0)
            for run in plan.runs
        )
        together = max(longest, alone + (total - alone) / places)
        shared = f", at best {_duration(together)} with {places} runs at a time"
    return (
        f"{describe(plan)}\n\n{table}\n\n"
        f"Training: about {_duration(total)} in total{shared}, timed on {hardware()} or taken from "
        f"the logs of runs that have started. Not timed: {', '.join(_untimed(plan))}."
    )


def seconds_per_step(run: Run, num_gpus: int) -> float:
    """Returns the time of a training step: as logged if the run has started, otherwise measured."""
    logged = progress(run).get("time")
    if logged is not None:
        return logged
    cfg = on_available_device(run.cfg).clone()
    cfg.defrost()
    cfg.SOLVER.BASE_LR = 0.0  # from random weights, steps could diverge
    cfg.SOLVER.ACCUMULATE_STEPS = 1  # the time of as many images
    batch = cfg.SOLVER.IMS_PER_BATCH
    if cfg.MODEL.DEVICE != "cpu":
        cfg.SOLVER.IMS_PER_BATCH = max(batch // max(num_gpus, 1), 1)
        return _time_step(cfg)
    cfg.SOLVER.IMS_PER_BATCH = min(batch, CPU_BATCH)
    return _time_step(cfg) * batch / cfg.SOLVER.IMS_PER_BATCH


def _time_step(cfg: CfgNode) -> float:
    logging.getLogger("detectron2").setLevel(logging.ERROR)
    model = Trainer.build_model(cfg).train()
    loader, optimizer = Trainer.build_train_loader(cfg), Trainer.build_optimizer(cfg, model)
    trainer = build_gradient_step(cfg, model, loader, optimizer)
    seconds = []
    with EventStorage() as trainer.storage:
        for trainer.iter in range(STEPS):
            start = time.perf_counter()
            trainer.run_step()
            if cfg.MODEL.DEVICE != "cpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _untimed(plan: Plan) -> list[str]:
    """Returns the work whose time is not known, as text."""
    fits = [run for run in plan.runs if run.fits and not run.finished]
    passes = len({run.samples for run in fits if not is_complete(run.samples)})
    parts = [f"{passes} pass{'es' * (passes > 1)} over the training images"] if passes else []
    if fits:
        parts.append(f"{len(fits)} fit{'s' * (len(fits) > 1)}")
    return [*parts, "the evaluations"]


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
