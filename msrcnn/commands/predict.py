"""Detect objects in images, and draw them with their box score and mask score."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..engine.run_log import silence_known_warnings, start_console_log
from ..errors import UserError
from ..escaping import printable
from ..prediction import Prediction, Predictor
from ..prediction.coco_file import CocoFile
from ..prediction.find_images import find_images
from ..visualization.images import write_image
from .arguments import add_config, add_trust, at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, required=False)
    parser.add_argument("--weights", metavar="W", required=True, help="checkpoint of the model")
    add_trust(parser)
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="image file, folder of images, or pattern in quotes, such as 'photos/*.jpg'",
    )
    parser.add_argument("--output", metavar="D", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--rank-by",
        choices=["box", "mask"],
        default="box",
        help="the score of --min-score and --coco (default: %(default)s)",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.5,
        metavar="S",
        help="draw detections with at least this score (default: %(default)s)",
    )
    parser.add_argument(
        "--coco",
        metavar="FILE.json",
        type=Path,
        help="also write all detections with both scores in COCO format",
    )
    parser.add_argument(
        "--masks", action="store_true", help="also write the mask of each drawn detection as PNG"
    )
    parser.add_argument(
        "--batch-size",
        type=at_least(1),
        default=1,
        metavar="N",
        help="images at a time (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    images = find_images(args.images)
    outputs = {path: args.output / f"{name}.png" for path, name in images.items()}
    check_outputs(outputs)
    start_console_log()
    silence_known_warnings()
    predict = Predictor(
        args.weights, config_file=args.config_file, trust_weights=args.trust_weights
    )
    coco = CocoFile(predict.class_names, args.rank_by) if args.coco else None
    failed = 0
    with tqdm(total=len(images), unit="image", disable=None) as bar:
        for path, found in _predictions(predict, list(images), args.batch_size):
            bar.update()
            if isinstance(found, UserError):
                failed += 1
                tqdm.write(printable(f"skipped '{path}': {found}"), file=sys.stderr)
                continue
            shown = found.select(**{_ARGUMENT[args.rank_by]: args.min_score})
            _write(shown, outputs[path], masks=args.masks)
            if coco is not None:
                coco.add(path, found)
            line = f"{path}: drew {len(shown)} of {len(found)} detections in {outputs[path]}"
            tqdm.write(printable(line))
    if coco is not None:
        coco.write(args.coco)
        print(f"Wrote {args.coco}")
    if failed:
        raise UserError(f"{failed} of {len(images)} images were skipped: see above")


_ARGUMENT = {"box": "min_score", "mask": "min_mask_score"}


def _predictions(
    predict: Predictor, paths: list[Path], batch_size: int
) -> Iterator[tuple[Path, Prediction | UserError]]:
    """Yields each image with its prediction, or with the reason why there is none."""
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        try:
            yield from zip(batch, predict(batch))
        except UserError:  # of one of them
            for path in batch:
                yield path, _prediction_or_error(predict, path)


def _prediction_or_error(predict: Predictor, path: Path) -> Prediction | UserError:
    try:
        return predict(path)
    except UserError as error:
        return error


def _write(shown: Prediction, output: Path, *, masks: bool) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    write_image(output, shown.draw())
    if masks and shown.instances.has("pred_masks"):
        for number, mask in enumerate(shown.instances.pred_masks.numpy(), start=1):
            picture = Image.fromarray(mask.astype(np.uint8) * 255)
            write_image(output.with_name(f"{output.stem}_mask{number}.png"), picture)


def check_outputs(outputs: dict[Path, Path]) -> None:
    """Rejects outputs that would overwrite an input image.

    Args:
        outputs: path of the drawing by path of the image.

    Raises:
        UserError: naming the first image.
    """
    inputs = {path.resolve() for path in outputs}
    for path, output in outputs.items():
        if output.resolve() in inputs:
            raise UserError(f"the drawing of '{path}' would overwrite '{output}'")
