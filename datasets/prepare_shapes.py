#!/usr/bin/env python
"""Write the made dataset as a COCO folder: images, polygons, RLE, crowds, empty images."""

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
        help="folder to write (default: shapes/ below $DETECTRON2_DATASETS, or datasets/shapes)",
    )
    parser.add_argument("--train", type=int, default=1600, help="training images")
    parser.add_argument("--val", type=int, default=200, help="validation images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for split, number in (("train", args.train), ("val", args.val)):
        path = make_split(args.output, split, number, args.seed)
        print(f"Wrote {number} images and {path}")


if __name__ == "__main__":
    main()
