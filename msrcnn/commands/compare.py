"""Compare finished runs with published results; without a run, say how to reproduce them."""

import argparse
from pathlib import Path

from ..engine.result_records import write_result
from ..errors import UserError
from ..published import compare_with_published, reproduction_plan, verdict_table

NUM_GPUS = (1, 8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        type=Path,
        nargs="*",
        metavar="RUN",
        help="output folder of a finished `msrcnn train`; several runs of one config with "
        "different seeds give an interval over runs",
    )
    parser.add_argument(
        "--published",
        metavar="CONFIG",
        help="published config to compare with, e.g. ms_rcnn_R_50_FPN_1x (default: the nearest)",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the comparison here")


def run(args: argparse.Namespace) -> None:
    if not args.runs:
        if args.json or args.published:
            raise UserError("--json and --published need a RUN, the folder of a finished training")
        print("\n\n\n".join(map(reproduction_plan, NUM_GPUS)))
        return
    comparison = compare_with_published(args.runs, args.published)
    print(verdict_table(comparison))
    if args.json:
        write_result(args.json, args.command_line, **comparison)
