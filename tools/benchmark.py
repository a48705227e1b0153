#!/usr/bin/env python
"""Measure what the model and its parts cost."""

import argparse
import shlex
import sys
from pathlib import Path

from msrcnn.benchmark import conventions, cost, evaluation_speed
from msrcnn.engine import run_tool
from msrcnn.engine.result_records import write_result

BENCHMARKS = {"conventions": conventions, "cost": cost, "evaluation": evaluation_speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, description=module.__doc__, help=module.__doc__)
        command.add_argument("--json", type=Path, metavar="OUT", help="also write the result here")
        module.add_arguments(command)
    args = parser.parse_args()
    benchmark = BENCHMARKS[args.benchmark]
    result = benchmark.measure(args)
    print(benchmark.table(result))
    if args.json:
        write_result(args.json, shlex.join(["tools/benchmark.py", *sys.argv[1:]]), **result)
        print(f"Wrote {args.json}")


if __name__ == "__main__":
    run_tool(main)
