#!/usr/bin/env python
"""Download COCO 2017 (20 GB), or check an existing copy."""

import argparse

from msrcnn.commands.arguments import add_dataset_folder
from msrcnn.data.coco2017 import SPLITS, check_split, fetch
from msrcnn.error_report import report_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_dataset_folder(parser, "coco")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS, metavar="SPLIT")
    parser.add_argument("--check", action="store_true", help="check only, without downloading")
    parser.add_argument("--keep-archives", action="store_true", help="keep the zip files")
    args = parser.parse_args()
    for split in args.splits:
        if not args.check:
            fetch(args.output, split, keep_archives=args.keep_archives)
        print(f"Complete: {check_split(args.output, split)}")


if __name__ == "__main__":
    report_errors(main)
