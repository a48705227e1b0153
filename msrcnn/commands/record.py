"""Record an evaluation with the command and the hardware that produced it."""

import argparse
from pathlib import Path

from ..engine.result_records import record_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("evaluation", type=Path, metavar="E", help="an evaluation.json")
    parser.add_argument("--command", required=True, help="the command that produced it")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="OUT", help="docs/results/NAME.json"
    )


def run(args: argparse.Namespace) -> None:
    record_result(args.evaluation, args.command, args.output)
    print(f"Wrote {args.output}")
