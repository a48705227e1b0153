"""Flags of ``msrcnn train`` that stand for config keys, for those who do not know the keys."""

import argparse

from detectron2.config import CfgNode

from ..config import load_config
from ..engine.schedule import end_of_schedule
from ..errors import UserError
from .arguments import DATA_KEYS, at_least, check_given_once

SIZES = tuple(f"INPUT.M{end}_SIZE_{split}" for split in ("TRAIN", "TEST") for end in ("IN", "AX"))
# Keys that follow from a flag, which an override must not set as well.
KEYS = {
    **DATA_KEYS,
    "--weights": ("MODEL.WEIGHTS",),
    "--epochs": ("SOLVER.EPOCHS", "SOLVER.MAX_ITER"),
    "--batch": ("SOLVER.IMS_PER_BATCH", "SOLVER.AUTO_SCALE"),
    "--size": SIZES,
    "--early-stop": ("SOLVER.EARLY_STOP",),
    "--wandb": ("WANDB",),
}


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--weights", metavar="W", help="weights to start from, MODEL.WEIGHTS: a file, or a name"
    )
    parser.add_argument(
        "--epochs",
        type=at_least(1),
        metavar="N",
        help="passes over the training images; the schedule of the config is stretched to them",
    )
    parser.add_argument(
        "--batch",
        type=at_least(1),
        metavar="N",
        help="images per batch; the learning rate of the config is scaled with it, and so is the "
        "schedule, unless --epochs or SOLVER.MAX_ITER is given",
    )
    parser.add_argument(
        "--size",
        type=at_least(1),
        metavar="N",
        help="pixels of the short side of images; the other sizes of the config keep their ratio",
    )
    parser.add_argument(
        "--early-stop",
        type=at_least(1),
        metavar="N",
        help="end the training after N evaluations in a row without a new best one",
    )
    parser.add_argument(
        "--wandb", metavar="PROJECT", help="also log to this project of Weights & Biases"
    )


def training_overrides(args: argparse.Namespace) -> list[str]:
    """Returns ``KEY VALUE ...`` of a command line, preceded by the overrides of its flags.

    Raises:
        UserError: if a flag and an override contradict each other.
    """
    check_given_once(args, KEYS)
    opts = end_of_schedule(args.opts)
    if args.weights is not None:
        opts += ["MODEL.WEIGHTS", args.weights]
    if args.epochs is not None:
        opts += ["SOLVER.EPOCHS", args.epochs]
    if args.batch is not None:
        opts += ["SOLVER.IMS_PER_BATCH", args.batch, "SOLVER.AUTO_SCALE", True]
    if args.early_stop is not None:
        opts += ["SOLVER.EARLY_STOP", args.early_stop]
    if args.wandb is not None:
        opts += ["WANDB", args.wandb]
    if args.size is not None:
        opts += _sizes(load_config(args.config_file), args.size)
    return [*opts, *args.opts]


def _sizes(cfg: CfgNode, size: int) -> list:
    if cfg.INPUT.MIN_SIZE_TEST <= 0:
        raise UserError(
            f"--size {size} needs a config that resizes images, but its INPUT.MIN_SIZE_TEST is 0"
        )
    ratio = size / cfg.INPUT.MIN_SIZE_TEST
    short = tuple(max(round(each * ratio), 1) for each in cfg.INPUT.MIN_SIZE_TRAIN)
    opts = ["INPUT.MIN_SIZE_TRAIN", short, "INPUT.MIN_SIZE_TEST", size]
    for key in ("MAX_SIZE_TRAIN", "MAX_SIZE_TEST"):
        opts += [f"INPUT.{key}", max(round(cfg.INPUT[key] * ratio), 1)]
    return opts
