"""Detect objects in images, and draw them with their box score and mask score."""

import argparse
from pathlib import Path

from ..engine.run_log import silence_known_warnings, start_console_log
from ..errors import UserError
from ..escaping import printable
from ..prediction import Predictor
from ..visualization.images import write_image
from .arguments import add_config, add_trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, required=False)
    parser.add_argument("--weights", metavar="W", required=True, help="checkpoint of the model")
    add_trust(parser)
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="image file")
    parser.add_argument("--output", metavar="D", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.5,
        metavar="S",
        help="draw detections with at least this box score (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    outputs = {path: args.output / f"{path.stem}.png" for path in args.images}
    check_outputs(outputs)
    start_console_log()
    silence_known_warnings()
    predict = Predictor(
        args.weights, config_file=args.config_file, trust_weights=args.trust_weights
    )
    for path, output in outputs.items():
        try:
            found = predict(path)
        except UserError as error:
            raise UserError(f"'{path}': {error}") from error
        shown = found.select(min_score=args.min_score)
        write_image(output, shown.draw())
        line = f"{path}: drew {len(shown)} of {len(found)} detections in {output}"
        print(printable(line))


def check_outputs(outputs: dict[Path, Path]) -> None:
    """Rejects outputs that would overwrite an input image, or each other.

    Args:
        outputs: path of the drawing by path of the image.

    Raises:
        UserError: naming the first image.
    """
    taken = {path.resolve() for path in outputs}
    for path, output in outputs.items():
        if output.resolve() in taken:
            raise UserError(f"the drawing of '{path}' would overwrite '{output}'")
        taken.add(output.resolve())
