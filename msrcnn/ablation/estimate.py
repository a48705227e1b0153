"""What a sweep would cost, before it is run."""

import datetime
import logging
import statistics
import time

import torch
from detectron2.utils.events import EventStorage
from tabulate import tabulate

from ..engine.defaults import use_available_device
from ..engine.result_records import hardware
from ..engine.trainer import Trainer
from .job import progress
from .plan import DETECTOR, Plan, Run, describe

STEPS = 4  # timed, the first is not counted
CPU_BATCH = 2  # images of a timed step on the CPU


def estimate(plan: Plan, *, places: int | None, num_gpus: int) -> str:
    """What would run, and how long that would take.

    The time of a step is that of the run itself if it was begun, else a few steps are timed on
    this machine, on one GPU or the CPU.

    Args:
        plan: of a sweep; a run that is finished costs nothing.
        places: runs at once, ``None`` for all.
        num_gpus: of a run; its images are taken to be shared out evenly.

    Returns:
        A table with a line for each variant, and the sum.
    """
    rows, costs = [], {}
    for name, runs in _by_name(plan).items():
        waiting = [run for run in runs if not run.finished]
        seconds = seconds_per_step(runs[0], num_gpus) if waiting and runs[0].steps else 0.0
        left = sum(max(run.steps - _steps_done(run), 0) for run in waiting)
        costs[name] = cost = left * seconds
        rows.append(
            [
                name,
                len(runs),
                len(runs) - len(waiting),
                f"{runs[0].steps:,} x {runs[0].cfg.SOLVER.IMS_PER_BATCH}",
                f"{seconds:.2f}" if seconds else "-",
                _duration(cost),
            ]
        )
    headers = ["", "runs", "finished", "steps x images", "seconds a step", "time left"]
    table = tabulate(rows, headers, disable_numparse=True, colalign=("left", *["right"] * 5))
    lines = [describe(plan), table]
    total = sum(costs.values())
    waiting = [run for run in plan.runs if not run.finished]
    places = min(places or len(waiting), len(waiting))
    shared = ""
    if places > 1:
        first = costs.get(DETECTOR, 0.0)  # all others wait for it
        shared = f", {_duration(first + (total - first) / places)} with {places} runs at once"
    lines.append(
        f"Training: about {_duration(total)} in all{shared}; evaluations come on top. Timed on "
        f"{hardware()}, or in runs already begun."
    )
    return "\n\n".join(lines)


def seconds_per_step(run: Run, num_gpus: int) -> float:
    """Of a run that was begun as logged; of another measured."""
    logged = progress(run.folder).get("time")
    if logged is not None:
        return logged
    cfg = run.cfg.clone()
    cfg.defrost()
    use_available_device(cfg)
    batch = cfg.SOLVER.IMS_PER_BATCH
    on_cpu = cfg.MODEL.DEVICE == "cpu"
    measured = min(batch, CPU_BATCH) if on_cpu else max(batch // max(num_gpus, 1), 1)
    cfg.SOLVER.IMS_PER_BATCH = measured
    seconds = _time_step(cfg)
    return seconds * batch / measured if on_cpu else seconds


def _time_step(cfg) -> float:
    logging.getLogger("detectron2").setLevel(logging.ERROR)
    model = Trainer.build_model(cfg).train()
    optimizer = Trainer.build_optimizer(cfg, model)
    batches = iter(Trainer.build_train_loader(cfg))
    seconds = []
    with EventStorage():
        for _ in range(STEPS):
            start = time.perf_counter()
            with torch.autocast(cfg.MODEL.DEVICE, enabled=cfg.SOLVER.AMP.ENABLED):
                loss = sum(model(next(batches)).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if cfg.MODEL.DEVICE != "cpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _by_name(plan: Plan) -> dict[str, list[Run]]:
    runs = {name: list(dict.fromkeys(runs.values())) for name, runs in plan.variants.items()}
    return {**({plan.detector.name: [plan.detector]} if plan.detector else {}), **runs}


def _steps_done(run: Run) -> int:
    return progress(run.folder).get("iteration", -1) + 1


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
