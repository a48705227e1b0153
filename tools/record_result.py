#!/usr/bin/env python
"""Keep an evaluation for the record: with the command and the hardware that made it."""

import argparse
from pathlib import Path

from msrcnn.engine.result_records import record_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluation", type=Path, help="an evaluation.json")
    parser.add_argument("--command", required=True, help="the command that made it")
    parser.add_argument("--output", type=Path, required=True, help="docs/results/NAME.json")
    args = parser.parse_args()
    record_result(args.evaluation, args.command, args.output)
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
