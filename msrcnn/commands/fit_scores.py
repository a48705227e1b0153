"""Add mask scores to a trained Mask R-CNN: one pass over its training images, then a short fit."""

import argparse
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..engine import launch_processes, prepare_config, start_run
from ..engine.earlier_run import refuse_training_folder
from ..engine.find_model import find_model
from ..folder_lock import alone_in
from ..scores import FIT_DEFAULTS, fit_scores
from ..scores.fit_scores import CACHE_GB
from .arguments import (
    DATA_KEYS,
    MODEL_KEYS,
    WEIGHTS_HELP,
    add_config,
    add_overrides,
    add_processes,
    add_train_data,
    add_trust,
    add_val_data,
    check_given_once,
    positive,
    processes,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, required=False)
    parser.add_argument("--weights", metavar="W", required=True, help=WEIGHTS_HELP)
    parser.add_argument("--output-dir", metavar="D", required=True, help="output folder")
    add_train_data(parser)
    add_val_data(parser)
    parser.add_argument(
        "--cache-gb",
        type=positive,
        default=CACHE_GB,
        metavar="N",
        help="size of the cache in GB; if it cannot hold all detections, some are drawn at random "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--keep-cache",
        action="store_true",
        help="keep the cache for another fit",
    )
    add_processes(parser)
    add_trust(parser)
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    check_given_once(args, {**DATA_KEYS, **MODEL_KEYS})
    refuse_training_folder(Path(args.output_dir))
    weights, config_file = find_model(args.weights, args.config_file)
    own = ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", args.output_dir]
    opts = [*FIT_DEFAULTS, *own, *args.opts]
    cfg = prepare_config(
        config_file,
        opts,
        train_data=args.train_data,
        val_data=args.val_data,
        splits=("TRAIN", "TEST"),
        keep_classes=True,
    )
    main = partial(
        _run_in_process,
        cfg,
        cache_gb=args.cache_gb,
        keep_cache=args.keep_cache,
        trust_weights=args.trust_weights,
    )
    launch_processes(main, processes(args))


def _run_in_process(cfg: CfgNode, **kwargs: Any) -> None:
    folder = alone_in(Path(cfg.OUTPUT_DIR), "--output-dir")
    with folder if comm.is_main_process() else nullcontext():
        fit_scores(start_run(cfg, eval_only=True), **kwargs)
