"""The job of a run, in a process of its own, wherever a launcher starts it."""

import multiprocessing
import os
import signal
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from filelock import FileLock

from ..atomic_file import write_file
from ..engine import Processes, launch_processes, prepare_config, run
from ..engine.result_records import record_result
from ..engine.training_log import read_training_log
from .plan import RESULT, Run

CONFIG = "run.yaml"  # the planned config; Detectron2 writes the config of the run to config.yaml
FINAL_WEIGHTS = "model_final.pth"
LOG_END = 8192  # bytes at the end of a training log that contain its last line


@dataclass(frozen=True)
class RunJob:
    """Trains and evaluates a run, or resumes it, until ``result.json`` is in its folder.

    Attributes:
        run: a run whose folder exists, see :func:`create_folder`.
        train_data, val_data: custom data as ``ANN.json:IMAGES``.
        num_gpus: number of processes, each on a GPU; 0 for the CPU.
        threads: PyTorch threads on the CPU; ``None`` for PyTorch's default.
        command: command line of the sweep, for the record.
    """

    run: Run
    train_data: str | None
    val_data: str | None
    num_gpus: int
    threads: int | None
    command: str

    def __call__(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)
        # Before a job's time is up, Slurm sends SIGUSR2 to all its processes. submitit answers in
        # this process; the workers of the data loader must survive it.
        os.register_at_fork(after_in_child=_ignore_sigusr2)
        folder, trains = self.run.folder, self.run.trains
        # If a sweep was killed, its job may still be running: wait for it.
        with FileLock(folder / ".lock"):
            if self.run.finished:
                return
            opts = ["OUTPUT_DIR", str(folder)]
            if self.run.start:
                opts += ["MODEL.WEIGHTS", str(self.run.start.folder / FINAL_WEIGHTS)]
            cfg = prepare_config(
                folder / CONFIG,
                opts,
                train_data=self.train_data,
                val_data=self.val_data,
                splits=("TRAIN", "TEST") if trains else ("TEST",),
                resume=trains,
            )
            main = partial(_in_process, cfg, str(folder / CONFIG), trains)
            launch_processes(main, Processes(self.num_gpus))
            record_result(folder / "evaluation.json", self.command, folder / RESULT)


def _in_process(cfg: CfgNode, config_file: str, trains: bool) -> None:
    if multiprocessing.parent_process() is not None:  # one of several processes
        _ignore_sigusr2()
    run(cfg, config_file=config_file, resume=trains, eval_only=not trains)


def _ignore_sigusr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def create_folder(run: Run) -> None:
    """Creates a run's folder with the config of the run."""
    run.runs_dir.mkdir(parents=True, exist_ok=True)
    # Another sweep may be creating the folder of the same run under another name.
    with FileLock(run.runs_dir / ".lock"):
        run.folder.mkdir(exist_ok=True)
    write_file(run.folder / CONFIG, run.cfg.dump())


def progress(run: Run) -> dict:
    """Returns the last line of a run's training log, with ``iteration``, ``total_loss``, ``time``.

    Empty if there is none.
    """
    try:
        steps = read_training_log(run.folder / "metrics.json", last_bytes=LOG_END)
    except OSError:  # on a network disk: try again later
        return {}
    return steps[-1] if steps else {}
