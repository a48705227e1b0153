"""The common beginning of tools that use a trained model, without a dataset or a run."""

import argparse

from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger

from .config_checks import adopt_stock_parts, check_config
from .defaults import (
    TRUST_HELP,
    check_weights,
    find_config,
    load_config,
    silence_known_warnings,
    use_available_device,
)
from .export import config_beside


def model_argument_parser(description: str) -> argparse.ArgumentParser:
    """Arguments that name a trained model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config-file", metavar="F", default="", help="(default: W.yaml, as exported beside W)"
    )
    parser.add_argument("--weights", metavar="W", required=True, help="checkpoint of the model")
    parser.add_argument("--trust-weights", action="store_true", help=TRUST_HELP)
    return parser


def model_config(args: argparse.Namespace) -> CfgNode:
    """The complete config of a model, frozen.

    Args:
        args: of :func:`model_argument_parser`.

    Raises:
        UserError: for a mistake in the config or the command line.
    """
    config = args.config_file or config_beside(args.weights)
    cfg = load_config(find_config(config), ["MODEL.WEIGHTS", args.weights])
    adopt_stock_parts(cfg)
    check_config(cfg)
    check_weights(cfg.MODEL.WEIGHTS)
    setup_logger(name="msrcnn")
    silence_known_warnings()
    use_available_device(cfg)
    cfg.freeze()
    return cfg
