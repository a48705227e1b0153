"""One run in a process of its own, wherever submitit starts it."""

import argparse
import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from submitit.helpers import DelayedSubmission

from ..atomic_file import write_file
from ..engine.defaults import argument_parser, launch_processes
from ..engine.result_records import record_result
from ..engine.trainer import train
from ..engine.training_log import read_training_log
from .plan import RESULT, Run

CONFIG = "run.yaml"  # what a run is given; Detectron2 writes what it made of it to config.yaml
FINAL_WEIGHTS = "model_final.pth"
LOG_END = 8192  # bytes of a training log, which hold its last line; it is looked at often


@dataclass(frozen=True)
class RunJob:
    """Trains and evaluates a run, or goes on with it; at its end ``result.json`` is there.

    Attributes:
        folder: of the run, with what :func:`prepare` wrote.
        arguments: of the data, as of the command line.
        opts: ``KEY VALUE`` in turn, beyond the run's config.
        num_gpus: processes to run on, 0 for the CPU.
        threads: of PyTorch on the CPU; ``None`` leaves it.
        trains: ``False`` to evaluate only.
        command: of the sweep, for the record.
    """

    folder: Path
    arguments: tuple[str, ...]
    opts: tuple[str, ...]
    num_gpus: int
    threads: int | None
    trains: bool
    command: str

    def __call__(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)
        # Slurm signals every process of a job, and submitit's answer, to put the job back into the
        # queue, is for this one to give: not for the data loader's workers.
        os.register_at_fork(after_in_child=_ignore_time_is_up)
        # A sweep that was killed may have left this run going: wait for it instead of joining in.
        with FileLock(self.folder / ".lock"):
            if (self.folder / RESULT).exists():
                return
            launch_processes(_train, self._arguments())
            record_result(self.folder / "evaluation.json", self.command, self.folder / RESULT)

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when the machine is needed or time is up: go on later."""
        return DelayedSubmission(self)

    def _arguments(self) -> argparse.Namespace:
        return argument_parser("").parse_args(
            [
                *("--config-file", str(self.folder / CONFIG), *self.arguments),
                *("--num-gpus", str(self.num_gpus)),
                *("--dist-url", "auto"),  # Detectron2's port is the same for all runs of a user
                "--resume" if self.trains else "--eval-only",
                *("OUTPUT_DIR", str(self.folder), *self.opts),
            ]
        )


def _ignore_time_is_up() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _train(args: argparse.Namespace) -> None:
    if multiprocessing.parent_process() is not None:  # one of several, each on a GPU
        _ignore_time_is_up()
    train(args)


def prepare(run: Run) -> None:
    """Make a run's folder, and write there what the run is given."""
    run.runs_dir.mkdir(parents=True, exist_ok=True)
    # Another sweep may begin the same run at this moment, under another name.
    with FileLock(run.runs_dir / ".lock"):
        run.folder.mkdir(exist_ok=True)
    write_file(run.folder / CONFIG, run.cfg.dump())


def start_weights(run: Run) -> tuple[str, ...]:
    """``MODEL.WEIGHTS`` of a run that starts from another one."""
    return ("MODEL.WEIGHTS", str(run.start.folder / FINAL_WEIGHTS)) if run.start else ()


def progress(folder: Path) -> dict:
    """The last line of a run's training log: ``iteration``, ``total_loss``, ``eta_seconds``, ...

    Empty before there is one.
    """
    try:
        steps = read_training_log(folder / "metrics.json", last_bytes=LOG_END)
    except OSError:  # of a disk on another machine; it is looked at again
        return {}
    return steps[-1] if steps else {}
