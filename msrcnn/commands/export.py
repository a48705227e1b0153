"""Export a trained model: its weights without the training state, and its config beside them."""

import argparse
from pathlib import Path

from ..engine import export_model, prepare_model_config
from ..engine.run_log import silence_known_warnings, start_console_log
from .arguments import add_config, add_trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, required=False)
    parser.add_argument("--weights", metavar="W", required=True, help="checkpoint of the model")
    add_trust(parser)
    parser.add_argument(
        "--output", metavar="OUT", type=Path, required=True, help="OUT.pth or OUT.safetensors"
    )


def run(args: argparse.Namespace) -> None:
    start_console_log()
    silence_known_warnings()
    cfg = prepare_model_config(args.weights, args.config_file)
    config = export_model(cfg, args.output, trust_weights=args.trust_weights)
    print(f"Wrote {args.output} and {config}")
