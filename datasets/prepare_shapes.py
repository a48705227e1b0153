#!/usr/bin/env python
"""Generate the synthetic shapes dataset in COCO format."""

import argparse
from pathlib import Path

from msrcnn.data.datasets import datasets_root
from msrcnn.data.shapes import make_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=datasets_root() / "shapes",
        help="target directory (default: shapes/ in $DETECTRON2_DATASETS, or datasets/shapes)",
    )
    parser.add_argument("--train", type=int, default=1600, help="number of training images")
    parser.add_argument("--val", type=int, default=200, help="number of validation images")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    args = parser.parse_args()
    for split, number in (("train", args.train), ("val", args.val)):
        path = make_split(args.output, split, number, args.seed)
        print(f"Wrote {number} images and {path}")


if __name__ == "__main__":
    main()
