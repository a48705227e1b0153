"""Export a trained model: its weights without the training state and its config, or a file that
runs without msrcnn and Detectron2."""

import argparse
from pathlib import Path

from ..config import find_config
from ..engine import prepare_model_config
from ..engine.find_model import find_model
from ..engine.run_log import silence_known_warnings, start_console_log
from ..errors import UserError
from ..export import FORMATS, export_model
from .arguments import WEIGHTS_HELP, add_config, add_trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, required=False)
    parser.add_argument("--weights", metavar="W", required=True, help=WEIGHTS_HELP)
    add_trust(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="weights",
        help="weights and config for msrcnn (default), or the model with its computation for "
        "TorchScript or ONNX Runtime",
    )
    parser.add_argument(
        "--output",
        metavar="OUT",
        type=Path,
        required=True,
        help="OUT.pth or OUT.safetensors; OUT.ts or OUT.pt; OUT.onnx",
    )


def run(args: argparse.Namespace) -> None:
    start_console_log()
    silence_known_warnings()
    cfg = prepare_model_config(args.weights, args.config_file)
    if args.format == "weights":
        _check_config(args)
    written = export_model(
        cfg, args.output, model_format=args.format, trust_weights=args.trust_weights
    )
    print(f"Wrote {' and '.join(map(str, written))}")


def _check_config(args: argparse.Namespace) -> None:
    """Keeps the model's own config, which has more than that of an export, such as the datasets."""
    config = find_config(find_model(args.weights, args.config_file)[1])
    written = args.output.with_suffix(".yaml")
    if written.resolve() == config.resolve():
        raise UserError(
            f"the config of the export would overwrite '{written}', the config of the model: "
            "choose another --output"
        )
