"""Train Mask Scoring R-CNN (or Mask R-CNN) from a config, then evaluate it."""

import argparse
import os
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode

from ..engine import Processes, launch_processes, prepare_config, replay
from ..engine import run as run_in_process
from ..engine.schedule import values_as_given
from ..engine.slurm import (
    active_job,
    processes_of_job,
    slurm_parameters,
    submit,
    was_put_back,
)
from ..errors import UserError
from ..escaping import printable_log
from ..scores import train_and_fit
from ..scores.training_summary import training_summary
from .arguments import (
    add_config,
    add_overrides,
    add_processes,
    add_slurm,
    add_train_data,
    add_trust,
    add_val_data,
    processes,
)
from .training_flags import add_training_flags, training_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_training_flags(parser)
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS only")
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="repeat the step at which a training diverged, from its diverged.pth, and print where "
        "the first value that is not finite appears",
    )
    add_train_data(parser)
    add_val_data(parser)
    add_processes(parser)
    add_slurm(parser, "submit the training to Slurm")
    add_trust(parser)
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    if args.slurm:
        _submit(args)
    else:
        _train(args, processes(args), resume=args.resume)


def _train(args: argparse.Namespace, processes: Processes, *, resume: bool) -> None:
    cfg = _config(args, resume=resume)
    settings = {"resume": resume, "trust_weights": args.trust_weights}
    if args.replay:
        print(replay(cfg, args.replay))
    elif args.eval_only:
        launch_processes(partial(run_in_process, cfg, eval_only=True, **settings), processes)
    else:
        train_and_fit(cfg, processes, keep=values_as_given(args.opts), **settings)
        # Once per run, not per machine or, under torchrun, per process.
        if processes.machine_rank == 0 and os.getenv("RANK", "0") == "0":
            print(printable_log(training_summary(cfg, args.program)))


def _config(args: argparse.Namespace, *, resume: bool) -> CfgNode:
    return prepare_config(
        args.config_file,
        training_overrides(args),
        train_data=args.train_data,
        val_data=args.val_data,
        splits=() if args.replay else ("TEST",) if args.eval_only else ("TRAIN", "TEST"),
        resume=resume,
    )


def _submit(args: argparse.Namespace) -> None:
    """Submits the training to Slurm, after the same checks as before a training here."""
    if args.replay or args.machine_rank or args.dist_url != "auto":
        raise UserError("--slurm cannot be combined with --replay, --machine-rank or --dist-url")
    parameters = slurm_parameters(args.num_gpus, args.slurm, args.num_machines)
    output = Path(_config(args, resume=args.resume).OUTPUT_DIR).resolve()  # finds mistakes now
    folder = output / "slurm"
    if job := active_job(folder):
        raise UserError(
            f"Slurm still has job {job.job_id}, which trains in {output}; run 'scancel "
            f"{job.job_id}' before you submit another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    job = submit(partial(_train_in_job, args), folder, output.name, parameters)
    print(f"Submitted Slurm job {job.job_id}, which writes to {job.paths.stdout} and {output}")


def _train_in_job(args: argparse.Namespace) -> None:
    processes = processes_of_job(args.num_gpus)
    _train(args, processes, resume=args.resume or was_put_back())
