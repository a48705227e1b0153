"""Detect objects in images and videos, and draw them with their box score and mask score."""

import argparse
import sys
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from ..engine.run_log import silence_known_warnings, start_console_log
from ..errors import UserError
from ..escaping import printable
from ..folder_lock import alone_in
from ..modeling.number_format import DTYPES
from ..prediction import Predictor
from ..prediction.coco_file import write_coco
from ..prediction.file_results import FileResults
from ..prediction.find_inputs import find_inputs, is_video
from ..prediction.output_files import check_outputs
from ..prediction.result_log import ResultLog, refuse_other_results
from ..prediction.video_input import pyav
from .arguments import WEIGHTS_HELP, add_config, add_trust, at_least, not_negative


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser, required=False)
    parser.add_argument(
        "--weights",
        metavar="W",
        required=True,
        help=WEIGHTS_HELP,
    )
    add_trust(parser)
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="image or video file, folder of images, or pattern in quotes, such as 'photos/*.jpg'",
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
        type=not_negative,
        default=0.5,
        metavar="S",
        help="draw detections with at least this score; with --rank-by mask and a calibrated "
        "model, those whose mask is correct with at least this probability (default: %(default)s)",
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
        help="images or frames at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="number format that the model computes in: bfloat16 is faster on some processors, "
        "float16 needs a GPU (default: TEST.DTYPE of the config, float32)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out inputs whose results the output folder has",
    )


def run(args: argparse.Namespace) -> None:
    if args.coco is not None and args.coco.suffix.lower() != ".json":
        # As of --coco photos/*.jpg, where a shell puts the first image.
        raise UserError(f"--coco '{args.coco}': the file name must end in .json")
    inputs = find_inputs(args.inputs, args.output)
    check_outputs({path: args.output / name for path, name in inputs.items()}, masks=args.masks)
    refuse_other_results(args.output, inputs)
    videos = {path: name for path, name in inputs.items() if is_video(path)}
    images = {path: name for path, name in inputs.items() if path not in videos}
    if videos:
        pyav()  # before the model is built
    start_console_log()
    silence_known_warnings()
    predict = Predictor(
        args.weights,
        config_file=args.config_file,
        dtype=args.dtype,
        trust_weights=args.trust_weights,
    )
    if args.rank_by == "mask" and not predict.cfg.MODEL.MASKIOU_ON:
        raise UserError(
            "--rank-by mask: the model has no mask scores; add them with `msrcnn fit-scores`, or "
            "use --rank-by box"
        )
    how = {
        "rank_by": args.rank_by,
        "min_score": args.min_score,
        "masks": args.masks,
        "records": args.coco is not None,
        "batch_size": args.batch_size,
    }
    settings = {**predict.identity(), **how}
    with (
        alone_in(args.output, "--output"),
        ResultLog(args.output, settings, resume=args.resume) as log,
    ):
        results = FileResults(predict, args.output, log, **how)
        failed = [
            *_failed(len(images), _images(results, images), "images were skipped"),
            *_failed(len(videos), _videos(results, videos), "videos are incomplete"),
        ]
        if args.coco is not None:
            write_coco(args.coco, lambda: results.coco_records(inputs), predict.class_names)
            print(f"Wrote {args.coco}")
    if failed:
        raise UserError(f"{', '.join(failed)}: see above")


def _images(results: FileResults, images: dict[Path, Path]) -> int:
    """Returns the number of images that were skipped."""
    failed = done = 0
    with tqdm(total=len(images), unit="image", disable=None if images else True) as bar:
        for path, outcome in results.images(images):
            bar.update()
            if isinstance(outcome, UserError):
                failed += 1
                _say(f"skipped '{path}': {outcome}", file=sys.stderr)
            elif outcome is None:
                done += 1
            else:
                _say(f"{path}: {outcome}")
    if done:
        print(f"{done} of {len(images)} images were done before")
    return failed


def _videos(results: FileResults, videos: dict[Path, Path]) -> int:
    """Returns the number of videos that could not be read to their end."""
    failed = 0
    for path, name in videos.items():
        if results.log.is_done(path, str(name)):
            print(printable(f"{path} was done before"))
            continue
        with tqdm(desc=path.name, unit="frame", disable=None) as bar:
            try:
                progress = results.video(path, name)
                bar.total = next(progress) or None
                for outcome in progress:
                    if isinstance(outcome, str):
                        _say(f"{path}: {outcome}")
                    else:
                        bar.update()
            except UserError as error:
                failed += 1
                _say(f"'{path}': {error}", file=sys.stderr)
    return failed


def _failed(number: int, failed: int, what: str) -> list[str]:
    return [f"{failed} of {number} {what}"] if failed else []


def _say(line: str, **file: TextIO) -> None:
    tqdm.write(printable(line), **file)
