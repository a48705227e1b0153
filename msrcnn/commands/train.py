"""Train Mask Scoring R-CNN (or Mask R-CNN) from a config, then evaluate it."""

import argparse
from functools import partial

from ..engine import launch_processes, prepare_config, replay
from ..engine import run as run_in_process
from ..scores import train_and_fit
from .arguments import (
    add_config,
    add_overrides,
    add_processes,
    add_train_data,
    add_trust,
    add_val_data,
    processes,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS only")
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="run the step at which a training has diverged again, from its diverged.pth, and "
        "print where the first value that is not finite appears",
    )
    add_train_data(parser)
    add_val_data(parser)
    add_processes(parser)
    add_trust(parser)
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    cfg = prepare_config(
        args.config_file,
        args.opts,
        train_data=args.train_data,
        val_data=args.val_data,
        splits=() if args.replay else ("TEST",) if args.eval_only else ("TRAIN", "TEST"),
        resume=args.resume,
    )
    settings = {"resume": args.resume, "trust_weights": args.trust_weights}
    if args.replay:
        print(replay(cfg, args.replay))
    elif args.eval_only:
        launch_processes(partial(run_in_process, cfg, eval_only=True, **settings), processes(args))
    else:
        train_and_fit(cfg, processes(args), **settings)
