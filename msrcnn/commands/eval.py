"""Evaluate weights or saved predictions: box AP, and mask AP under every ranking."""

import argparse
from functools import partial
from pathlib import Path

from ..engine import evaluate_predictions, launch_processes, prepare_config, start_run
from ..engine import run as run_in_process
from ..engine.earlier_run import refuse_training_folder
from ..engine.find_model import find_model
from .arguments import (
    DATA_KEYS,
    MODEL_KEYS,
    WEIGHTS_HELP,
    add_config,
    add_overrides,
    add_processes,
    add_trust,
    add_val_data,
    check_given_once,
    processes,
)

DATA_ONLY = "Base-RCNN-FPN.yaml"  # for predictions on custom data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, required=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", metavar="W", help=WEIGHTS_HELP)
    source.add_argument(
        "--predictions",
        metavar="P",
        action="append",
        help="inference/predictions.npz of an earlier evaluation, or a COCO result file; if given "
        "several times, all are compared in one table",
    )
    parser.add_argument(
        "--output-dir", metavar="D", help="output folder (default: the folder eval in OUTPUT_DIR)"
    )
    add_val_data(parser)
    add_processes(parser)
    add_trust(parser)
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    check_given_once(args, {"--val-data": DATA_KEYS["--val-data"], **MODEL_KEYS})
    if args.output_dir:
        refuse_training_folder(Path(args.output_dir))
    config_file = args.config_file
    if args.predictions and args.val_data:  # the config of the model is not needed
        config_file = config_file or DATA_ONLY
    weights, config_file = find_model(args.weights or "", config_file)
    # Also without weights: those that the config trains from are not needed and may not exist.
    opts = ["MODEL.WEIGHTS", weights, *args.opts]
    cfg = prepare_config(config_file, opts, val_data=args.val_data, splits=("TEST",))
    # OUTPUT_DIR in the config is that of the training, whose files must not be replaced.
    cfg.OUTPUT_DIR = args.output_dir or str(Path(cfg.OUTPUT_DIR) / "eval")
    if args.predictions:
        evaluate_predictions(start_run(cfg, eval_only=True), args.predictions)
    else:
        main = partial(run_in_process, cfg, eval_only=True, trust_weights=args.trust_weights)
        launch_processes(main, processes(args))
