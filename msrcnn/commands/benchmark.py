"""Measure what the model and its parts cost."""

import argparse
from pathlib import Path

from ..benchmark import (
    calibration_error,
    conventions,
    cost,
    data_check,
    evaluation_speed,
    fit_time,
    inference_time,
    loader_time,
    soft_nms_time,
    target_time,
    training_step,
)
from ..engine.result_records import write_result
from ..errors import UserError

BENCHMARKS = {
    "calibration": calibration_error,
    "check": data_check,
    "conventions": conventions,
    "cost": cost,
    "evaluation": evaluation_speed,
    "fit": fit_time,
    "inference": inference_time,
    "loader": loader_time,
    "soft-nms": soft_nms_time,
    "target": target_time,
    "training": training_step,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, description=module.__doc__, help=module.__doc__)
        command.add_argument("--json", type=Path, metavar="OUT", help="also write the result here")
        module.add_arguments(command)


def run(args: argparse.Namespace) -> None:
    _check_numbers(args)
    benchmark = BENCHMARKS[args.benchmark]
    result = benchmark.measure(args)
    print(benchmark.table(result))
    if args.json:
        write_result(args.json, args.command_line, **result)
        print(f"Wrote {args.json}")


def _check_numbers(args: argparse.Namespace) -> None:
    """Rejects counts below 1; the number of foreground proposals may also be 0."""
    for name, value in vars(args).items():
        low = 0 if name == "foreground" else 1  # beside the proposals of the RPN
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and number < low:
                raise UserError(f"--{name} is {number}; it must be at least {low}")
