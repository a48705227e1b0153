#!/usr/bin/env python
"""Generate the synthetic shapes dataset in COCO format."""

import argparse

from msrcnn.commands.arguments import add_dataset_folder
from msrcnn.data.datasets import SHAPES_SPLITS
from msrcnn.data.shapes import make_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_dataset_folder(parser, "shapes")
    for split, number in SHAPES_SPLITS.items():
        parser.add_argument(f"--{split}", type=int, default=number, help=f"{split} images to make")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    args = parser.parse_args()
    for split in SHAPES_SPLITS:
        number = getattr(args, split)
        path = make_split(args.output, split, number, args.seed)
        print(f"Wrote {number} images and {path}")


if __name__ == "__main__":
    main()
